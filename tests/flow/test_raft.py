"""RAFT: the authors' numbers, any frame size, and what its parts must do."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stseg.device import Device, choose_device
from stseg.errors import Cancelled, InputError
from stseg.flow import FlowSettings, estimator
from stseg.flow.files import read_flo
from stseg.flow.raft import LARGE, MAX_PIXELS, SMALL, Raft, RaftNetwork, _Correlation, splat


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of RAFT small, as the authors' code would write it."""
    torch.manual_seed(0)
    state = {f"module.{name}": each for name, each in RaftNetwork(SMALL).state_dict().items()}
    path = tmp_path_factory.mktemp("raft") / "small.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize(("size", "parameters"), [(LARGE, 5_257_536), (SMALL, 990_162)])
def test_parameters_are_as_published(size, parameters: int) -> None:
    # Table 1 of the paper: 5.3 M and 1.0 M.
    assert sum(each.numel() for each in RaftNetwork(size).parameters()) == parameters


def sampled(first: torch.Tensor, second: torch.Tensor, at: torch.Tensor, radius: int):
    """The authors' look-up by bilinear sampling, as a reference."""
    _, c, h, w = first.shape
    volume = torch.einsum("cij,cxy->ijxy", first[0], second[0]) / c**0.5
    volume = volume.reshape(h * w, 1, h, w)
    window = torch.arange(-radius, radius + 1.0)
    dx, dy = torch.meshgrid(window, window, indexing="ij")  # x runs along the first axis
    out = []
    for level in range(4):
        if level:
            volume = F.avg_pool2d(volume, 2)
        rows, columns = volume.shape[2:]
        xy = at.flatten(1).T / 2**level
        x = xy[:, 0, None, None] + dx
        y = xy[:, 1, None, None] + dy
        places = torch.stack([2 * x / (columns - 1) - 1, 2 * y / (rows - 1) - 1], -1)
        got = F.grid_sample(volume, places, align_corners=True)
        out.append(got.reshape(h * w, -1))
    return torch.cat(out, 1).T.reshape(1, -1, h, w)


def test_look_up_is_bilinear_sampling_with_zeros_outside() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 1, 8, 17, 19).unbind()
    at = torch.rand(2, 17, 19) * 40 - 10  # many of them outside
    got = _Correlation(first, second, 3).look_up(at)
    assert torch.allclose(got, sampled(first, second, at, 3), atol=1e-4)


@pytest.mark.parametrize("size", [(64, 96), (131, 203), (17, 33)])
def test_any_frame_size_gives_its_own_size(untrained: Path, cpu: Device, size) -> None:
    rng = np.random.default_rng(0)
    raft = Raft(untrained, 2, cpu)
    frames = [raft.prepare((rng.random((*size, 3)) * 255).astype(np.uint8)) for _ in range(2)]
    flow = raft.between(*frames, size)
    assert flow.shape == (*size, 2)
    assert np.isfinite(flow).all()


