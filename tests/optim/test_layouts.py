"""Built-in optimizers on parameters of every layout: PyTorch's figures, or a name and a remedy."""

from dataclasses import asdict, dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.border.logical import Stack
from bench.border.options import (
    AdamWOptions,
    MuonOptions,
    SGDOptions,
    TrueMuonOptions,
)
from bench.optim import adamw, muon, sgd, truemuon
from bench.optim.memory import by_memory, repeats_memory
from tests.builders.layouts import (
    LAYOUTS,
    columns,
    gradient,
    sliced,
    stacks_of,
    step_all,
    transposed,
    turned,
)

# The same cases on every machine, however slow it is.
STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=100)
# A fused kernel sums in another order, and numbers that lie otherwise in memory are rounded in
# another one: to the last digit of a format, of numbers around 1.
TOLERANCES = {
    torch.float64: 1e-12,
    torch.complex128: 1e-12,
    torch.float32: 1e-5,
    torch.complex64: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64]
GRADIENTS = ["alike", "contiguous", "transposed", "expanded", "sparse", "none"]
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@dataclass
class Made:
    """A parameter, what its memory is part of, and a twin of it in PyTorch's hands."""

    ours: nn.Parameter
    base: Tensor
    theirs: nn.Parameter
    their_base: Tensor
    gradients: list[str]  # what is given at each step


@st.composite
def parameters(draw: st.DrawFn) -> Made:
    layout, dtype = draw(st.sampled_from(LAYOUTS)), draw(st.sampled_from(DTYPES))
    shape, seed = draw(SHAPES), draw(st.integers(0, 1000))
    requires_grad = draw(st.integers(0, 5)) > 0
    both = []
    for _ in range(2):
        torch.manual_seed(seed)
        view, base = layout(shape, dtype)
        both += [nn.Parameter(view, requires_grad=requires_grad), base]
    given = draw(st.lists(st.sampled_from(GRADIENTS), min_size=3, max_size=3))
    return Made(*both, given if requires_grad else ["none"] * 3)


def dense_twin(made: Made) -> Tensor | None:
    return None if made.ours.grad is None else made.ours.grad.to_dense().clone()


def steps_alike(made: list[Made], module, theirs, options, *, sparse: bool) -> None:
    """Three steps of both, or a refusal that names the parameter which cannot be updated."""
    ours = module.build(stacks_of(*(each.ours for each in made)), options)
    for step in range(3):
        for each in made:
            each.ours.grad = gradient(each.ours, each.gradients[step])
            each.theirs.grad = dense_twin(each)
        refused = {
            f"p{index}"
            for index, each in enumerate(made)
            if each.ours.grad is not None
            and (repeats(each.ours) or (each.ours.grad.is_sparse and not sparse))
        }
        if refused:
            with pytest.raises(ValueError, match=rf"^({'|'.join(refused)})\b.*$") as error:
                step_all(ours)
            assert "\n" not in str(error.value)
            return
        for optimizer in [*ours, theirs]:
            optimizer.step()
        for each in made:
            tolerance = TOLERANCES.get(each.ours.dtype, 0.0)
            torch.testing.assert_close(
                each.base, each.their_base, rtol=tolerance, atol=tolerance, equal_nan=True
            )


def repeats(tensor: Tensor) -> bool:
    """The slow way: every number's place is written down."""
    places = [0]
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        places = [place + index * stride for place in places for index in range(size)]
    return len(set(places)) < len(places)


@STEADY
@given(st.lists(parameters(), min_size=1, max_size=4))
def test_adamw_is_pytorchs_on_every_layout(made):
    theirs = torch.optim.AdamW([each.theirs for each in made], lr=0.01, foreach=False, fused=False)
    steps_alike(made, adamw, theirs, AdamWOptions(lr=0.01), sparse=False)


@STEADY
@given(
    st.lists(parameters(), min_size=1, max_size=4),
    st.sampled_from([(0.0, False, 0.0), (0.9, False, 0.0), (0.9, True, 0.1)]),
)
def test_sgd_is_pytorchs_on_every_layout(made, settings):
    options = SGDOptions(0.1, *settings)
    theirs = torch.optim.SGD(
        [each.theirs for each in made], **asdict(options), foreach=False, fused=False
    )
    steps_alike(made, sgd, theirs, options, sparse=True)


