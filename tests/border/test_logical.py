"""Stacks show logical tensors; initialisation draws each from its own stream."""

import pytest
import torch
from torch import nn

from bench.border.logical import Stack, assert_covers, initialise
from tests.builders.reference import stream


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.arange(torch.Size(shape).numel()).float().view(shape))


def test_a_stack_shows_its_parameter_as_logical_matrices():
    stack = Stack(("a", "b"), "hidden", parameter(4, 2), (2, 2))
    assert stack.view(stack.parameter).tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]


def test_a_transposed_stack_shows_each_matrix_transposed():
    stack = Stack(("a", "b"), "hidden", parameter(6, 2), (2, 3), transposed=True)
    assert stack.view(stack.parameter).tolist() == [
        [[0, 2, 4], [1, 3, 5]],
        [[6, 8, 10], [7, 9, 11]],
    ]


def test_a_view_writes_through():
    stack = Stack(("a", "b"), "hidden", parameter(6, 2), (2, 3), transposed=True)
    stack.view(stack.parameter.data)[1, 0, 2] = -1.0  # row 0, column 2 of b
    assert stack.parameter[3 + 2, 0] == -1.0


def test_a_stack_of_the_wrong_size_is_refused():
    with pytest.raises(ValueError, match=r"a: 2 tensors of .* are 12 numbers, .* has 8"):
        Stack(("a", "b"), "hidden", parameter(4, 2), (2, 3))


@pytest.mark.parametrize(("names", "heads", "transposed"), [("abc", 2, False), ("ab", 2, True)])
def test_matrices_that_are_no_heads_are_refused(names, heads, transposed):
    with pytest.raises(ValueError, match=r"a: \d matrices are no projections of 2 heads: give"):
        Stack(
            tuple(names),
            "hidden",
            parameter(2 * len(names), 3),
            (2, 3),
            heads=heads,
            transposed=transposed,
        )


def test_joined_heads_are_one_matrix_a_projection():
    names = ("query.0", "query.1", "key.0", "key.1")
    stack = Stack(names, "hidden", parameter(4, 3), (1, 3), heads=2)
    joined = stack.joined()
    assert (joined.names, joined.shape, joined.heads) == (("query.0", "key.0"), (2, 3), 1)
    assert joined.parameter is stack.parameter
    assert joined.view(joined.parameter).equal(stack.view(stack.parameter).view(2, 2, 3))


def test_a_stack_without_heads_is_joined_as_it_is():
    vector = Stack(("bias",), "vector", parameter(3), (3,))
    assert vector.joined() is vector


def test_each_initialisation_draws_its_distribution():
    n = 100_000
    stacks = [
        Stack((init,), "vector", nn.Parameter(torch.empty(n)), (n,), init, fan_in=25)
        for init in ("uniform", "normal", "ones", "zeros")
    ]
    initialise(stacks, stream(1))
    uniform, normal, ones, zeros = (stack.parameter.detach() for stack in stacks)

    thousandths = torch.linspace(0, 1, 1001)
    expected = (2 * thousandths - 1) / 5  # within ±1/sqrt(25)
    torch.testing.assert_close(uniform.quantile(thousandths), expected, rtol=0, atol=0.002)
    assert uniform.abs().max() <= 1 / 5
    assert normal.mean().item() == pytest.approx(0, abs=0.01)
    assert normal.std().item() == pytest.approx(1, abs=0.01)
    assert normal.abs().lt(1).double().mean().item() == pytest.approx(0.683, abs=0.01)
    assert ones.eq(1).all()
    assert zeros.eq(0).all()


def drawn(names: tuple[str, ...], seed: int = 1, transposed: bool = False) -> dict[str, list]:
    stack = Stack(
        names,
        "hidden",
        nn.Parameter(torch.empty(6 * len(names))),
        (2, 3),
        fan_in=3,
        transposed=transposed,
    )
    initialise([stack], stream(seed))
    return dict(zip(names, stack.view(stack.parameter).tolist(), strict=True))


def test_a_draw_depends_on_seed_and_name_alone():
    assert drawn(("a", "b", "c"))["b"] == drawn(("b",))["b"] == drawn(("b", "a"))["b"]
    assert drawn(("b",))["b"] != drawn(("a",))["a"]
    assert drawn(("b",))["b"] != drawn(("b",), seed=2)["b"]


def test_a_transposed_stack_draws_the_same_logical_matrices():
    assert drawn(("a", "b"), transposed=True) == drawn(("a", "b"))


def test_a_draw_is_float32_whatever_the_parameter_is():
    names, shape = ("a",), (4, 5)
    single = Stack(names, "hidden", nn.Parameter(torch.empty(shape)), shape, fan_in=5)
    double = Stack(names, "hidden", nn.Parameter(torch.empty(shape).double()), shape, fan_in=5)
    initialise([single, double], stream(1))
    assert torch.equal(double.parameter, single.parameter.double())


def test_coverage_finds_missing_and_doubled_parameters():
    model = nn.Linear(2, 3)
    weight = Stack(("weight",), "hidden", model.weight, (3, 2))
    bias = Stack(("bias",), "vector", model.bias, (3,))
    assert_covers([bias, weight], model)
    for stacks in ([weight], [weight, bias, bias], [weight, weight]):
        with pytest.raises(AssertionError, match="of 2 parameters"):
            assert_covers(stacks, model)
