"""Polynomial motion models in (x, y, t) and their robust fit (eq. 1-2, Sec. 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stseg.errors import InputError

Term = tuple[int, int, int]
"""Exponents of x, y and t in a monomial."""

TIME_STEP = 1 / 3
"""Distance between two instants in the model's time: -0.33, 0, 0.33 (Sec. 4.1)."""


@dataclass(frozen=True)
class MotionModel:
    """A flow field that is linear in its parameters.

    Parameter p adds ``monomial(u[p])`` to the horizontal and ``monomial(v[p])`` to the vertical
    component; ``None`` adds nothing.

    Attributes:
        name: its name in ``MODELS``.
        u: for each parameter, its term in the horizontal component.
        v: the same for the vertical component.
    """

    name: str
    u: tuple[Term | None, ...]
    v: tuple[Term | None, ...]

    @property
    def parameters(self) -> int:
        """Number of parameters of one segment."""
        return len(self.u)

    @property
    def separable(self) -> bool:
        """Whether both components have the same terms and share no parameter."""
        half = self.parameters // 2
        empty = (None,) * half
        return self.u[:half] == self.v[half:] and self.u[half:] == empty == self.v[:half]


def _separable(name: str, terms: tuple[Term, ...]) -> MotionModel:
    empty = (None,) * len(terms)
    return MotionModel(name, terms + empty, empty + terms)


def _with_time(model: MotionModel) -> MotionModel:
    """Each parameter p becomes p0 + p1 t: linear variation over time (eq. 2)."""

    def later(terms: tuple[Term | None, ...]) -> tuple[Term | None, ...]:
        return tuple(None if term is None else (term[0], term[1], 1) for term in terms)

    if not model.separable:
        return MotionModel(f"{model.name}-time", model.u + later(model.u), model.v + later(model.v))
    terms = tuple(term for term in model.u if term is not None)
    return _separable(f"{model.name}-time", terms + tuple((x, y, 1) for x, y, _ in terms))


_TRANSLATION: tuple[Term, ...] = ((0, 0, 0),)
_AFFINE: tuple[Term, ...] = (*_TRANSLATION, (1, 0, 0), (0, 1, 0))
_QUADRATIC: tuple[Term, ...] = (*_AFFINE, (2, 0, 0), (1, 1, 0), (0, 2, 0))

_SPATIAL = (
    _separable("translation", _TRANSLATION),  # 2 parameters
    _separable("affine", _AFFINE),  # 6
    MotionModel(  # 8: rigid motion of a plane in front of a camera
        "planar",
        u=((0, 0, 0), (1, 0, 0), (0, 1, 0), None, None, None, (2, 0, 0), (1, 1, 0)),
        v=(None, None, None, (0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 2, 0)),
    ),
    _separable("quadratic", _QUADRATIC),  # 12
)

MODELS: dict[str, MotionModel] = {
    model.name: model for spatial in _SPATIAL for model in (spatial, _with_time(spatial))
}


def motion_model(name: str) -> MotionModel:
    """The model of that name. Raises InputError when there is none."""
    if name not in MODELS:
        raise InputError(f"There is no motion model {name!r}. Choose one of {', '.join(MODELS)}.")
    return MODELS[name]


@dataclass(frozen=True)
class _Design:
    """The regression behind a model on a grid, with orthonormal columns.

    A separable model solves for u and v apart with one design of (t h w) rows; a coupled one has
    the rows of u above those of v.
    """

    matrix: Tensor  # (rows, p) float64, orthonormal columns over the grid
    to_monomials: Tensor  # (p, p): monomial parameters = to_monomials @ coefficients
    from_monomials: Tensor  # the way back, its pseudo-inverse


def _monomials(terms: tuple[Term | None, ...], t: int, h: int, w: int) -> Tensor:
    time = (torch.arange(t, dtype=torch.float64) - (t - 1) / 2) * TIME_STEP
    y, x = (torch.linspace(0, 1, side, dtype=torch.float64) for side in (h, w))
    times, ys, xs = torch.meshgrid(time, y, x, indexing="ij")
    columns = [
        torch.zeros_like(xs) if term is None else xs ** term[0] * ys ** term[1] * times ** term[2]
        for term in terms
    ]
    return torch.stack(columns, dim=-1).reshape(-1, len(terms))


