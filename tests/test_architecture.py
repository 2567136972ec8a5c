"""The house keeps its floors: a file imports from below only, and the core never knows the screen.

See shared/design/architecture.md. A new file needs a line in ``FLOORS``.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS: dict[str, int] = {
    # What travels, and the errors that a person can mend.
    "stseg.errors": -1,
    "stseg.spool": 0,
    "stseg.rows": 0,
    "stseg.numbering": 0,
    "stseg.limits": 0,
    "stseg.scratch": 0,
    "stseg.latents": 0,
    "stseg.masks": 0,
    "stseg.files": 1,
    "stseg.bounded": 1,
    "stseg.logs": 1,
    "stseg.memory": 1,
    "stseg.threads": 1,
    "stseg.records": 1,
    "stseg.tensor_files": 2,
    # One thing each: files, numbers, modules.
    "stseg.video": 2,
    "stseg.video_writer": 3,
    "stseg.volume": 2,
    "stseg.linkage": 2,
    "stseg.naming": 2,
    "stseg.guided_filter": 2,
    "stseg.refinement": 3,
    "stseg.settings_file": 2,
    "stseg.motion": 2,
    "stseg.metrics": 2,
    "stseg.claims": 2,
    "stseg.published": 3,
    "stseg.splits": 2,
    "stseg.device": 2,
    "stseg.accumulation": 3,
    "stseg.global_motion": 2.5,
    "stseg.distributed": 2,
    "stseg.loss_chart": 2,
    "stseg.unet": 2,
    "stseg.vetting": 3,
    "stseg.flow": 3,
    "stseg.network": 3,
    "stseg.losses": 3,
    "stseg.direction_heads": 4,
    "stseg.correspondence": 2,
    "stseg.augment": 3,
    "stseg.pasting": 3,
    "stseg.timeline": 3,
    "stseg.repeats": 3.5,
    "stseg.selection": 2,
    "stseg.layouts": 3,
    "stseg.annotations": 3,
    "stseg.multiobject": 3,
    "stseg.synthetic": 4,
    "stseg.synthetic_files": 5,
    "stseg.similarity": 3,
    "stseg.formats": 4.5,
    "stseg.summary": 4,
    "stseg.prediction": 4,
    "stseg.render": 3,
    "stseg.kinematics": 3,
    "stseg.segment_motion": 4,
    "stseg.datasets": 4,
    "stseg.windows": 4.5,
    "stseg.stability": 4,
    "stseg.foreground": 3,
    "stseg.checkpoint": 4,
    "stseg.charts": 4,
    "stseg.export": 5,
    # The loops.
    "stseg.train_settings": 4,
    "stseg.run_folder": 4.5,
    "stseg.objectives": 4,
    "stseg.training": 5,
    "stseg.variants": 6,
    "stseg.pipeline": 7,
    "stseg.adaptation": 8,
    "stseg.clip_flow": 8,
    "stseg.truth": 4,
    "stseg.known_flow": 4,
    "stseg.model_vetting": 9,
    "stseg.uploads": 9.5,
    "stseg.mask_files": 6,
    "stseg.scoring": 5,
    "stseg.verdict": 6,
    "stseg.evaluation": 8,
    "stseg.result_keys": 7,
    "stseg.ablation": 8,
    "stseg.ablation_rows": 7,
    "stseg.ablation_tables": 9,
    "stseg.ablation_work": 9,
    "stseg.measures": 6,
    "stseg.comparison": 7,
    "stseg.comparison_files": 8,
    "stseg.benchmarking": 9,
    # The doors.
    "stseg": 9,
    "stseg.cli": 10,
    "stseg.__main__": 11,
    "stseg.ui": 10,
    "app": 11,
}
HOMES = ("stseg.unet", "stseg.flow", "stseg.ui", "stseg.cli")
"""Folders whose files share a floor and may import one another."""

SCREEN = ("stseg.ui", "app")
FORBIDDEN = ("gradio", "gradio_client")


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, str]:
    paths = [*sorted((ROOT / "stseg").rglob("*.py")), ROOT / "app.py"]
    return {module_name(path): path.read_text() for path in paths if path.is_file()}


def imports(source: str, module: str, package: bool = False) -> set[str]:
    """Every module that the source imports, wherever in it; names are taken for modules, too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: None if package and node.level == 1 else -node.level]
                base = ".".join([*above, *([base] if base else [])])
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def place(module: str) -> str:
    """The line of ``FLOORS`` that a module has: its own, or that of its folder."""
    for home in HOMES:
        if module == home or module.startswith(home + "."):
            return home
    return module