@pytest.mark.parametrize("kind", ["alike", "transposed", "expanded", "none"])
@pytest.mark.parametrize("module", [adamw, sgd])
def test_a_gradient_may_lie_otherwise_than_its_parameter(module, kind):
    torch.manual_seed(0)
    ours, theirs = torch.randn(3, 4), torch.zeros(3, 4)
    theirs.copy_(ours)
    made = Made(nn.Parameter(ours), ours, nn.Parameter(theirs), theirs, [kind, "contiguous", kind])
    if module is adamw:
        options, plain = AdamWOptions(), torch.optim.AdamW([made.theirs], foreach=False)
    else:
        options = SGDOptions()
        plain = torch.optim.SGD([made.theirs], **asdict(options), foreach=False)
    steps_alike([made], module, plain, options, sparse=False)


@given(SHAPES, st.sampled_from(LAYOUTS))
def test_memory_that_is_used_twice_is_found(shape, layout):
    view, _ = layout(shape, torch.float32)
    assert repeats_memory(view) == repeats(view)


# --- Cases of their own -------------------------------------------------------------------------


def test_only_contiguous_parameters_of_their_own_memory_go_to_the_fused_kernel():
    both = torch.randn(6, 4)
    fits = [torch.randn(3, 4), torch.randn(()), torch.randn(2, 3, dtype=torch.float64)]
    others = [
        torch.randn(4, 6)[:, :2],
        torch.randn(4, 6).t(),
        torch.randn(4).bfloat16(),
        torch.randn(4, dtype=torch.complex64),
        torch.randn(4, dtype=torch.complex64).conj().imag,
        both[:4],
        both[3:],
    ]
    fused, rest = by_memory(stacks_of(*map(nn.Parameter, [*fits, *others])))
    assert [stack.names[0] for stack in fused] == ["p0", "p1", "p2"]
    assert len(rest) == len(others)


@pytest.mark.parametrize(
    ("module", "options", "theirs"),
    [
        (adamw, AdamWOptions(lr=0.1), torch.optim.AdamW),
        (sgd, SGDOptions(), torch.optim.SGD),
    ],
    ids=["adamw", "sgd"],
)
def test_parameters_that_share_memory_are_updated_one_after_another(module, options, theirs):
    ours, plain = torch.ones(6), torch.ones(6)
    mine = [nn.Parameter(ours[:4]), nn.Parameter(ours[2:])]
    their = [nn.Parameter(plain[:4]), nn.Parameter(plain[2:])]
    extra = {"momentum": 0.9} if theirs is torch.optim.SGD else {}
    steps = [
        *module.build(stacks_of(*mine), options),
        theirs(their, lr=0.1, foreach=False, **extra),
    ]
    for _ in range(3):
        for parameter in (*mine, *their):
            parameter.grad = torch.arange(4.0)
        for optimizer in steps:
            optimizer.step()
    assert torch.equal(ours, plain)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
@pytest.mark.parametrize("layout", [sliced, columns, transposed])
@pytest.mark.parametrize(
    ("module", "options"),
    [(truemuon, TrueMuonOptions()), (muon, MuonOptions())],
    ids=["truemuon", "muon"],
)
def test_matrices_lie_as_they_like(shape, layout, module, options):
    """As contiguous ones, and nothing beside them changes."""
    torch.manual_seed(0)
    view, base = layout(shape, torch.float32)
    before = base.clone()
    odd, even = nn.Parameter(view), nn.Parameter(view.clone(memory_format=torch.contiguous_format))
    for parameter in (odd, even):
        stack = Stack(("a", "b"), "hidden", parameter, (shape[0] // 2, shape[1]))
        if parameter is odd:
            assert not parameter.is_contiguous()
        optimizers = module.build([stack], options)
        for step in range(3):
            torch.manual_seed(step)
            parameter.grad = turned(torch.randn(shape[::-1]))
            for optimizer in optimizers:
                optimizer.step()
    torch.testing.assert_close(odd, even, rtol=1e-5, atol=1e-6)
    view.detach().copy_(torch.zeros(shape))
    expected = before.clone()
    torch.as_strided(expected, view.shape, view.stride(), view.storage_offset()).zero_()
    assert torch.equal(base, expected)


def test_a_stack_that_memory_does_not_hold_is_refused():
    parameter = nn.Parameter(torch.randn(4, 3, 2).transpose(0, 1))
    with pytest.raises(ValueError, match=r"^w: in memory .*strides \(2, 6, 1\).*contiguous"):
        Stack(("w",), "hidden", parameter, (12, 2))