@lru_cache(maxsize=32)
def _design(model: MotionModel, t: int, h: int, w: int) -> _Design:
    if model.separable:
        monomials = _monomials(model.u[: model.parameters // 2], t, h, w)
    else:
        monomials = torch.cat([_monomials(model.u, t, h, w), _monomials(model.v, t, h, w)])
    # Orthonormal columns keep the normal equations well conditioned in float32. Columns that this
    # grid cannot tell apart (time on one instant) are left out by the pseudo-inverse.
    left, values, right = torch.linalg.svd(monomials, full_matrices=False)
    kept = values > 1e-10 * values[0]
    to_monomials = right[kept].T / values[kept]
    # Rows of unit mean square make coefficients comparable to the flow itself.
    scale = monomials.shape[0] ** 0.5
    to_monomials = to_monomials * scale
    return _Design(left[:, kept] * scale, to_monomials, torch.linalg.pinv(to_monomials))


@lru_cache(maxsize=32)
def _matrix(
    model: MotionModel, size: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Design matrix of a grid where it is used: the copy is made once."""
    with torch.inference_mode(False):  # what is kept here may meet autograd later
        return _design(model, *size).matrix.to(device, dtype)


@lru_cache(maxsize=8)
def _products(
    model: MotionModel,
    size: tuple[int, int, int],
    stride: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Rows of the design at every ``stride``-th site, (n, p), and (n, p (p + 1) / 2) products.

    The products of each pair of columns make the normal equations of any weights by one matrix
    product.
    """
    with torch.inference_mode(False):
        matrix = _matrix(model, size, dtype, device)
        if stride > 1:
            matrix = matrix.unflatten(0, (-1, *size))[:, :, ::stride, ::stride].flatten(0, 3)
        rows, columns = torch.triu_indices(matrix.shape[1], matrix.shape[1], device=device)
        return matrix, matrix[:, rows] * matrix[:, columns]


@dataclass(frozen=True)
class FittedMotion:
    """Motion models fitted to the segments of a volume.

    Attributes:
        model: which model.
        size: (t, h, w) of the volume.
        coefficients: (b, k, c, p) in the orthonormal basis of the grid; c is 2 for a separable
            model (u, then v) and 1 for a coupled one.
    """

    model: MotionModel
    size: tuple[int, int, int]
    coefficients: Float[Tensor, "b k c p"]

    @classmethod
    def from_parameters(
        cls, model: MotionModel, size: tuple[int, int, int], theta: Float[Tensor, "b k q"]
    ) -> FittedMotion:
        """Models with the monomial parameters ``theta``, as ``parameters`` gives them."""
        from_monomials = _design(model, *size).from_monomials.to(theta.device)
        shaped = theta.double().unflatten(2, (2 if model.separable else 1, -1))
        coefficients = shaped @ from_monomials.T
        return cls(model, size, coefficients.to(theta.dtype))

    def parameters(self) -> Float[Tensor, "b k q"]:
        """Parameters θ of eq. 2 in monomials of x, y in [0, 1] and t, in pixels a frame."""
        to_monomials = _design(self.model, *self.size).to_monomials
        theta = self.coefficients.double() @ to_monomials.to(self.coefficients.device).T
        return theta.flatten(2).to(self.coefficients.dtype)

    def _component(self, index: int) -> tuple[Tensor, Tensor]:
        """Coefficients (b, k, p) and design (sites, p) of u (0) or v (1)."""
        kind = self.coefficients
        matrix = _matrix(self.model, self.size, kind.dtype, kind.device)
        if self.model.separable:
            return self.coefficients[:, :, index], matrix
        sites = matrix.shape[0] // 2
        return self.coefficients[:, :, 0], matrix[index * sites : (index + 1) * sites]

    def flow(self) -> Float[Tensor, "b k 2 t h w"]:
        """Flow of each model at every site, in pixels a frame (eq. 1)."""
        both = [coefficients @ matrix.T for coefficients, matrix in map(self._component, (0, 1))]
        return torch.stack(both, dim=2).unflatten(3, self.size)

    def residual(self, flow: Float[Tensor, "b 2 t h w"]) -> Float[Tensor, "b k t h w"]:
        """L1 distance between ``flow`` and each model at every site, in pixels a frame."""
        total: Tensor | None = None
        for index in (0, 1):
            coefficients, matrix = self._component(index)
            measured = flow[:, index].to(matrix.dtype).flatten(1).unsqueeze(1)  # (b, 1, n)
            difference = torch.baddbmm(
                measured.expand(-1, coefficients.shape[1], -1),
                coefficients,
                matrix.T.expand(coefficients.shape[0], -1, -1),
                alpha=-1,
            ).abs_()
            total = difference if total is None else total.add_(difference)
        assert total is not None
        return total.unflatten(2, self.size)


MOST_STEPS = 1000
"""Of a fit: some sixty converge."""


@dataclass(frozen=True)
class FitSettings:
    """How motion models are fitted.

    Attributes:
        steps: reweighting steps after the weighted least squares start; 0 gives least squares.
        stride: use every n-th row and column of sites.
        floor: residuals below this fraction of the flow's mean absolute component weigh alike; it
            keeps the weights finite.

    Raises:
        InputError: a number is out of its range.
    """

    steps: int = 8
    stride: int = 2
    floor: float = 1e-2

    def __post_init__(self) -> None:
        if type(self.steps) is not int or not 0 <= self.steps <= MOST_STEPS:
            raise InputError(f"A fit cannot take {self.steps} steps. Give 0 to {MOST_STEPS}.")
        if type(self.stride) is not int or self.stride < 1:
            raise InputError(f"A fit cannot use every {self.stride}th site. Give 1 or more.")
        if not 0 < self.floor < math.inf:
            raise InputError(f"The floor of a fit cannot be {self.floor}. Give about 0.01.")


RIDGE = 1e-5
PAPER_FIT = FitSettings()

STILL = 1e-6
"""Share of the mean motion of a volume below which one of its instants does not move at all."""


def moving(flow: Float[Tensor, "b 2 t h w"]) -> Bool[Tensor, "b t"]:
    """Which instants move at all; one that does not is of a frame that is there twice."""
    return _moving(_norms(flow))


def inverse_norms(flow: Float[Tensor, "b 2 t h w"]) -> Float[Tensor, "b t"]:
    """1 / L1 norm of the flow of each instant, by which eq. 3 weighs it.

    Choice: an instant that does not move at all weighs nothing.
    """
    norms = _norms(flow)
    inverse = 1 / norms.clamp_min(torch.finfo(norms.dtype).tiny)
    return torch.where(_moving(norms), inverse, 0)


def _norms(flow: Float[Tensor, "b 2 t h w"]) -> Float[Tensor, "b t"]:
    return flow.abs().sum(dim=(1, 3, 4))


def _moving(norms: Float[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
    return norms > STILL * norms.mean(dim=1, keepdim=True)


@torch.no_grad()
def fit_motion(
    flow: Float[Tensor, "b 2 t h w"],
    masks: Float[Tensor, "b k t h w"],
    model: MotionModel,
    settings: FitSettings = PAPER_FIT,
) -> FittedMotion:
    """Fit one motion model to each segment: the θ that minimises its share of L_r (eq. 3).

    The L1 distance is minimised by iteratively reweighted least squares from a weighted least
    squares start; u and v share their design. Sites weigh by their mask over the L1 norm of the
    flow of their instant, as in the loss. Masks are held fixed: no gradient flows. Segments
    without a site get zero motion.

    Args:
        flow: optical flow, in pixels a frame.
        masks: soft masks, non-negative.
        model: which model.
        settings: steps and sampling.
    """
    size = (flow.shape[2], flow.shape[3], flow.shape[4])
    device_type = flow.device.type
    with torch.autocast(device_type, enabled=False):
        dtype = torch.float64 if flow.dtype == torch.float64 else torch.float32
        flow, masks = flow.to(dtype), masks.to(dtype)
        n = settings.stride
        matrix, products = _products(model, size, n, flow.dtype, flow.device)
        if n > 1:
            flow, masks = flow[..., ::n, ::n], masks[..., ::n, ::n]
        scale = flow.abs().mean(dim=(1, 2, 3, 4), keepdim=True)  # (b, 1, 1, 1, 1)
        tiny = torch.finfo(dtype).tiny ** 0.5
        target = (flow / scale.clamp_min(tiny)).flatten(2).unsqueeze(1)  # (b, 1, 2, n)
        # About 1 in the mean, so that float32 has room on both sides.
        share = inverse_norms(flow)[:, None, :, None, None] * (scale * flow[0, :, 0].numel())
        weights = (masks * share).flatten(2).unsqueeze(2)  # (b, k, 1, n)
        b, k = weights.shape[:2]
        target = target.expand(b, k, 2, -1)
        weights = weights.expand(b, k, 2, -1)
        if not model.separable:
            target, weights = (part.flatten(2).unsqueeze(2) for part in (target, weights))
        coefficients = _reweighted_least_squares(matrix, products, target, weights, settings)
        return FittedMotion(model, size, coefficients * scale.squeeze(-1))


def _reweighted_least_squares(
    matrix: Tensor, products: Tensor, target: Tensor, weights: Tensor, settings: FitSettings
) -> Tensor:
    """Minimise Σ_n weights |target - matrix θ| for (b, k, c, n) problems; gives (b, k, c, p)."""
    p = matrix.shape[1]
    rows, columns = torch.triu_indices(p, p, device=matrix.device)
    eye = torch.eye(p, dtype=matrix.dtype, device=matrix.device)
    mass = weights.mean(-1, keepdim=True)
    # A segment without a site has no weight: dividing by 1 leaves its equations all zero.
    weights = weights / torch.where(mass > 0, mass, 1)
    theta = torch.zeros(*weights.shape[:3], p, dtype=matrix.dtype, device=matrix.device)
    current = weights
    for step in range(settings.steps + 1):
        packed = current @ products
        normal = torch.zeros(*packed.shape[:3], p, p, dtype=matrix.dtype, device=matrix.device)
        normal[..., rows, columns] = packed
        normal[..., columns, rows] = packed
        level = normal.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        right = (current * target) @ matrix
        ridge = RIDGE * level + torch.where(level > 0, 0, 1)
        # The ridge leaves nothing singular; to ask would make a GPU wait at every step.
        solved = torch.linalg.solve_ex(normal + ridge * eye, right.unsqueeze(-1))
        theta = solved.result.squeeze(-1)
        if step < settings.steps:
            residual = (target - theta @ matrix.T).abs_()
            current = weights / residual.clamp_min_(settings.floor)
    return theta


def fit_motion_lbfgs(
    flow: Float[Tensor, "b 2 t h w"],
    masks: Float[Tensor, "b k t h w"],
    model: MotionModel,
    iterations: int = 100,
) -> FittedMotion:
    """The paper's fit, kept as the reference: L-BFGS from weighted least squares (Sec. 4.1).

    Strong-Wolfe line search on the same objective as ``fit_motion``. Slow: for tests and
    measurements.
    """
    start = fit_motion(flow, masks, model, FitSettings(steps=0))
    flow = flow.to(start.coefficients.dtype)
    weights = masks.to(flow) * inverse_norms(flow)[:, None, :, None, None]
    coefficients = start.coefficients.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [coefficients],
        max_iter=iterations,
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimiser.zero_grad()
        predicted = FittedMotion(model, start.size, coefficients).flow()
        value = (weights.unsqueeze(2) * (flow.unsqueeze(1) - predicted).abs()).sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(objective)
    return FittedMotion(model, start.size, coefficients.detach())
