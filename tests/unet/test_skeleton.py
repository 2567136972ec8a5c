"""The skeleton: what it asks of each slot, what it says of a wrong module, and any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from stseg.unet import ARCHITECTURES, PAPER, Blocks, ModuleShapeError, Spec, UNet

SLOTS = ("left", "down", "transit", "right", "up")


class Wrong(nn.Module):
    """A module whose output is changed by ``spoil``."""

    def __init__(self, right: nn.Module, spoil: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.right, self.spoil = right, spoil

    def forward(self, x: Tensor) -> object:
        return self.spoil(self.right(x))


def spoiled(slot: str, spoil: Callable[[Tensor], object], level: int = 0) -> UNet:
    """The paper's U-net with the module of one slot and level spoiled."""
    make = getattr(PAPER, slot)

    def wrong(spec: Spec) -> nn.Module:
        return Wrong(make(spec), spoil) if spec.level == level else make(spec)

    return UNet(replace(PAPER, **{slot: wrong}), 2, 4, 3)


EXPECTED = {  # shape that the slot at level 0 must return for (1, 2, 3, 8, 12) and 4 features
    "left": (1, 4, 3, 8, 12),
    "down": (1, 4, 3, 4, 6),
    "transit": (1, 4, 3, 8, 12),
    "right": (1, 4, 3, 8, 12),
    "up": (1, 4, 3, 8, 12),
}


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x[:, :-1],
        lambda x: x[:, :, :1],
        lambda x: x[:, :, :, 1:],
        lambda x: x.repeat(2, 1, 1, 1, 1),
        lambda x: x[0],
    ],
    ids=["channels", "instants", "rows", "batch", "dimensions"],
)
def test_a_wrong_module_is_named_with_both_shapes(
    slot: str, spoil: Callable[[Tensor], Tensor]
) -> None:
    expected = EXPECTED[slot]
    actual = tuple(spoil(torch.zeros(expected)).shape)
    with pytest.raises(ModuleShapeError) as error:
        spoiled(slot, spoil)(torch.zeros(1, 2, 3, 8, 12))
    message = str(error.value)
    assert f"slot '{slot}' of level 0 (Wrong)" in message
    assert f"must return shape {expected}" in message
    assert message.endswith(f"but it returned {actual}.")


@pytest.mark.parametrize("slot", SLOTS)
def test_a_module_that_returns_no_tensor_is_named(slot: str) -> None:
    with pytest.raises(ModuleShapeError, match=rf"slot '{slot}' .* it returned tuple\.$"):
        spoiled(slot, lambda x: (x, x))(torch.zeros(1, 2, 3, 8, 12))


@pytest.mark.parametrize(("slot", "level"), [("left", 2), ("transit", 2), ("up", 1), ("right", 1)])
def test_the_level_is_named(slot: str, level: int) -> None:
    with pytest.raises(ModuleShapeError, match=f"slot '{slot}' of level {level} "):
        spoiled(slot, lambda x: x[:, 1:], level)(torch.zeros(1, 2, 3, 8, 12))


def test_a_shape_error_is_not_a_persons_mistake() -> None:
    from stseg.errors import InputError

    assert issubclass(ModuleShapeError, ValueError)
    assert not issubclass(ModuleShapeError, InputError)


def test_what_each_slot_is_asked_for() -> None:
    asked: dict[str, list[Spec]] = {slot: [] for slot in SLOTS}

    def noting(slot: str) -> Callable[[Spec], nn.Module]:
        def make(spec: Spec) -> nn.Module:
            asked[slot].append(spec)
            return nn.Identity()

        return make

    UNet(Blocks(**{slot: noting(slot) for slot in SLOTS}), 2, 32, 3)
    half = (1, 2, 2)
    assert asked == {
        "left": [Spec(0, False, 2, 32), Spec(1, False, 32, 64), Spec(2, True, 64, 128)],
        "down": [Spec(0, False, 32, 32, half), Spec(1, False, 64, 64, half)],
        "transit": [Spec(0, False, 32, 32), Spec(1, False, 64, 64), Spec(2, True, 128, 128)],
        "up": [Spec(0, False, 64, 32, half), Spec(1, False, 128, 64, half)],
        "right": [Spec(0, False, 64, 32), Spec(1, False, 128, 64)],
    }


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("size", [(3, 8, 12), (3, 9, 7), (1, 5, 6), (4, 2, 2)])
def test_the_size_of_the_output_is_that_of_the_input(
    name: str, levels: int, size: tuple[int, int, int]
) -> None:
    net = UNet(ARCHITECTURES[name], 2, 4, levels)
    with torch.no_grad():
        out = net(torch.randn(2, 2, *size))
    assert out.shape == (2, 4, *size)
    assert out.isfinite().all()


def test_padding_repeats_the_border_and_is_cut_off() -> None:
    torch.manual_seed(0)
    net = UNet(PAPER, 2, 4, 3).eval()
    x = torch.randn(1, 2, 3, 7, 10)
    padded = torch.nn.functional.pad(x, (0, 2, 0, 1, 0, 0), mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(net(x), net(padded)[..., :7, :10])


def test_each_level_doubles_the_channels_and_halves_the_sides() -> None:
    net = UNet(PAPER, 2, 4, 3)
    seen = []
    for module in net.left:
        module.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[1:])))
    net(torch.zeros(1, 2, 3, 8, 12))
    assert seen == [(4, 3, 8, 12), (8, 3, 4, 6), (16, 3, 2, 3)]


def test_skips_carry_the_features_of_their_own_level() -> None:
    """Without what comes from below, the output still depends on the input at the same site."""

    class Nothing(nn.Module):
        def __init__(self, spec: Spec) -> None:
            super().__init__()
            self.spec = spec

        def forward(self, x: Tensor) -> Tensor:
            b, _, t, h, w = x.shape
            return x.new_zeros(b, self.spec.channels_out, t, 2 * h, 2 * w)

    torch.manual_seed(0)
    net = UNet(replace(PAPER, up=Nothing), 2, 4, 2)
    one, two = (net(torch.randn(1, 2, 3, 8, 8)) for _ in range(2))
    assert not torch.allclose(one, two, atol=0.1)


def test_every_parameter_of_the_paper_takes_part() -> None:
    torch.manual_seed(0)
    net = UNet(PAPER, 2, 4, 3)
    out = net(torch.randn(1, 2, 3, 8, 8))
    (out * torch.randn(out.shape)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        if name.endswith("weight"):
            assert float(parameter.grad.abs().max()) > 0, name
