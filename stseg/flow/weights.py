"""Published weights of flow estimators: where they come from, and how they are read."""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import re
import urllib.error
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stseg.errors import InputError
from stseg.files import write_atomically
from stseg.records import flow_name

CHUNK = 2**18

_AUTHORS = "https://dl.dropboxusercontent.com/s/4j4z58wuv8o0mfz/models.zip"
_TORCHVISION = "https://download.pytorch.org/models"


@dataclass(frozen=True)
class Published:
    """A published weight file.

    Attributes:
        url: its address.
        sha256: hexadecimal hash of the weight file, or the beginning of it.
        member: its name inside the archive at ``url``, where that is an archive.
        source: who published it, and its licence.
    """

    url: str
    sha256: str
    member: str | None
    source: str


PUBLISHED: dict[str, Published] = {
    "raft-sintel": Published(
        _AUTHORS,
        "90630d2e7d488a0d3ccb5e8194524850c4c05c732ea4ff99799822c7fa5c5cbf",
        "models/raft-sintel.pth",
        "Teed and Deng, princeton-vl/RAFT, BSD-3-Clause",
    ),
    "raft-large": Published(
        f"{_TORCHVISION}/raft_large_C_T_SKHT_V2-ff5fadd5.pth",
        "ff5fadd5",
        None,
        "torchvision, BSD-3-Clause",
    ),
    "raft-small": Published(
        f"{_TORCHVISION}/raft_small_C_T_V2-01064c6d.pth",
        "01064c6d",
        None,
        "torchvision, BSD-3-Clause",
    ),
}


