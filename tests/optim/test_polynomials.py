"""The Polar Express's polynomials, computed from their definition, and what they do to a matrix."""

import pytest
import torch
from torch import Tensor

from bench.optim.orthogonal import (
    NS_COEFFICIENTS,
    POLAR_EXPRESS,
    SAFETY,
    orthogonalise,
    orthogonalise_in_bfloat16,
    orthogonalise_in_float32,
    polynomials,
)
from tests.builders.reference import assert_near, nearest_quintic, quintic

LOWEST = 1e-3  # the smallest singular value that the list is made for, of a matrix of norm 1
CUSHION = 0.02407327424182761  # of an interval's upper end: its lower one counts as no less
EACH = pytest.mark.parametrize("coefficients", ["jordan", "polar_express"])
STEPS = pytest.mark.parametrize("steps", [1, 2, 5, 8, 10])


def computed(n: int) -> list[tuple[float, float, float]]:
    """The first n polynomials, each nearest to 1 where those before it have led [LOWEST, 1]."""
    low, high, found = LOWEST, 1.0, []
    for _ in range(n):
        nearest = nearest_quintic(max(low, CUSHION * high), high)
        ends = quintic(nearest, low) + quintic(nearest, high)
        found.append(tuple(2 / ends * each for each in nearest))  # as far below 1 as above it
        low = quintic(found[-1], low)
        high = 2 - low
    return found


def test_each_is_the_nearest_to_one_after_those_before_it():
    """To the digits that float64 leaves: around 1 alone, four equations become three."""
    for index, (ours, expected) in enumerate(zip(POLAR_EXPRESS[:-1], computed(7), strict=True)):
        assert ours == pytest.approx(expected, rel=1e-13 if index < 6 else 1e-9), index


def test_the_last_one_is_newton_schulzs_of_fifth_order():
    """p(1) = 1 with no slope and no curvature there: what the nearest one tends to around 1."""
    a, b, c = POLAR_EXPRESS[-1]
    assert (a + b + c, a + 3 * b + 5 * c, 6 * b + 20 * c) == (1, 0, 0)


@pytest.mark.parametrize("index", range(5))
def test_no_other_quintic_is_nearer(index):
    """Four errors of one size and changing sign: Chebyshev's mark of the best of three numbers."""
    low, high = LOWEST, 1.0
    for each in POLAR_EXPRESS[:index]:
        low = quintic(each, low)
        high = 2 - low
    low = max(low, CUSHION * high)
    s = torch.linspace(low, high, 200_001, dtype=torch.float64)
    values = quintic(POLAR_EXPRESS[index], s)
    centre = (values.min() + values.max()) / 2  # the scaling that a cushion asks for moves all
    error = values / centre - 1
    peaks = error.abs() > (1 - 1e-6) * error.abs().max()
    signs = error[peaks].sign()
    assert 1 + signs.diff().ne(0).sum() == 4


def test_all_but_the_last_keep_a_distance():
    *safe, last = polynomials("polar_express", 8)
    for (a, b, c), theirs in zip(safe, POLAR_EXPRESS[:-1], strict=True):
        for s in (0.001, 0.5, 1.0):
            assert a * s + b * s**3 + c * s**5 == pytest.approx(quintic(theirs, s / SAFETY))
    assert last == POLAR_EXPRESS[-1]
    assert polynomials("polar_express", 10) == [*safe, last, last, last]


def test_jordans_is_one_for_all():
    assert polynomials("jordan", 3) == [NS_COEFFICIENTS] * 3


@pytest.mark.parametrize(
    ("coefficients", "steps", "lowest", "highest"),
    [
        ("jordan", 5, 0.47, 1.20),
        ("jordan", 7, 0.68, 1.13),
        ("jordan", 30, 0.68, 1.13),
        ("polar_express", 5, 0.85, 1.12),
        ("polar_express", 8, 1.0, 1.0),
    ],
)
def test_iterations_lead_to_where_the_docs_say(coefficients, steps, lowest, highest):
    s = torch.logspace(-3, 0, 200_001, dtype=torch.float64)
    for each in polynomials(coefficients, steps):
        s = quintic(each, s)
    assert (round(s.min().item(), 2), round(s.max().item(), 2)) == (lowest, highest)


