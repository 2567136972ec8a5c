"""The licences of what ships, from the metadata of the installed packages.

    python -m benchmarks.licences           # writes LICENSES.md
    python -m benchmarks.licences --check   # status 1 where it is out of step

What ``requirements.txt`` pins is listed with its version; what those packages bring along is
listed by name, since its versions are for pip to choose.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "LICENSES.md"

HEAD = """# Licences of what ships

STSeg itself, with its weights and rendered clips, is Apache-2.0 (`LICENSE`; the cards in
`checkpoints/` say what the weights were trained on). No other code lies in this repository.
`pip install -r requirements.txt` brings these packages, under their own licences. Written by
`python -m benchmarks.licences`; a test keeps the first table in step with `requirements.txt`.
"""


def pinned(text: str) -> dict[str, str]:
    """Names and versions of a requirements file."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", text, re.MULTILINE))


def licence(package: Distribution) -> str:
    """What a package says of its licence, in a few words."""
    told = package.metadata
    expression = told.get("License-Expression")
    if expression:
        return expression
    classes = [
        line.rpartition(" :: ")[2]
        for line in told.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    named = (told.get("License") or "").strip().split("\n", 1)[0]
    if classes and classes != ["OSI Approved"]:
        return ", ".join(classes)
    return named if 0 < len(named) < 60 else "see the package"


def brought(names: Iterable[str]) -> dict[str, Distribution]:
    """The installed packages that these need, directly or not, without these themselves."""
    known = {_plain(name) for name in names}
    found: dict[str, Distribution] = {}
    waiting = sorted(known)
    while waiting:
        try:
            package = distribution(waiting.pop())
        except PackageNotFoundError:
            continue  # needed on other systems only
        for line in package.requires or []:
            name = _plain(re.split(r"[\s;<>=!~(\[]", line, maxsplit=1)[0])
            if "extra ==" in line or name in known or name in found:
                continue
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:
                continue
            waiting.append(name)
    return dict(sorted(found.items()))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def table(rows: Iterable[tuple[str, ...]], head: tuple[str, ...]) -> str:
    """A table of Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def direct() -> str:
    """The table of what is pinned. Raises PackageNotFoundError where something is missing."""
    pins = pinned((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    rows = [(name, version, licence(distribution(name))) for name, version in sorted(pins.items())]
    return table(rows, ("package", "version", "licence"))


def document() -> str:
    """The whole file."""
    pins = pinned((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    others = table(
        [(name, licence(package)) for name, package in brought(pins).items()],
        ("brought along", "licence"),
    )
    return f"{HEAD}\n{direct()}\n{others}"


def main() -> int:
    """Write the file, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="write nothing")
    if parser.parse_args().check:
        return 0 if direct() in TARGET.read_text(encoding="utf-8") else 1
    TARGET.write_text(document(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