def cache_folder() -> Path:
    """The user's cache folder of STSeg: ``$STSEG_CACHE``, or ``stseg`` in ``$XDG_CACHE_HOME``."""
    own = os.environ.get("STSEG_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stseg"


def weights_path(name: str) -> Path:
    """Where the weights of that name lie once they are fetched."""
    return cache_folder() / "weights" / f"{flow_name(name)}.pth"


def check_name(name: str) -> str:
    """The name in ``PUBLISHED`` of weights, which may be given a short one.

    Raises:
        InputError: there are no such weights.
    """
    known = flow_name(name)
    if known not in PUBLISHED:
        raise InputError(
            f"There are no published weights {known!r}. Choose one of {', '.join(PUBLISHED)}."
        )
    return known


def fetch_weights(
    name: str,
    source: str | Path | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Path:
    """Fetch published weights to the cache folder, check them and return their path.

    Args:
        name: in ``PUBLISHED``, or a short name of one.
        source: another address, or a local file (the weights or the archive); None takes the
            published address.
        report: called with the bytes read and their number (0 where it is not known).

    Raises:
        InputError: unknown name, no network, or a file with another hash.
    """
    published = PUBLISHED[check_name(name)]
    target = weights_path(name)
    if source is None and _is_published(target, published):
        return target  # fetched before, or by other means
    address = str(source or published.url)
    if re.match(r"https?://", address):
        data = _download(address, target, report or (lambda done, total: None))
    else:
        try:
            data = Path(address).read_bytes()
        except OSError as error:
            raise InputError(
                f"{address} cannot be read: {error.strerror}. Give the path of the weights or of "
                "the archive, or leave --source out to fetch what was published."
            ) from error
    data = _member(data, published, address)
    found = hashlib.sha256(data).hexdigest()
    if not found.startswith(published.sha256):
        advice = "Fetch them again"
        if source is not None:
            advice += ", or, if they are other weights on purpose, give the file itself to the "
            advice += "command that uses it: --weights FILE"
        raise InputError(
            f"The weights from {address} are not those that were published: their sha-256 is "
            f"{found[:16]}..., not {published.sha256[:16]}... {advice}."
        )
    write_atomically(target, data)
    return target


def _is_published(path: Path, published: Published) -> bool:
    """Whether the file is there and is what was published."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest().startswith(published.sha256)
    except OSError:
        return False


def _download(address: str, target: Path, report: Callable[[int, int], None]) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            data = bytearray()
            while chunk := answer.read(CHUNK):
                data += chunk
                report(len(data), total)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise InputError(
            f"{address} cannot be reached ({getattr(error, 'reason', error)}). With a network, run "
            f"this again; or fetch the file by other means and put it at {target}."
        ) from error
    if total and len(data) != total:
        raise InputError(f"{address} sent {len(data)} of {total} bytes. Run this again.")
    return bytes(data)


def _member(data: bytes, published: Published, address: str) -> bytes:
    """The weight file itself: archives are opened, other files are what they are."""
    if published.member is None or not zipfile.is_zipfile(io.BytesIO(data)):
        return data
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if published.member in archive.namelist():
                return archive.read(published.member)
            if any(name.endswith("data.pkl") for name in archive.namelist()):
                return data  # PyTorch's own files are archives too
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{address} is a damaged archive ({error}). Fetch it again.") from error
    raise InputError(f"{address} is an archive without {published.member}. Give another file.")


def load_raft_weights(path: Path) -> dict[str, Tensor]:
    """Weights of a RAFT file by the names of the authors' code.

    Takes the authors' files (``raft-sintel.pth``, ``raft-things.pth``, ``raft-small.pth``, ...) and
    torchvision's (``raft_large_*.pth``, ``raft_small_*.pth``) as they are published. Only tensors
    are read: no code in the file is executed.

    Raises:
        InputError: the file is missing, truncated, holds more than tensors, or is not of RAFT.
    """
    if not path.is_file():
        raise InputError(f"There is no weight file {path}. Fetch it, or give another path.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is no weight file the error below speaks
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle goes wrong anywhere
        raise InputError(
            f"{path} cannot be read as weights: it is damaged, or holds more than tensors. "
            "Fetch it again."
        ) from error
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(each, Tensor) for name, each in loaded.items()
    ):
        raise InputError(f"{path} holds no table of tensors. Give one of RAFT's published files.")
    state = {re.sub(r"^module\.", "", name): tensor for name, tensor in loaded.items()}
    if "feature_encoder.convnormrelu.0.weight" in state:
        state = _from_torchvision(state)
    if "fnet.conv1.weight" not in state:
        raise InputError(
            f"The weights in {path} are of another architecture than RAFT. Give one of RAFT's "
            "published files."
        )
    return state


_RENAMED: tuple[tuple[str, str], ...] = (
    # Encoders: stem, residual layers (each convolution is followed by its norm), last convolution.
    (r"^feature_encoder\.", "fnet."),
    (r"^context_encoder\.", "cnet."),
    (r"^(fnet|cnet)\.convnormrelu\.0\.", r"\1.conv1."),
    (r"^(fnet|cnet)\.convnormrelu\.1\.", r"\1.norm1."),
    (r"^(fnet|cnet)\.conv\.", r"\1.conv2."),
    (r"\.convnormrelu(\d)\.0\.", r".conv\1."),
    (r"\.convnormrelu(\d)\.1\.", r".norm\1."),
    # Update block.
    (r"^update_block\.motion_encoder\.convcorr(\d)\.0\.", r"update_block.encoder.convc\1."),
    (r"^update_block\.motion_encoder\.convflow(\d)\.0\.", r"update_block.encoder.convf\1."),
    (r"^update_block\.motion_encoder\.conv\.0\.", "update_block.encoder.conv."),
    (r"^update_block\.recurrent_block\.convgru(\d)\.conv([zrq])\.", r"update_block.gru.conv\2\1."),
    (r"^mask_predictor\.convrelu\.0\.", "update_block.mask.0."),
    (r"^mask_predictor\.conv\.", "update_block.mask.2."),
)


def _from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's names of the same weights → the authors'."""
    renamed = {}
    for name, tensor in state.items():
        new = name
        for pattern, replacement in _RENAMED:
            new = re.sub(pattern, replacement, new)
        renamed[new] = tensor
    for name, tensor in list(renamed.items()):
        # The authors' files name the norm of a downsampling twice.
        found = re.match(r"(.*)\.downsample\.1\.(.*)$", name)
        if found:
            count = 4 if f"{found[1]}.conv3.weight" in renamed else 3
            renamed[f"{found[1]}.norm{count}.{found[2]}"] = tensor
    if "update_block.gru.convz1.weight" in renamed and not any(
        name.startswith("update_block.gru.convz2") for name in renamed
    ):  # RAFT small has one pass and no number
        renamed = {
            re.sub(r"^update_block\.gru\.conv([zrq])1\.", r"update_block.gru.conv\1.", name): tensor
            for name, tensor in renamed.items()
        }
    return renamed
