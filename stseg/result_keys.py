"""Keys of kept results: the content of all that decides one, so that nothing stale is taken."""

from __future__ import annotations

import hashlib
from pathlib import Path

from stseg.annotations import frame_names
from stseg.device import choose_device
from stseg.flow import FlowSettings, flow_origin
from stseg.flow.cache import content_key
from stseg.known_flow import flow_of
from stseg.records import Clip, Settings
from stseg.variants import model_path


def model_key(model: str) -> str:
    """Key of the weights of a model. Raises InputError where there is no such model."""
    return _digest(model_path(model).read_bytes())


def clip_key(clip: Clip, flows: Path | None, settings: Settings) -> str:
    """Key of a clip, of its ground truth and of its flow.

    Args:
        clip: that is scored.
        flows: folder of cached flow; None computes it with ``settings.flow``.
        settings: how flow is computed.

    Raises:
        InputError: there is no cached flow of the clip.
    """
    words: list[object] = [clip.name, clip.size, clip.frames]
    if flows is not None:
        words.append(content_key(flow_of(flows, clip.name), []))
    else:
        words.append(content_key(clip.source, flow_origin(FlowSettings.of(settings))))
    if clip.truth is not None:
        words += [
            content_key(folder, [str(folder.relative_to(clip.truth))])
            for folder in (clip.truth, *sorted(clip.truth.iterdir()))
            if folder.is_dir()
        ]
        words.append(frame_names(clip, clip.frames))
    return _digest(repr(words).encode())


def result_key(kind: str, clip: str, model: str, settings: Settings, protocol: str) -> str:
    """Key of a result.

    Args:
        kind: what it is, and the version of the code that makes it.
        clip: ``clip_key``.
        model: ``model_key``.
        settings: how the clip is segmented.
        protocol: in ``stseg.scoring.PROTOCOLS``.
    """
    told = {**settings.to_json(), "flow": "", "model": "", "weights": "", "device": ""}
    device = choose_device(settings.device)
    words = [kind, clip, model, sorted(told.items()), protocol, device.torch.type, device.bfloat16]
    return _digest(repr(words).encode())


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=20).hexdigest()
