"""Flow volumes for training, from cached flow."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from stseg.errors import InputError
from stseg.flow.files import read_flow_file
from stseg.repeats import moving_fields

logger = logging.getLogger(__name__)

MIN_FLOWS = 3


@dataclass(frozen=True)
class FlowSequence:
    """Cached flow of one sequence.

    Attributes:
        name: of the sequence.
        flow: (n - 1, 2, h, w) float16, what the network sees.
        reference: better flow of the same frames, of the same shape, which the losses are measured
            on; None measures them on ``flow``.
        size: (H, W) of the frames, which is the unit of the vectors; None for vectors in sites.
    """

    name: str
    flow: Tensor
    reference: Tensor | None = None
    size: tuple[int, int] | None = None


def read_training_flows(
    folders: Sequence[Path], names: Sequence[str] | None = None, reference: Path | None = None
) -> list[FlowSequence]:
    """All sequences of the folders; unusable files are named in a warning and left out.

    So are fields between frames that repeat each other (``stseg.repeats``).

    Args:
        folders: folders with one ``.npz`` a sequence (RAFT, DIS, ...).
        names: take only these sequences; None takes all.
        reference: folder of better flow of the same frames: a network that sees a rough estimate
            is then asked to explain the better one. Sequences that it lacks, or has no usable file
            of, are their own.

    Raises:
        InputError: a folder is missing, nothing usable is left, or no sequence has a reference.
    """
    sequences, skipped = [], 0
    for folder in (*folders, *([] if reference is None else [reference])):
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}. Give a folder of .npz flow files.")
    if not any(path for folder in folders for path in folder.glob("*.npz")):
        raise InputError(
            f"There is no .npz file in {', '.join(map(str, folders))}: training reads one for each "
            "clip, and no fields of other formats. Make them from the clips with `python -m stseg "
            "flow CLIP ... --out FOLDER`."
        )
    for folder in folders:
        paths = sorted(folder.glob("*.npz"))
        if names is not None:
            present = {path.stem for path in paths}
            for name in sorted(set(names) - present):
                logger.warning("%s has no flow of sequence %s; it is left out.", folder, name)
                skipped += 1
            paths = [path for path in paths if path.stem in set(names)]
        for path in paths:
            try:
                flow, frame = read_flow_file(path)
                moving = list(moving_fields(flow))
                if len(moving) < MIN_FLOWS:
                    told = "" if len(moving) == len(flow) else " that differ"
                    raise InputError(
                        f"{path} has {len(moving)} field{'' if len(moving) == 1 else 's'}{told}; a "
                        f"triplet needs {MIN_FLOWS}."
                    )
            except InputError as error:
                logger.warning("%s It is left out.", error)
                skipped += 1
                continue
            better = _reference(reference, folder, path.name, flow.shape, frame)
            if len(moving) < len(flow):
                still = len(flow) - len(moving)
                logger.warning("%s: %d of its frames repeat others and are left out.", path, still)
                flow, better = flow[moving], None if better is None else better[moving]
            sequences.append(FlowSequence(path.stem, torch.from_numpy(flow), better, frame))
    if not sequences and not skipped:
        raise InputError("The list of sequences is empty. Name some, or leave it out.")
    if not sequences:
        raise InputError(
            f"No usable flow file is left in {', '.join(map(str, folders))} "
            f"({skipped} left out). Compute flow with `python -m stseg flow`."
        )
    if skipped:
        logger.warning(
            "%d flow file%s left out, %d used.",
            skipped,
            " is" if skipped == 1 else "s are",
            len(sequences),
        )
    if reference is not None and all(each.reference is None for each in sequences):
        if all(folder.resolve() == reference.resolve() for folder in folders):
            raise InputError(
                f"{reference} is the folder of the flow itself, which is no better than it. Give "
                "another one, or leave it out."
            )
        raise InputError(
            f"{reference} has better flow of none of these sequences. Give a folder with files of "
            "the same names and shapes, or leave it out."
        )
    return sequences


def _reference(
    reference: Path | None,
    folder: Path,
    name: str,
    shape: tuple[int, ...],
    frame: tuple[int, int],
) -> Tensor | None:
    """Flow of that file in the reference folder, where it is there and fits."""
    if reference is None or folder.resolve() == reference.resolve():
        return None
    if not (reference / name).is_file():
        return None
    try:
        better, unit = read_flow_file(reference / name)
    except InputError as error:
        logger.warning("%s %s: its own flow is used for the losses.", error, folder / name)
        return None
    # Vectors in pixels of frames of another size are not of the same length.
    for what, theirs, ours in (("is", better.shape, shape), ("is of frames of", unit, frame)):
        if theirs != ours:
            logger.warning(
                "%s %s %s, but %s %s %s: its own flow is used for the losses.",
                reference / name,
                what,
                theirs,
                folder / name,
                what,
                ours,
            )
            return None
    return torch.from_numpy(better)


def laid_as(sequences: Sequence[FlowSequence], size: tuple[int, int]) -> list[FlowSequence]:
    """The sequences, those that stand upright mirrored on the diagonal where volumes lie.

    Or the other way round. Mirrored motion is motion that could have been filmed, too; squeezed
    into the other shape it is not, and its few columns would bound the detail of all (ours).

    Args:
        sequences: cached flow; x and y, u and v, and the sides of the frames change places.
        size: (h, w) of the volumes.
    """

    def upright(rows: int, columns: int) -> bool:
        return rows > columns

    def mirrored(flow: Tensor) -> Tensor:
        return flow.transpose(-2, -1).flip(1)

    return [
        each
        if upright(*each.flow.shape[-2:]) == upright(*size)
        else replace(
            each,
            flow=mirrored(each.flow),
            reference=None if each.reference is None else mirrored(each.reference),
            size=None if each.size is None else each.size[::-1],
        )
        for each in sequences
    ]


def digest(tensors: Mapping[str, Tensor]) -> str:
    """What tells these tensors from others: SHA-256 of their names, shapes and values."""
    told = hashlib.sha256()
    for name, tensor in tensors.items():
        told.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        told.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return told.hexdigest()


def digest_of_flow(sequences: Sequence[FlowSequence]) -> str:
    """What tells this flow from other: names, sizes of frames, fields and references, in order."""
    tensors = {}
    for number, each in enumerate(sequences):
        name = f"{number} {each.name} {each.size}"
        tensors[f"{name} flow"] = each.flow
        if each.reference is not None:
            tensors[f"{name} reference"] = each.reference
    return digest(tensors)


class FlowStore:
    """The fields of all sequences, float16, as one tensor for each size of field, on one device.

    Any fields then make a batch by one gather, without a loop over samples.

    Args:
        sequences: cached flow.
        device: where the fields are kept; on a GPU nothing but numbers of fields travels later.
    """

    def __init__(
        self, sequences: Sequence[FlowSequence], device: torch.device | None = None
    ) -> None:
        self.lengths = [len(sequence.flow) for sequence in sequences]
        sizes = [(each.flow.shape[-2], each.flow.shape[-1]) for each in sequences]
        kinds = sorted(set(sizes))
        frames = [each.size or size for each, size in zip(sequences, sizes, strict=True)]
        self.frames = torch.tensor([(w, h) for h, w in frames], dtype=torch.float32)
        """Width and height of each sequence's frames, in the unit of its vectors."""
        self._fields: list[Tensor] = []
        self._references: list[Tensor] = []  # the same tensors, where nobody has a reference
        # Of every field, in the order of the sequences: which tensor it is in, and where.
        self._kind = torch.empty(sum(self.lengths), dtype=torch.long)
        self._place = torch.empty_like(self._kind)
        starts = [0, *accumulate(self.lengths)]
        self.starts = starts[:-1]
        for number, kind in enumerate(kinds):
            members = [index for index, size in enumerate(sizes) if size == kind]
            parts = [sequences[index] for index in members]
            fields = torch.cat([each.flow for each in parts]).half().to(device)
            self._fields.append(fields)
            if any(each.reference is not None for each in parts):
                better = [each.flow if each.reference is None else each.reference for each in parts]
                fields = torch.cat(better).half().to(device)
            self._references.append(fields)
            end = 0
            for index in members:
                begin, end = end, end + self.lengths[index]
                where = slice(starts[index], starts[index + 1])
                self._kind[where] = number
                self._place[where] = torch.arange(begin, end)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the coarsest fields."""
        rows, columns = zip(*(each.shape[-2:] for each in self._fields), strict=True)
        return min(rows), min(columns)

    @property
    def device(self) -> torch.device:
        """Where the fields are."""
        return self._fields[0].device

    @property
    def rough(self) -> bool:
        """Whether any field has a reference of its own."""
        return any(a is not b for a, b in zip(self._fields, self._references, strict=True))

    def gather(
        self, fields: Int64[Tensor, " n"], size: tuple[int, int], reference: bool = False
    ) -> Float[Tensor, "n 2 h w"]:
        """These fields, float32, resized to ``size`` by area averaging.

        Args:
            fields: numbers of fields, counted through all sequences; on the CPU.
            size: (h, w).
            reference: give the better flow of the same frames, where there is one.
        """
        stored = self._references if reference else self._fields
        kinds, places = self._kind[fields], self._place[fields]
        present = kinds.unique().tolist()
        if len(present) == 1:
            return _taken(stored[present[0]], places, size)
        out = torch.empty(len(fields), 2, *size, device=self._fields[0].device)
        for kind in present:
            chosen = kinds == kind
            out[chosen.to(out.device)] = _taken(stored[kind], places[chosen], size)
        return out


def _taken(stored: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
    fields = stored[places.to(stored.device, non_blocking=True)].float()
    same = tuple(fields.shape[-2:]) == size
    return fields if same else F.interpolate(fields, size, mode="area")


@dataclass(frozen=True)
class VolumePlace:
    """Where a volume is: sequence number, central instant and temporal step τ."""

    sequence: int
    centre: int
    tau: int


class TripletSet:
    """Volumes of 2 r + 1 flow fields at t - r τ, ..., t + r τ, from memory.

    Args:
        sequences: cached flow, or a store of it that several sets share.
        instants: fields a volume has; odd.
        taus: temporal steps.
        held_out: fraction at the end of each sequence that belongs to validation.
        validation: give the held-out volumes instead of the others. No field is in both.
    """

    def __init__(
        self,
        sequences: Sequence[FlowSequence] | FlowStore,
        instants: int = 3,
        taus: Sequence[int] = (1,),
        held_out: float = 0.1,
        validation: bool = False,
    ) -> None:
        self._store = sequences if isinstance(sequences, FlowStore) else FlowStore(sequences)
        self._instants = instants
        self._places = []
        for number, n in enumerate(self._store.lengths):
            border = n - max(MIN_FLOWS, round(held_out * n))
            if border < MIN_FLOWS or held_out == 0:
                border = n  # too short to share: all of it trains
            first, last = (border, n) if validation else (0, border)
            for tau in taus:
                reach = instants // 2 * abs(tau)
                self._places += [
                    VolumePlace(number, t, tau) for t in range(first + reach, last - reach)
                ]
        starts = [self._store.starts[each.sequence] + each.centre for each in self._places]
        steps = torch.arange(instants) - instants // 2
        taus_of = torch.tensor([each.tau for each in self._places], dtype=torch.long)
        centres = torch.tensor(starts, dtype=torch.long)
        self._fields = centres[:, None] + taus_of[:, None] * steps  # (volumes, instants)
        owners = torch.tensor([each.sequence for each in self._places], dtype=torch.long)
        self._travel = taus_of[:, None] / self._store.frames[owners]  # (volumes, 2)

    def __len__(self) -> int:
        return len(self._places)

    def batch(
        self, indices: Sequence[int], size: tuple[int, int], reference: bool = False
    ) -> Float[Tensor, "b 2 t h w"]:
        """The volumes of these indices, float32, resized to ``size`` by area averaging.

        Args:
            indices: of volumes.
            size: (h, w).
            reference: give the flow that the losses are measured on instead.
        """
        chosen = self._fields[torch.as_tensor(indices, dtype=torch.long)]
        fields = self._store.gather(chosen.flatten(), size, reference)
        return fields.unflatten(0, (-1, self._instants)).transpose(1, 2)

    def travel(self, indices: Sequence[int]) -> Float[Tensor, "b 2 1 1 1"]:
        """How far a pixel a frame goes from instant to instant, in frame widths and heights."""
        chosen = self._travel[torch.as_tensor(indices, dtype=torch.long)]
        return chosen.to(self._store.device)[..., None, None, None]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the coarsest fields that are stored."""
        return self._store.size

    @property
    def rough(self) -> bool:
        """Whether the losses are measured on other flow than the network sees."""
        return self._store.rough
