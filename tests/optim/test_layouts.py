"""Built-in optimizers on parameters of every layout: PyTorch's figures, or a name and a remedy."""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.border.logical import AttentionLogits, Stack
from bench.border.options import (
    AdamWOptions,
    MuonClipOptions,
    MuonOptions,
    SGDOptions,
    TrueMuonOptions,
)
from bench.optim import adamw, muon, muonclip, sgd, truemuon
from bench.optim.memory import by_memory, repeats_memory

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

# --- Layouts ------------------------------------------------------------------------------------

# Each makes, of a shape, a view and the tensor that it is a part of.
Layout = Callable[[tuple[int, ...], torch.dtype], tuple[Tensor, Tensor]]


def contiguous(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    base = torch.randn(shape, dtype=dtype)
    return base, base


def sliced(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Every second number of the last dimension, or one of a vector."""
    if not shape:
        base = torch.randn(3, dtype=dtype)
        return base[1], base
    base = torch.randn((*shape[:-1], 2 * shape[-1] + 1), dtype=dtype)
    return base[..., 1::2], base


def columns(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    if not shape:
        return sliced(shape, dtype)
    base = torch.randn((*shape[:-1], 3 * shape[-1]), dtype=dtype)
    return base.chunk(3, -1)[1] if shape[-1] else base, base


def transposed(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    base = torch.randn(shape[::-1], dtype=dtype)
    return turned(base), base


def turned(tensor: Tensor) -> Tensor:
    """Its dimensions in the opposite order."""
    return tensor.permute(tuple(reversed(range(tensor.ndim))))


def channels_last(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    if len(shape) < 3:
        return transposed(shape, dtype)
    base = torch.randn((shape[0], *shape[2:], shape[1]), dtype=dtype)
    return base.movedim(-1, 1), base


def expanded(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    base = torch.randn((1, *shape[1:]), dtype=dtype)
    return base.expand(shape) if shape else base[0], base


def overlapping(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    base = torch.randn(sum(shape) + 1, dtype=dtype)
    return base.as_strided(shape, (1,) * len(shape)), base


LAYOUTS = [contiguous, sliced, columns, transposed, channels_last, expanded, overlapping]
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


def gradient(like: Tensor, kind: str) -> Tensor | None:
    value = torch.randn(like.shape, dtype=like.dtype)
    match kind:
        case "none":
            return None
        case "alike":
            return torch.empty_like(like).copy_(value)
        case "transposed":
            return turned(turned(value).contiguous())
        case "expanded":
            return torch.randn((), dtype=like.dtype).expand(like.shape)
        case "sparse" if like.ndim and like.numel():
            return value.to_sparse()
    return value


def stacks_of(*tensors: nn.Parameter) -> list[Stack]:
    return [
        Stack((f"p{index}",), "vector", each, tuple(each.shape))
        for index, each in enumerate(tensors)
    ]


def dense_twin(made: Made) -> Tensor | None:
    return None if made.ours.grad is None else made.ours.grad.to_dense().clone()


def step_all(optimizers: list[torch.optim.Optimizer]) -> None:
    for optimizer in optimizers:
        optimizer.step()


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


# --- Parameters without gradients ---------------------------------------------------------------

EVERY = pytest.mark.parametrize(
    ("module", "options"),
    [
        (adamw, AdamWOptions()),
        (sgd, SGDOptions(weight_decay=0.1)),
        (truemuon, TrueMuonOptions()),
        (truemuon, TrueMuonOptions(momentum_form="nesterov", update_scale="match_rms")),
        (muon, MuonOptions()),
        (muonclip, MuonClipOptions(tau=1.0)),
    ],
    ids=["adamw", "sgd", "truemuon", "truemuon-switched", "muon", "muonclip"],
)
FORMS = {  # name -> role, shape of the parameter, number of matrices in it
    "qkv": ("hidden", (6, 4), 6),
    "first": ("hidden", (4, 4), 1),
    "second": ("hidden", (4, 4), 1),
    "up": ("hidden", (8, 4), 2),
    "token": ("embedding", (5, 4), 1),
    "bias": ("vector", (4,), 1),
    "scale": ("vector", (4,), 1),
}


class Toy:
    """Parameters of every role, each with a random gradient in the steps that it is given."""

    def __init__(self, module, options, names=tuple(FORMS), frozen=()) -> None:
        torch.manual_seed(7)
        self.stacks: list[Stack] = []
        for name, (role, shape, n) in FORMS.items():
            parameter = nn.Parameter(torch.randn(shape), requires_grad=name not in frozen)
            each = (shape[0] // n, *shape[1:])
            logits = AttentionLogits() if name == "qkv" else None
            stack = Stack(
                tuple(f"{name}.{index}" for index in range(n)),
                role,
                parameter,
                each,
                heads=2 if name == "qkv" else 1,
                logits=logits,
            )
            if name in names:
                self.stacks.append(stack)
        self.optimizers = module.build(self.stacks, options)

    def step(self, names: set[str], number: int) -> None:
        for stack in self.stacks:
            name = stack.names[0].partition(".")[0]
            torch.manual_seed(1000 * number + list(FORMS).index(name))
            value = torch.randn(stack.parameter.shape)
            stack.parameter.grad = value if name in names else None
            if stack.logits is not None and name in names:
                stack.logits.largest = torch.tensor([3.0, 0.5])
        for optimizer in self.optimizers:
            optimizer.step()

    def values(self) -> dict[str, Tensor]:
        return {stack.names[0]: stack.parameter.detach().clone() for stack in self.stacks}


@EVERY
@pytest.mark.parametrize("frozen", [{"qkv"}, {"second", "bias"}, set(FORMS) - {"up"}, set(FORMS)])
def test_frozen_parameters_stay_and_the_others_do_not_notice(module, options, frozen):
    toy, alone = Toy(module, options, frozen=frozen), Toy(module, options)
    before = toy.values()
    for number in range(3):
        toy.step(set(FORMS) - frozen, number)
        alone.step(set(FORMS), number)
    for name, value in toy.values().items():
        if name.partition(".")[0] in frozen:
            assert torch.equal(value, before[name]), name
        else:
            torch.testing.assert_close(value, alone.values()[name], rtol=1e-5, atol=1e-6)


@EVERY
def test_a_step_without_a_gradient_does_not_count(module, options):
    """As if the others had been trained alone: momenta, counts, decay and all."""
    some = {"first", "up", "token", "scale", "qkv"}
    toy, whole, part = (Toy(module, options) for _ in range(3))
    for number, names in enumerate((set(FORMS), some, set(), some, set(FORMS))):
        toy.step(names, number)
        whole.step(set(FORMS) if names else set(), number)
        if names == set(FORMS):
            part.step(names, number)
    for name, value in toy.values().items():
        expected = whole if name.partition(".")[0] in some else part
        torch.testing.assert_close(value, expected.values()[name], rtol=1e-5, atol=1e-6, msg=name)


@EVERY
def test_a_state_keeps_its_place_in_memory(module, options):
    """A CUDA graph repeats a step on the same memory: none of it may be made in a step."""
    toy = Toy(module, options)
    places = state_places(toy)
    assert places
    for number, names in enumerate((set(FORMS), {"up", "bias"}, set(FORMS))):
        toy.step(names, number)
        assert state_places(toy) == places


@pytest.mark.parametrize(
    ("module", "options"),
    [(adamw, AdamWOptions()), (sgd, SGDOptions()), (truemuon, TrueMuonOptions())],
    ids=["adamw", "sgd", "truemuon"],
)
def test_a_restored_state_keeps_its_place_in_memory(module, options):
    toy, other = Toy(module, options), Toy(module, options)
    places = state_places(toy)
    for ours, theirs in zip(toy.optimizers, other.optimizers, strict=True):
        ours.load_state_dict(theirs.state_dict())
    assert state_places(toy) == places


def state_places(toy: Toy) -> list[int]:
    return [
        value.data_ptr()
        for optimizer in toy.optimizers
        for state in optimizer.state.values()
        for value in state.values()
    ]


@pytest.mark.parametrize(
    ("module", "options"), [(adamw, AdamWOptions()), (sgd, SGDOptions())], ids=["adamw", "sgd"]
)
def test_frozen_parameters_have_no_state(module, options):
    toy = Toy(module, options, frozen={"token"})
    toy.step(set(FORMS) - {"token"}, 0)
    (optimizer,) = toy.optimizers
    token = next(stack.parameter for stack in toy.stacks if stack.role == "embedding")
    assert token not in optimizer.state
    assert len(optimizer.state) == len(FORMS) - 1
    token.requires_grad_(True)  # thawed later
    toy.step(set(FORMS), 1)
    assert optimizer.state[token]


def test_a_state_that_was_saved_before_its_first_step_is_none():
    toy, other = Toy(adamw, AdamWOptions()), Toy(adamw, AdamWOptions())
    toy.step(set(FORMS), 0)
    saved = torch.optim.AdamW([stack.parameter for stack in other.stacks]).state_dict()
    toy.optimizers[0].load_state_dict(saved)
    assert all(
        not value.any() for state in toy.optimizers[0].state.values() for value in state.values()
    )


# --- Refusals -----------------------------------------------------------------------------------


def matrix(name: str, tensor: Tensor, role="hidden", gradient: Tensor | None = None) -> Stack:
    parameter = nn.Parameter(tensor)
    parameter.grad = torch.ones(tensor.shape, dtype=tensor.dtype) if gradient is None else gradient
    return Stack((name,), role, parameter, tuple(tensor.shape))


@pytest.mark.parametrize(
    ("module", "options", "stack", "says"),
    [
        (
            adamw,
            AdamWOptions(),
            lambda: matrix("w", torch.ones(2, 3), gradient=torch.ones(2, 3).to_sparse()),
            "w has a sparse gradient, which adamw cannot use. Build its layer with sparse=False",
        ),
        (
            truemuon,
            TrueMuonOptions(),
            lambda: matrix("w", torch.ones(2, 3), gradient=torch.ones(2, 3).to_sparse()),
            "w has a sparse gradient, which truemuon cannot use",
        ),
        (
            muon,
            MuonOptions(),
            lambda: matrix("w", torch.ones(2, 3), gradient=torch.ones(2, 3).to_sparse()),
            "w has a sparse gradient, which an optimizer of single matrices cannot use",
        ),
        (
            truemuon,
            TrueMuonOptions(),
            lambda: matrix("w", torch.ones(2, 3, dtype=torch.complex64)),
            "w is of complex numbers, which truemuon cannot orthogonalise",
        ),
        (
            muon,
            MuonOptions(),
            lambda: matrix("w", torch.ones(2, 3, dtype=torch.complex64)),
            "w is of complex numbers, which muon cannot orthogonalise",
        ),
        *(
            (
                module,
                options,
                lambda: matrix("w", torch.ones(1, 3).expand(2, 3)),
                "w: several of its numbers are one in memory",
            )
            for module, options in (
                (adamw, AdamWOptions()),
                (sgd, SGDOptions()),
                (truemuon, TrueMuonOptions()),
                (muon, MuonOptions()),
            )
        ),
    ],
)
def test_what_cannot_be_updated_is_named_in_a_line(module, options, stack, says):
    with pytest.raises(ValueError, match="^" + re.escape(says)) as error:
        build_and_step(module, options, stack())
    assert "\n" not in str(error.value)


def build_and_step(module, options, *stacks: Stack) -> None:
    step_all(module.build(list(stacks), options))


@pytest.mark.parametrize("module", [adamw, sgd, truemuon, muon])
def test_what_is_not_updated_may_lie_as_it_likes(module):
    options = {
        adamw: AdamWOptions(),
        sgd: SGDOptions(),
        truemuon: TrueMuonOptions(),
        muon: MuonOptions(),
    }[module]
    odd, even = matrix("odd", torch.ones(1, 3).expand(2, 3)), matrix("even", torch.randn(2, 3))
    odd.parameter.grad = None
    before = even.parameter.detach().clone()
    build_and_step(module, options, odd, even)
    assert odd.parameter.eq(1).all()
    assert not torch.equal(even.parameter, before)


@pytest.mark.parametrize("form", [{}, {"nesterov": True, "weight_decay": 0.1}, {"momentum": 0.0}])
def test_sgd_takes_sparse_gradients_as_dense_ones(form):
    stack, twin = matrix("w", torch.ones(3, 2), "embedding"), torch.ones(3, 2, requires_grad=True)
    plain = torch.optim.SGD([twin], **asdict(SGDOptions(**form)))
    (optimizer,) = sgd.build([stack], SGDOptions(**form))
    for step in range(3):
        twin.grad = torch.zeros(3, 2)
        twin.grad[step] = 1.0
        stack.parameter.grad = twin.grad.to_sparse()
        optimizer.step()
        plain.step()
    torch.testing.assert_close(stack.parameter.detach(), twin.detach())


def test_matrices_of_two_formats_are_apart_under_truemuon():
    both = [matrix("a", torch.randn(2, 3)), matrix("b", torch.randn(2, 3).double())]
    alone = [matrix(stack.names[0], stack.parameter.detach().clone()) for stack in both]
    build_and_step(truemuon, TrueMuonOptions(), *both)
    for stack, expected in zip(both, alone, strict=True):
        build_and_step(truemuon, TrueMuonOptions(), expected)
        assert torch.equal(stack.parameter, expected.parameter)