# --- On matrices --------------------------------------------------------------------------------


def conditioned(rows: int, columns: int, smallest: float) -> Tensor:
    """Random directions, singular values from 1 to the smallest in equal ratios."""
    torch.manual_seed(0)
    U = torch.linalg.qr(torch.randn(rows, rows, dtype=torch.float64))[0]
    V = torch.linalg.qr(torch.randn(columns, rows, dtype=torch.float64))[0]
    return U @ torch.diag(torch.logspace(0, torch.tensor(smallest).log10(), rows).double()) @ V.T


def some_matrices() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "random": torch.randn(12, 30, dtype=torch.float64, generator=generator),
        "square": torch.randn(16, 16, dtype=torch.float64, generator=generator),
        "ill-conditioned": conditioned(12, 30, 1e-4),
    }


MATRICES = some_matrices()
OF_MATRICES = pytest.mark.parametrize("X", MATRICES.values(), ids=MATRICES)


def by_singular_values(X: Tensor, coefficients: str, steps: int) -> Tensor:
    """The same from the matrix's singular values, each taken through the polynomials by itself."""
    U, S, Vh = torch.linalg.svd(X, full_matrices=False)
    s = S / S.norm()
    for each in polynomials(coefficients, steps):
        s = quintic(each, s)
    return U @ torch.diag(s) @ Vh


@EACH
@STEPS
@OF_MATRICES
def test_singular_values_go_through_the_polynomials(X, steps, coefficients):
    expected = by_singular_values(X, coefficients, steps)
    found = orthogonalise(X[None], steps, coefficients)[0]
    assert_near(found, expected, 1e-5)  # NS_EPSILON moves them by 1e-7, an iteration by eight times
    assert_near(orthogonalise_in_float32(X[None], steps, coefficients)[0].double(), expected, 1e-4)


@EACH
@OF_MATRICES
def test_in_bfloat16_they_do_so_to_its_rounding(X, coefficients):
    """2^-8 a product, amplified by what follows: in directions that are above it, that is."""
    U, S, Vh = torch.linalg.svd(X, full_matrices=False)
    seen = S / S.norm() > 2**-7
    expected = by_singular_values(X, coefficients, 5)
    found = orthogonalise_in_bfloat16(X[None], 5, coefficients)[0].double()
    assert_near(*(U.T[seen] @ each @ Vh.T[:, seen] for each in (found, expected)), 0.06)
    assert torch.linalg.svdvals(found)[0] < 1.2


def distance(X: Tensor, coefficients: str, steps: int = 5) -> float:
    """From the nearest semi-orthogonal matrix, U V^T of X's singular vectors: the largest error."""
    U, _, Vh = torch.linalg.svd(X, full_matrices=False)
    found = orthogonalise(X[None], steps, coefficients)[0]
    return torch.linalg.matrix_norm(found - U @ Vh, ord=2).item()


@pytest.mark.parametrize("name", ["random", "square"])
def test_polar_express_comes_nearer_to_the_polar_factor(name):
    X = MATRICES[name]
    assert distance(X, "polar_express") < 0.2 < 0.25 < distance(X, "jordan")
    assert distance(X, "polar_express", 8) < 1e-10 < 0.1 < distance(X, "jordan", 8)


def test_five_steps_bring_what_the_list_is_made_for_near_one():
    """A value of 1e-3 of the norm comes within 0.2 of 1, where jordan's end at 0.68 to 1.14."""
    X = conditioned(12, 30, 3e-3)
    assert torch.linalg.svdvals(X)[-1] / X.norm() > LOWEST
    assert distance(X, "polar_express") < 0.2 < 0.25 < distance(X, "jordan")
    tiny = conditioned(12, 30, 1e-4)  # below what both are made for in five steps
    assert distance(tiny, "polar_express") < distance(tiny, "jordan")
