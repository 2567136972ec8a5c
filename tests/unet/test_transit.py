"""Transits: identity above the bottleneck, attention over all sites, recurrence over time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stseg.unet.blocks import Spec
from stseg.unet.transit import BottleneckAttention, BottleneckRecurrence, Skip

DEEP = Spec(2, True, 64, 64)
HIGH = Spec(0, False, 64, 64)


def volume(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("make", [Skip, BottleneckAttention, BottleneckRecurrence])
def test_above_the_bottleneck_all_are_the_identity(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = make(HIGH)
    x = volume(1, 64, 3, 4, 5)
    assert module(x) is x
    assert not list(module.parameters())


def test_skip_is_the_identity_at_the_bottleneck_too() -> None:
    x = volume(1, 64, 3, 4, 5)
    assert Skip(DEEP)(x) is x


def trained_attention() -> BottleneckAttention:
    torch.manual_seed(0)
    module = BottleneckAttention(DEEP)
    nn.init.normal_(module.to_out.weight, std=0.1)
    return module


def test_attention_starts_as_the_identity_and_can_learn() -> None:
    torch.manual_seed(0)
    module = BottleneckAttention(DEEP)
    x = volume(1, 64, 3, 4, 5)
    out = module(x)
    torch.testing.assert_close(out, x, rtol=0, atol=0)
    (out * volume(*out.shape).flip(2)).sum().backward()
    assert module.to_out.weight.grad is not None
    assert float(module.to_out.weight.grad.abs().max()) > 0


def test_attention_by_its_definition() -> None:
    module = trained_attention()
    assert module.heads == 2
    x = volume(1, 64, 2, 3, 4)
    sites = nn.functional.instance_norm(x).flatten(2)[0].T  # (n, c)
    weight = module.to_qkv.weight.flatten(1)
    q, k, v = (sites @ weight.T + module.to_qkv.bias).chunk(3, dim=1)
    mixed = []
    for head in (slice(0, 32), slice(32, 64)):
        similar = (q[:, head] @ k[:, head].T / 32**0.5).softmax(dim=1)
        mixed.append(similar @ v[:, head])
    out = torch.cat(mixed, 1) @ module.to_out.weight.flatten(1).T + module.to_out.bias
    expected = x + out.T.reshape(1, 64, 2, 3, 4)
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)


def test_attention_does_not_know_where_a_site_is() -> None:
    module = trained_attention()
    x = volume(1, 64, 3, 4, 5)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    moved = x.flatten(2)[..., order].unflatten(2, (3, 4, 5))
    expected = module(x).flatten(2)[..., order].unflatten(2, (3, 4, 5))
    torch.testing.assert_close(module(moved), expected, rtol=1e-4, atol=1e-4)


def test_attention_reaches_every_instant() -> None:
    module = trained_attention()
    x = volume(1, 64, 3, 4, 5)
    other = x.clone()
    other[:, :, 0, 0, 0] += 5
    changed = (module(x) - module(other)).abs().amax(dim=1)[0]
    assert (changed > 0).all()


@pytest.mark.parametrize("channels", [8, 32, 96])
def test_attention_takes_any_width(channels: int) -> None:
    module = BottleneckAttention(Spec(1, True, channels, channels))
    nn.init.ones_(module.to_out.weight)
    x = volume(2, channels, 3, 2, 2)
    assert module(x).shape == x.shape
    assert module(x).isfinite().all()


def recurrence() -> BottleneckRecurrence:
    torch.manual_seed(0)
    return BottleneckRecurrence(Spec(2, True, 8, 8))


def test_recurrence_runs_forwards_over_time() -> None:
    module = recurrence()
    x = volume(1, 8, 3, 5, 6)
    late, early = x.clone(), x.clone()
    late[:, :, 2] += 1
    early[:, :, 0] += 1
    out = module(x)
    torch.testing.assert_close(module(late)[:, :, :2], out[:, :, :2], rtol=0, atol=0)
    for instant in range(3):
        assert not torch.allclose(module(early)[:, :, instant], out[:, :, instant], atol=1e-4)


def test_recurrence_by_its_definition() -> None:
    """A gated recurrent unit (Cho et al., 2014) on one site, where a convolution is a product."""
    module = recurrence()
    x = volume(1, 8, 4, 1, 1)
    gates, candidate = module.gates, module.candidate
    state = torch.zeros(8)
    states = []
    for now in x[0, :, :, 0, 0].T:
        both = gates.weight[:, :, 0, 1, 1] @ torch.cat((now, state)) + gates.bias
        update, reset = both.sigmoid().chunk(2)
        new = candidate.weight[:, :, 0, 1, 1] @ torch.cat((now, reset * state)) + candidate.bias
        state = (1 - update) * state + update * new.tanh()
        states.append(state)
    expected = x + torch.stack(states, 1).view(1, 8, 4, 1, 1)
    torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("instants", [1, 2, 3, 7])
def test_recurrence_takes_any_number_of_instants(instants: int) -> None:
    module = recurrence()
    x = volume(2, 8, 7, 4, 4)
    torch.testing.assert_close(
        module(x[:, :, :instants]), module(x)[:, :, :instants], rtol=1e-5, atol=1e-6
    )
