"""Flow volumes for training, from cached flow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stseg.errors import InputError
from stseg.flow.files import read_flow_file

logger = logging.getLogger(__name__)

MIN_FLOWS = 3


@dataclass(frozen=True)
class FlowSequence:
    """Cached flow of one sequence, (n - 1, 2, h, w) float16."""

    name: str
    flow: Tensor


def read_training_flows(
    folders: Sequence[Path], names: Sequence[str] | None = None
) -> list[FlowSequence]:
    """All sequences of the folders; unusable files are named in a warning and left out.

    Args:
        folders: folders with one ``.npz`` a sequence (RAFT, DIS, ...).
        names: take only these sequences; None takes all.

    Raises:
        InputError: a folder is missing, or nothing usable is left.
    """
    sequences, skipped = [], 0
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}. Give a folder of .npz flow files.")
        paths = sorted(folder.glob("*.npz"))
        if names is not None:
            present = {path.stem for path in paths}
            for name in sorted(set(names) - present):
                logger.warning("%s has no flow of sequence %s; it is left out.", folder, name)
                skipped += 1
            paths = [path for path in paths if path.stem in set(names)]
        for path in paths:
            try:
                flow, _ = read_flow_file(path)
                if len(flow) < MIN_FLOWS:
                    raise InputError(f"{path} has {len(flow)} fields; a triplet needs {MIN_FLOWS}.")
            except InputError as error:
                logger.warning("%s It is left out.", error)
                skipped += 1
                continue
            sequences.append(FlowSequence(path.stem, torch.from_numpy(flow)))
    if not sequences:
        raise InputError(
            f"No usable flow file is left in {', '.join(map(str, folders))} "
            f"({skipped} left out). Compute flow with `python -m stseg flow`."
        )
    if skipped:
        logger.warning("%d flow files are left out, %d are used.", skipped, len(sequences))
    return sequences


@dataclass(frozen=True)
class Triplet:
    """Where a volume is: sequence number, central instant and temporal step τ."""

    sequence: int
    centre: int
    tau: int


class TripletSet:
    """Volumes of 2 r + 1 flow fields at t - r τ, ..., t + r τ, from memory.

    Args:
        sequences: cached flow.
        instants: fields a volume has; odd.
        taus: temporal steps.
        held_out: fraction at the end of each sequence that belongs to validation.
        validation: give the held-out volumes instead of the others. No field is in both.
    """

    def __init__(
        self,
        sequences: Sequence[FlowSequence],
        instants: int = 3,
        taus: Sequence[int] = (1,),
        held_out: float = 0.1,
        validation: bool = False,
    ) -> None:
        self._sequences = list(sequences)
        self._reach = instants // 2
        self._triplets = []
        for number, sequence in enumerate(self._sequences):
            n = len(sequence.flow)
            border = n - max(MIN_FLOWS, round(held_out * n))
            if border < MIN_FLOWS or held_out == 0:
                border = n  # too short to share: all of it trains
            first, last = (border, n) if validation else (0, border)
            for tau in taus:
                reach = self._reach * abs(tau)
                self._triplets += [
                    Triplet(number, t, tau) for t in range(first + reach, last - reach)
                ]

    def __len__(self) -> int:
        return len(self._triplets)

    def batch(self, indices: Sequence[int], size: tuple[int, int]) -> Float[Tensor, "b 2 t h w"]:
        """The volumes of these indices, float32, resized to ``size`` by area averaging."""
        volumes = []
        for index in indices:
            triplet = self._triplets[index]
            steps = [
                triplet.centre + triplet.tau * step for step in range(-self._reach, self._reach + 1)
            ]
            fields = self._sequences[triplet.sequence].flow[steps].float()  # (t, 2, h, w)
            if tuple(fields.shape[-2:]) != size:
                fields = F.interpolate(fields, size, mode="area")
            volumes.append(fields.transpose(0, 1))
        return torch.stack(volumes)