def too_high(module: str, source: str, known: set[str]) -> list[str]:
    """The imports of ``module`` that do not go down."""
    own = place(module)
    wrong = []
    for name in sorted(imports(source, module)):
        if name not in known or name == module:
            continue
        target = place(name)
        if target != own and FLOORS[target] >= FLOORS[own]:
            wrong.append(f"{module} (floor {FLOORS[own]}) imports {name} ({FLOORS[target]})")
    # ``from stseg.x import y`` names stseg.x, which is checked; ``stseg`` itself only holds names.
    return wrong


def shows(module: str, source: str) -> list[str]:
    """The imports of ``module`` that belong to the screen, if it is not the screen itself."""
    if any(module == name or module.startswith(name + ".") for name in SCREEN):
        return []
    roots = {name.split(".")[0] for name in imports(source, module)}
    return sorted(roots & set(FORBIDDEN))


SOURCES = sources()


def test_every_file_has_a_floor() -> None:
    missing = sorted(module for module in SOURCES if place(module) not in FLOORS)
    assert not missing, f"give these a line in FLOORS: {missing}"


@pytest.mark.parametrize("module", SOURCES)
def test_a_file_imports_only_from_below(module: str) -> None:
    known = set(SOURCES) - {"stseg"} if module != "app" else set(SOURCES)
    assert too_high(module, SOURCES[module], known) == []


@pytest.mark.parametrize(
    "source",
    [
        "from stseg.pipeline import segment",
        "import stseg.pipeline",
        "from stseg import pipeline",
        "def late():\n    from stseg.pipeline import segment",
        "if TYPE_CHECKING:\n    from stseg.pipeline import segment",
        "from .pipeline import segment",
        "from . import pipeline",
    ],
)
def test_an_import_from_above_is_noticed(source: str) -> None:
    wrong = too_high("stseg.losses", source, set(SOURCES) - {"stseg"})
    assert wrong == ["stseg.losses (floor 3) imports stseg.pipeline (7)"]


def test_an_import_from_the_same_floor_is_noticed_but_not_in_one_folder() -> None:
    known = set(SOURCES)
    assert too_high("stseg.losses", "from stseg.network import SegmentationNetwork", known)
    assert not too_high("stseg.unet.blocks", "from stseg.unet.norms import InstanceNorm", known)
    assert too_high("stseg.unet.blocks", "from stseg.motion import MODELS", known)
    assert not too_high("stseg.losses", "from stseg.motion import MODELS", known)


@pytest.mark.parametrize("module", SOURCES)
def test_only_the_screen_imports_gradio(module: str) -> None:
    assert shows(module, SOURCES[module]) == []


@pytest.mark.parametrize(
    "source",
    [
        "import gradio as gr",
        "import gradio.themes",
        "from gradio.components import Component",
        "def late():\n    import numpy, gradio",
        "try:\n    from gradio import Blocks\nexcept ImportError:\n    pass",
    ],
)
def test_gradio_in_the_core_is_noticed(source: str) -> None:
    assert shows("stseg.render", source) == ["gradio"]
    assert shows("stseg", source) == ["gradio"]
    assert shows("stseg.uinterface", source) == ["gradio"]  # a name that only begins like it
    assert shows("stseg.ui.page", source) == []
    assert shows("app", source) == []


def loaded_after(code: str) -> set[str]:
    """Roots of the modules that a fresh interpreter has loaded after ``code``."""
    script = f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_torch_nor_gradio() -> None:
    loaded = loaded_after("import stseg")
    assert "stseg" in loaded
    assert not loaded & {"torch", "gradio", "cv2"}


def test_records_and_video_need_no_torch() -> None:
    code = "import stseg; stseg.Settings(); stseg.Clip; stseg.probe; stseg.InputError"
    loaded = loaded_after(code)
    assert "cv2" in loaded
    assert not loaded & {"torch", "gradio"}


def test_the_pipeline_needs_torch_but_no_screen() -> None:
    loaded = loaded_after("import stseg; stseg.segment")
    assert "torch" in loaded
    assert "gradio" not in loaded
    assert "matplotlib" not in loaded


def test_the_package_has_the_names_it_promises_and_no_other() -> None:
    import stseg

    for name in stseg.__all__:
        assert getattr(stseg, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'segmnt'"):
        stseg.segmnt  # noqa: B018
