"""Numbers in the names of files that follow each other, and what is missing between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median_low

TURNS = (41, 4041)
"""From the last second of a minute or an hour to the next one, as clocks tell them: 5959, 10000."""


def trailing_number(stem: str) -> int | None:
    """The number that a name without its suffix ends in; None where it ends in none."""
    found = re.search(r"(\d+)$", stem)
    return int(found[1]) if found else None


def told_gaps(names: Sequence[str]) -> str:
    """Where the numbers of files have gaps, as "NAME and NAME (and 2 more)"; empty where not.

    Numbers that always go up by the same step, as where every fifth frame was kept, have no gap.
    Time stamps, whose steps differ a little, have one where a step is twice as long as usual; where
    they are told as on a clock (125959, 130000), a new minute is none.

    Args:
        names: of the files, in order.
    """
    stems = [Path(name).stem for name in names]
    known = [number for stem in stems if (number := trailing_number(stem)) is not None]
    steps = [after - before for before, after in pairwise(known)]
    series = {stem.rstrip("0123456789") for stem in stems}
    if len(known) < len(names) or len(series) > 1 or not steps or min(steps) < 1:
        return ""  # they do not count the frames
    usual = median_low(steps)
    gaps = [
        place
        for place, step in enumerate(steps)
        if step >= 2 * usual and not (known[place] % 100 == 59 and step in TURNS)
    ]
    if not gaps:
        return ""
    more = f" (and {len(gaps) - 1} more)" if len(gaps) > 1 else ""
    return f"{names[gaps[0]]} and {names[gaps[0] + 1]}{more}"
