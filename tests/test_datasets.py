"""Flow from files: what is skipped and said, and volumes that training and validation share not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stseg.datasets import (
    MIN_FLOWS,
    FlowSequence,
    FlowStore,
    TripletSet,
    VolumePlace,
    laid_as,
    read_training_flows,
)
from stseg.errors import InputError
from stseg.flow.files import read_flow_file


def write(path: Path, n: int = 5, value: float = 1.0, size: tuple[int, int] = (48, 84)) -> Path:
    flow = np.full((n, 2, 8, 14), value, np.float16)
    np.savez_compressed(path, flow=flow, size=np.array(size))
    return path


def numbered(n: int, name: str = "a", h: int = 4, w: int = 6) -> FlowSequence:
    """Field i is i everywhere, so that a volume tells which fields it took."""
    flow = torch.arange(n, dtype=torch.float16).view(n, 1, 1, 1).expand(n, 2, h, w)
    return FlowSequence(name, flow.contiguous())


def fields_of(triplets: TripletSet, size: tuple[int, int] = (4, 6)) -> list[tuple[int, ...]]:
    """Which fields each volume holds."""
    if not len(triplets):
        return []
    batch = triplets.batch(range(len(triplets)), size)
    return [tuple(int(v) for v in volume[0, :, 0, 0]) for volume in batch]


# --- one file ------------------------------------------------------------------------------------


def test_a_flow_file_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    flow = rng.normal(0, 5, (4, 2, 8, 14)).astype(np.float32)
    np.savez(tmp_path / "a.npz", flow=flow, size=np.array([480, 854]))
    read, size = read_flow_file(tmp_path / "a.npz")
    assert size == (480, 854)
    assert read.dtype == np.float16
    np.testing.assert_array_equal(read, flow.astype(np.float16))


def spoil(path: Path, how: str) -> Path:
    """A flow file that cannot be used."""
    good = np.zeros((5, 2, 8, 14), np.float16)
    size = np.array([48, 84])
    bad = {
        "no flow": {"size": size},
        "three dimensions": {"flow": good[0], "size": size},
        "three channels": {"flow": np.zeros((5, 3, 8, 14)), "size": size},
        "channels last": {"flow": np.zeros((5, 8, 14, 2)), "size": size},
        "size of three": {"flow": good, "size": np.array([48, 84, 3])},
        "size of one": {"flow": good, "size": np.array(48)},
        "words": {"flow": np.array(["a"] * 4), "size": size},
        "NaN": {"flow": np.where(np.arange(14) == 3, np.nan, good), "size": size},
        "infinite": {"flow": np.where(np.arange(14) == 3, np.inf, good), "size": size},
        "too large for float16": {"flow": np.full(good.shape, 1e6), "size": size},
        "objects": {"flow": np.array([{}, None], object), "size": size},
    }
    if how in bad:
        np.savez(path, **bad[how])
    elif how == "truncated":
        data = write(path).read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif how.startswith("damaged"):
        noise = np.random.default_rng(0).normal(size=good.shape).astype(np.float16)
        np.savez_compressed(path, flow=noise, size=size)
        data = bytearray(path.read_bytes())
        start = {"damaged header": 0, "damaged stream": 60, "damaged values": 900}[how]
        data[start : start + 20] = bytes(range(100, 120))
        path.write_bytes(data)
    elif how == "text":
        path.write_text("flow")
    elif how == "empty":
        path.touch()
    elif how == "one array":
        with path.open("wb") as file:
            np.save(file, good)
    elif how == "folder":
        path.mkdir()
    return path


BAD = [
    "no flow",
    "three dimensions",
    "three channels",
    "channels last",
    "size of three",
    "size of one",
    "words",
    "NaN",
    "infinite",
    "objects",
    "truncated",
    "damaged header",
    "damaged stream",
    "damaged values",
    "text",
    "empty",
    "one array",
    "folder",
    "missing",
]


@pytest.mark.parametrize("how", BAD)
def test_an_unusable_file_gets_a_sentence(how: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"bad\.npz"):
        read_flow_file(spoil(tmp_path / "bad.npz", how))


def test_vectors_beyond_float16_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_flow_file(spoil(tmp_path / "bad.npz", "too large for float16"))


# --- all files of a folder -----------------------------------------------------------------------


def test_all_sequences_of_all_folders_are_read_in_order(tmp_path: Path) -> None:
    for folder, names in (("raft", "cab"), ("dis", "b")):
        (tmp_path / folder).mkdir()
        for index, name in enumerate(names):
            write(tmp_path / folder / f"{name}.npz", n=3 + index)
    (tmp_path / "raft" / "notes.txt").write_text("no flow")
    sequences = read_training_flows([tmp_path / "raft", tmp_path / "dis"])
    assert [(s.name, len(s.flow)) for s in sequences] == [("a", 4), ("b", 5), ("c", 3), ("b", 3)]
    assert all(s.flow.dtype == torch.float16 for s in sequences)


def test_names_choose_and_a_missing_one_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.npz")
    sequences = read_training_flows([tmp_path], ["c", "a", "z"])
    assert [s.name for s in sequences] == ["a", "c"]
    first, count = caplog.messages
    assert first == f"{tmp_path} has no flow of sequence z; it is left out."
    assert count == "1 flow file is left out, 2 used."


@pytest.mark.parametrize("how", BAD[:-1])
def test_a_bad_file_is_named_and_left_out(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "good.npz")
    spoil(tmp_path / "bad.npz", how)
    sequences = read_training_flows([tmp_path])
    assert [s.name for s in sequences] == ["good"]
    first, count = caplog.messages
    assert str(tmp_path / "bad.npz") in first
    assert first.endswith("It is left out.")
    assert count == "1 flow file is left out, 1 used."


def test_a_short_sequence_is_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "short.npz", n=MIN_FLOWS - 1)
    write(tmp_path / "just.npz", n=MIN_FLOWS)
    assert [s.name for s in read_training_flows([tmp_path])] == ["just"]
    assert "short.npz has 2 fields; a triplet needs 3. It is left out." in caplog.text


def test_frames_that_repeat_are_left_out_of_flow_and_reference(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(5)
    moving = rng.normal(0, 4, (8, 2, 8, 14)).astype(np.float16)
    places = [0, 1, 2, 4, 5, 6, 8, 9]  # of ten fields, two are between a frame and its copy
    for folder, scale in (("rough", 1), ("better", 2)):
        (tmp_path / folder).mkdir()
        flow = np.full((10, 2, 8, 14), 0.01, np.float16)
        flow[places] = moving * scale
        np.savez(tmp_path / folder / "a.npz", flow=flow, size=np.array([48, 84]))
    (sequence,) = read_training_flows([tmp_path / "rough"], reference=tmp_path / "better")
    np.testing.assert_array_equal(sequence.flow.numpy(), moving)
    assert sequence.reference is not None
    np.testing.assert_array_equal(sequence.reference.numpy(), 2 * moving)
    assert "a.npz: 2 of its frames repeat others" in caplog.text


def test_what_is_short_without_its_repeats_is_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flow = np.ones((MIN_FLOWS, 2, 8, 14), np.float16)
    flow[1] = 0
    np.savez(tmp_path / "short.npz", flow=flow)
    write(tmp_path / "whole.npz")
    assert [each.name for each in read_training_flows([tmp_path])] == ["whole"]
    assert f"has {MIN_FLOWS - 1} fields that differ" in caplog.text


def test_good_files_give_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a.npz")
    read_training_flows([tmp_path])
    assert caplog.messages == []


def test_nothing_left_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "00000.flo").write_bytes(b"a field")
    sentence = r"no \.npz file in .*: training reads one .* with `python -m stseg flow"
    with pytest.raises(InputError, match=sentence):
        read_training_flows([tmp_path])
    spoil(tmp_path / "a.npz", "NaN")
    spoil(tmp_path / "b.npz", "text")
    with pytest.raises(InputError, match=r"\(2 left out\)\. Compute flow with"):
        read_training_flows([tmp_path])
    assert len([m for m in caplog.messages if m.endswith("It is left out.")]) == 2


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no folder .*none\. Give a folder of"):
        read_training_flows([tmp_path / "none"])


def test_the_cached_flow_of_davis_can_be_read(shared: Path) -> None:
    folder = shared / "davis16" / "flows" / "raft-sintel"
    if not (folder / "camel.npz").is_file():
        pytest.skip("the cached flow of camel is not in the data folder")
    (camel,) = read_training_flows([folder], ["camel"])
    assert camel.flow.shape == (89, 2, 128, 224)
    assert 0.5 < float(camel.flow.float().abs().mean()) < 50


def test_a_rough_estimate_learns_from_the_reference(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, rough = tmp_path / "good", tmp_path / "rough"
    for folder, value in ((good, 1.0), (rough, 2.0)):
        folder.mkdir()
        write(folder / "a.npz", value=value)
    write(rough / "only here.npz", value=3.0)
    write(good / "longer.npz", n=6)
    write(rough / "longer.npz", n=5, value=4.0)
    sequences = read_training_flows([good, rough], reference=good)
    assert [each.reference is not None for each in sequences] == [False, False, True, False, False]
    assert "longer" in caplog.text
    triplets = TripletSet([each for each in sequences if each.name == "a"], held_out=0.0)
    everything = range(len(triplets))
    seen, explained = (triplets.batch(everything, (8, 14), better) for better in (False, True))
    assert seen.unique().tolist() == [1.0, 2.0]
    assert explained.unique().tolist() == [1.0]


def test_a_reference_in_another_unit_is_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, rough = tmp_path / "good", tmp_path / "rough"
    for folder in (good, rough):
        folder.mkdir()
        write(folder / "same.npz")
    write(good / "half.npz", size=(24, 42))
    write(rough / "half.npz")
    sequences = read_training_flows([rough], reference=good)
    assert [(s.name, s.reference is not None) for s in sequences] == [
        ("half", False),
        ("same", True),
    ]
    (message,) = caplog.messages
    assert message == (
        f"{good / 'half.npz'} is of frames of (24, 42), but {rough / 'half.npz'} is of frames of "
        "(48, 84): its own flow is used for the losses."
    )


def test_a_reference_that_cannot_be_read_is_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, rough = tmp_path / "good", tmp_path / "rough"
    for folder in (good, rough):
        folder.mkdir()
        write(folder / "same.npz")
    (good / "torn.npz").write_bytes(b"PK")
    write(rough / "torn.npz")
    sequences = read_training_flows([rough], reference=good)
    assert [(s.name, s.reference is not None) for s in sequences] == [
        ("same", True),
        ("torn", False),
    ]
    (message,) = caplog.messages
    assert message.startswith(f"{good / 'torn.npz'} ")
    assert message.endswith(f"{rough / 'torn.npz'}: its own flow is used for the losses.")


def test_a_reference_that_is_none_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"There is no folder .*none\. Give a folder of"):
        read_training_flows([tmp_path], reference=tmp_path / "none")
    other = tmp_path / "other"
    other.mkdir()
    for name, n in (("b", 5), ("a", 7)):  # another name, then another shape
        write(other / f"{name}.npz", n)
        with pytest.raises(InputError, match="better flow of none of these sequences"):
            read_training_flows([tmp_path], reference=other)


# --- volumes -------------------------------------------------------------------------------------


def test_volumes_by_hand() -> None:
    training = TripletSet([numbered(7)], held_out=0.0)
    assert fields_of(training) == [(0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 6)]
    assert training._places[0] == VolumePlace(sequence=0, centre=1, tau=1)


@pytest.mark.parametrize("tau", [1, 2, 3])
def test_instants_are_tau_apart(tau: int) -> None:
    volumes = fields_of(TripletSet([numbered(12)], taus=(tau,), held_out=0.0))
    assert volumes == [(t - tau, t, t + tau) for t in range(tau, 12 - tau)]


def test_several_taus_and_sequences_are_all_there() -> None:
    sequences = [numbered(5), numbered(9), numbered(3)]
    volumes = fields_of(TripletSet(sequences, taus=(1, 3), held_out=0.0))
    assert volumes == [
        *[(t - 1, t, t + 1) for t in range(1, 4)],
        *[(t - 1, t, t + 1) for t in range(1, 8)],
        *[(t - 3, t, t + 3) for t in range(3, 6)],
        (0, 1, 2),
    ]


def test_a_single_instant_is_every_field() -> None:
    assert fields_of(TripletSet([numbered(4)], instants=1, held_out=0.0)) == [
        (t,) for t in range(4)
    ]


def test_five_instants() -> None:
    volumes = fields_of(TripletSet([numbered(11)], instants=5, taus=(2,), held_out=0.0))
    assert volumes == [tuple(t + 2 * step for step in range(-2, 3)) for t in range(4, 7)]


@pytest.mark.parametrize("n", range(3, 40))
@pytest.mark.parametrize("held_out", [0.0, 0.1, 0.4])
@pytest.mark.parametrize(("instants", "taus"), [(3, (1,)), (3, (1, 2)), (1, (1,)), (5, (1,))])
def test_no_field_is_in_training_and_validation(
    n: int, held_out: float, instants: int, taus: tuple[int, ...]
) -> None:
    given = ([numbered(n)], instants, taus, held_out)
    training = {f for volume in fields_of(TripletSet(*given)) for f in volume}
    validation = {f for volume in fields_of(TripletSet(*given, validation=True)) for f in volume}
    assert not training & validation
    if held_out == 0:
        assert not validation
    if instants == 3 and taus == (1,):
        assert training | validation == set(range(n))  # none is lost
        assert not validation or min(validation) > max(training)
        if held_out and n >= 2 * MIN_FLOWS:
            assert len(validation) == max(MIN_FLOWS, round(held_out * n))


@pytest.mark.parametrize("size", [(4, 6), (2, 3), (8, 12), (3, 4)])
def test_volumes_have_the_size_asked_for_and_keep_their_unit(size: tuple[int, int]) -> None:
    batch = TripletSet([numbered(5)]).batch([0, 2], size)
    assert batch.shape == (2, 2, 3, *size)
    assert batch.dtype == torch.float32
    expected = torch.tensor([[0.0, 1, 2], [2, 3, 4]])
    torch.testing.assert_close(batch.mean(dim=(1, 3, 4)), expected)


def test_motion_between_instants_is_told_in_frames() -> None:
    """A pixel a frame, over τ frames, of a frame of 480x854 or of the sites themselves."""
    known = replace(numbered(7), size=(480, 854))
    triplets = TripletSet([known, numbered(5, h=4, w=6)], taus=(1, -2), held_out=0.0)
    travel = triplets.travel(range(len(triplets)))
    assert travel.shape == (len(triplets), 2, 1, 1, 1)
    found = {tuple(each) for each in travel.flatten(1).tolist()}
    expected = [(1 / 854, 1 / 480), (-2 / 854, -2 / 480), (1 / 6, 1 / 4), (-2 / 6, -2 / 4)]
    assert len(found) == 4
    for each in expected:
        assert any(each == pytest.approx(other) for other in found)


def test_the_size_of_the_frames_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.npz")
    (sequence,) = read_training_flows([tmp_path])
    assert sequence.size == (48, 84)


def test_volumes_are_reduced_by_area() -> None:
    flow = torch.randn(3, 2, 4, 6, generator=torch.Generator().manual_seed(0)).half()
    batch = TripletSet([FlowSequence("a", flow)]).batch([0], (2, 2))
    expected = flow.float().unflatten(3, (2, 3)).unflatten(2, (2, 2)).mean(dim=(3, 5))
    torch.testing.assert_close(batch[0], expected.transpose(0, 1))


def test_sequences_of_different_sizes_make_one_batch() -> None:
    sequences = [numbered(4, h=4, w=6), numbered(4, h=10, w=5)]
    triplets = TripletSet(sequences)
    batch = triplets.batch(range(len(triplets)), (4, 6))
    assert batch.shape == (4, 2, 3, 4, 6)
    torch.testing.assert_close(batch[0], batch[2])


# --- upright sequences ---------------------------------------------------------------------------


def test_an_upright_sequence_is_mirrored_where_volumes_lie() -> None:
    flow = torch.randn(4, 2, 14, 8, generator=torch.Generator().manual_seed(0)).half()
    upright = FlowSequence("upright", flow, flow + 1, (84, 48))
    lying = numbered(4, h=8, w=14)
    kept, laid = laid_as([lying, upright], (16, 28))
    assert kept is lying
    assert laid.size == (48, 84)
    assert laid.flow.shape == (4, 2, 8, 14)
    assert torch.equal(laid.flow[:, 0], flow[:, 1].mT)  # what moved down moves to the right
    assert torch.equal(laid.flow[:, 1], flow[:, 0].mT)
    assert laid.reference is not None
    assert torch.equal(laid.reference, laid.flow + 1)
    assert FlowStore(laid_as([lying, upright], (16, 28))).size == (8, 14)
    stays, turned = laid_as([upright, lying], (28, 16))
    assert stays is upright
    assert turned.flow.shape == (4, 2, 14, 8)
