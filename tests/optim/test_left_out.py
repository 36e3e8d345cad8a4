"""What a step leaves as it is: frozen parameters, those without gradients, those it refuses."""

import re
from dataclasses import asdict

import pytest
import torch
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
from tests.builders.layouts import (
    step_all,
)

EVERY = pytest.mark.parametrize(
    ("module", "options"),
    [
        (adamw, AdamWOptions()),
        (sgd, SGDOptions(weight_decay=0.1)),
        (truemuon, TrueMuonOptions()),
        (truemuon, TrueMuonOptions(momentum_form="nesterov", update_scale="match_rms")),
        (muon, MuonOptions()),
        (muon, MuonOptions(second_moment="rows", cautious_decay=True)),
        (muon, MuonOptions(second_moment="elements")),
        (muonclip, MuonClipOptions(tau=1.0)),
    ],
    ids=[
        *("adamw", "sgd", "truemuon", "truemuon-switched"),
        *("muon", "muon-rows", "muon-elements", "muonclip"),
    ],
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
    [
        (adamw, AdamWOptions()),
        (sgd, SGDOptions()),
        (truemuon, TrueMuonOptions()),
        (muon, MuonOptions()),
        (muon, MuonOptions(second_moment="rows")),
        (muonclip, MuonClipOptions()),
    ],
    ids=["adamw", "sgd", "truemuon", "muon", "muon-rows", "muonclip"],
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
            "w has a sparse gradient, which muon cannot use",
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


@pytest.mark.parametrize(
    ("module", "options"),
    [(truemuon, TrueMuonOptions()), (muon, MuonOptions()), (muon, MuonOptions(ns_dtype="float32"))],
    ids=["truemuon", "muon", "muon-float32"],
)
def test_matrices_of_two_formats_are_apart(module, options):
    both = [matrix("a", torch.randn(2, 3)), matrix("b", torch.randn(2, 3).double())]
    alone = [matrix(stack.names[0], stack.parameter.detach().clone()) for stack in both]
    build_and_step(module, options, *both)
    for stack, expected in zip(both, alone, strict=True):
        build_and_step(module, options, expected)
        assert torch.equal(stack.parameter, expected.parameter)