def test_large_frames_are_reduced_and_vectors_stay_in_source_pixels(
    untrained: Path, cpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    raft = Raft(untrained, 1, cpu)
    frame = np.zeros((2160, 3840, 3), np.uint8)
    h, w = raft.prepare(frame).size
    assert h * w == pytest.approx(MAX_PIXELS, rel=0.01)
    assert w / h == pytest.approx(3840 / 2160, rel=0.01)
    monkeypatch.setattr("stseg.flow.raft.MAX_PIXELS", 128 * 72)  # the rest by the same rule, sooner
    prepared = raft.prepare(frame)
    h, w = prepared.size
    small = raft.between(prepared, prepared, (h, w))
    large = raft.between(prepared, prepared, (2160, 3840))
    assert large[..., 0] == pytest.approx(small[..., 0] * 3840 / w, rel=1e-4, abs=1e-5)


def test_encoders_run_once_a_frame(untrained: Path, cpu: Device) -> None:
    raft = Raft(untrained, 1, cpu)
    runs: list[int] = []
    raft.network.fnet.register_forward_hook(lambda *words: runs.append(1))
    frames = [raft.prepare(np.full((64, 64, 3), value, np.uint8)) for value in (0, 90, 200)]
    raft.between(frames[0], frames[1], (64, 64))
    raft.between(frames[1], frames[2], (64, 64))
    raft.between(frames[2], frames[1], (64, 64))
    assert len(runs) == 3


@pytest.mark.parametrize("steps", [0, 2, 5])
def test_a_stop_ends_it_within_a_refinement(untrained: Path, cpu: Device, steps: int) -> None:
    """Three encoders and six refinements a pair: a stop need not wait for the others."""
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked > steps:
            raise Cancelled("Stopped.")

    raft = Raft(untrained, 6, cpu, check=check)
    image = np.zeros((64, 96, 3), np.uint8)
    first, second = raft.prepare(image), raft.prepare(image)
    with pytest.raises(Cancelled):
        raft.between(first, second, (64, 96))
    assert asked == steps + 1


def test_warm_start_goes_on_from_the_pair_before(untrained: Path, cpu: Device) -> None:
    rng = np.random.default_rng(0)
    images = [(rng.random((64, 64, 3)) * 255).astype(np.uint8) for _ in range(3)]

    def flows(warm: bool, pairs: list[tuple[int, int]]) -> list[np.ndarray]:
        raft = Raft(untrained, 1, cpu, warm_start=warm)
        frames = [raft.prepare(image) for image in images]
        return [raft.between(frames[a], frames[b], (64, 64)) for a, b in pairs]

    order = [(0, 1), (1, 0), (1, 2), (2, 1)]  # as a run with both directions has it
    cold, warm = flows(False, order), flows(True, order)
    assert [bool((a == b).all()) for a, b in zip(cold, warm, strict=True)] == [
        True,
        True,
        False,
        False,
    ]
    apart = [(0, 1), (0, 2), (0, 1)]  # none goes on from another
    for a, b in zip(flows(False, apart), flows(True, apart), strict=True):
        assert (a == b).all()


def test_vectors_are_carried_along() -> None:
    flow = torch.full((1, 2, 8, 10), 2.0)  # two sites to the right,
    flow[0, 1] = 0.01 * torch.arange(10)  # and a mark of the column in v
    ahead, back = splat(flow, flow)[0, 1], splat(flow, -flow)[0, 1]
    assert torch.allclose(ahead[:, 2:], flow[0, 1, :, :-2])
    assert torch.allclose(ahead[:, :2], flow[0, 1, :, :1])  # nothing landed there: the nearest
    assert torch.allclose(back[:, 1:-2], flow[0, 1, :, 3:])
    gone = torch.full((1, 2, 8, 10), 50.0)
    assert (splat(gone, gone) == 0).all()


def test_warm_start_is_reached_by_the_settings(
    untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for warm in (False, True):
        settings = FlowSettings("raft", str(untrained), 1, "cpu", warm)
        made = estimator(settings)
        assert isinstance(made, Raft)
        assert made._warm_start is warm


def test_weights_that_do_not_fit_are_named(untrained: Path, tmp_path: Path) -> None:
    state = torch.load(untrained, weights_only=True)
    del state["module.update_block.flow_head.conv2.bias"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(InputError, match="do not fit RAFT small"):
        Raft(tmp_path / "less.pth")


def test_absent_weights_say_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STSEG_CACHE", str(tmp_path))
    for name in ("raft", "raft-sintel"):
        with pytest.raises(InputError, match="python -m stseg weights raft-sintel"):
            estimator(FlowSettings(name))
    named = tmp_path / "my.pth"
    with pytest.raises(
        InputError, match=r"^There is no file .*my\.pth\. Give a weight file of raft"
    ):
        estimator(FlowSettings("raft", str(named)))


@pytest.mark.slow
def test_the_authors_published_field(shared: Path) -> None:
    frames = shared / "davis16/JPEGImages/480p/blackswan"
    images = [
        cv2.cvtColor(cv2.imread(str(frames / f"{index:05d}.jpg")), cv2.COLOR_BGR2RGB)
        for index in (0, 1)
    ]
    published = read_flo(shared / "davis16/flows/published/blackswan_00000.flo")
    flows = []
    # Without bfloat16 in the processor both are the same.
    for device in dict.fromkeys(choose_device("cpu", each) for each in (True, False)):
        raft = Raft(shared / "weights/raft-sintel.pth", 20, device)
        flow = raft.between(*(raft.prepare(image) for image in images), (480, 854))
        flows.append(flow.transpose(2, 0, 1))
        assert np.hypot(*(flows[-1] - published)).mean() < 0.1
    assert np.hypot(*(flows[0] - flows[-1])).mean() < 0.1
