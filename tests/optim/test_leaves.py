"""Optimizers that know matrices alone, over parameters that hold several."""

import pytest
import torch
from torch import Tensor, nn

from bench.border.logical import Stack, initialise
from bench.border.options import NanoKimiOptions
from bench.models import nanokimi
from bench.models.decoder import Decoder
from bench.optim.leaves import Leaves, OnLeaves
from tests.builders.reference import stream


def make() -> Decoder:
    """Every role; matrices stacked as they are, and transposed."""
    model = nanokimi.build(NanoKimiOptions(n_embd=8, n_layer=1, n_head=2, n_experts=3), 11, 7)
    initialise(model.stacks(), stream(1))
    return model


def hidden(model: Decoder) -> list[Stack]:
    return [stack for stack in model.stacks() if stack.role == "hidden"]


def set_gradients(model: Decoder, seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)


def test_there_is_a_contiguous_leaf_for_each_logical_tensor():
    stacks = make().stacks()
    tensors = Leaves(stacks).tensors
    assert [leaf.shape for leaf in tensors] == [s.shape for s in stacks for _ in s.names]
    assert all(leaf.is_contiguous() and leaf.is_leaf for leaf in tensors)
    for stack in stacks:
        for leaf, value in zip(Leaves([stack]).tensors, stack.view(stack.parameter), strict=True):
            assert torch.equal(leaf, value)


def test_what_lies_as_it_is_takes_no_memory_of_its_own():
    stacks = make().stacks()
    for stack in stacks:
        leaf = Leaves([stack]).tensors[0]
        shared = leaf.data_ptr() == stack.parameter.data_ptr()
        assert shared == (not stack.transposed)
    assert any(stack.transposed for stack in stacks)


def test_an_elementwise_optimizer_does_the_same_on_leaves():
    one, other = make(), make()
    plain = torch.optim.AdamW(one.parameters(), lr=0.1)
    leaves = Leaves(other.stacks())
    on_leaves = OnLeaves(leaves, torch.optim.AdamW(leaves.tensors, lr=0.1))
    for step in range(3):
        for model, optimizer in ((one, plain), (other, on_leaves)):
            set_gradients(model, step)
            optimizer.step()
            optimizer.zero_grad()
            assert all(parameter.grad is None for parameter in model.parameters())
    for parameter, same in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(parameter, same, rtol=1e-6, atol=1e-7)


def test_a_matrix_optimizer_does_as_with_matrices_apart():
    model = make()
    apart: list[Tensor] = [
        nn.Parameter(matrix.detach().clone())
        for stack in hidden(model)
        for matrix in stack.view(stack.parameter)
    ]
    leaves = Leaves(hidden(model))
    muon = OnLeaves(leaves, torch.optim.Muon(leaves.tensors, lr=0.1))
    reference = torch.optim.Muon(apart, lr=0.1)
    for step in range(2):
        set_gradients(model, step)
        gradients = [g for s in hidden(model) for g in s.view(s.parameter.grad)]
        for matrix, gradient in zip(apart, gradients, strict=True):
            matrix.grad = gradient.clone()
        muon.step()
        reference.step()
    found = [matrix for stack in hidden(model) for matrix in stack.view(stack.parameter)]
    for matrix, same in zip(apart, found, strict=True):
        assert torch.equal(matrix, same)


def test_weights_that_somebody_else_changed_are_seen():
    """Another optimizer's clip, a restored checkpoint: a copy must not bring the old ones back."""
    model = make()
    leaves = Leaves(hidden(model))
    optimizer = OnLeaves(leaves, torch.optim.SGD(leaves.tensors, lr=0.0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(2.0)
    set_gradients(model, 0)
    optimizer.step()
    assert all(bool((parameter == 2.0).all()) for parameter in model.parameters())


def test_a_parameter_without_a_gradient_is_left_alone():
    model = make()
    leaves = Leaves(hidden(model))
    optimizer = OnLeaves(leaves, torch.optim.SGD(leaves.tensors, lr=1.0))
    set_gradients(model, 0)
    optimizer.step()
    unused = hidden(model)[-1].parameter
    before = unused.detach().clone()
    unused.grad = None
    optimizer.step()
    assert torch.equal(unused, before)


def test_a_gradient_may_lie_in_another_order_than_its_parameter():
    parameter = nn.Parameter(torch.zeros(2, 3, 4))
    leaves = Leaves([Stack(("w",), "hidden", parameter, (6, 4))])
    gradient = torch.arange(24.0).view(2, 3, 4)
    parameter.grad = gradient.transpose(0, 1).contiguous().transpose(0, 1)
    OnLeaves(leaves, torch.optim.SGD(leaves.tensors, lr=1.0)).step()
    assert torch.equal(parameter, -gradient)


def test_a_closure_sees_the_weights_that_the_optimizer_tries():
    model = make()
    leaves = Leaves(hidden(model))
    optimizer = OnLeaves(leaves, torch.optim.LBFGS(leaves.tensors, lr=0.1, max_iter=5))
    losses: list[float] = []

    def closure() -> Tensor:
        model.zero_grad()
        with torch.enable_grad():
            loss = sum((stack.parameter**2).sum() for stack in hidden(model))
        loss.backward()
        losses.append(loss.item())
        return loss

    optimizer.step(closure)
    assert len(losses) > 2
    assert losses == sorted(losses, reverse=True)


def test_its_state_and_its_groups_are_those_of_the_inner_one():
    leaves = Leaves(hidden(make()))
    inner = torch.optim.SGD(leaves.tensors, lr=0.5, momentum=0.9)
    optimizer = OnLeaves(leaves, inner)
    assert optimizer.param_groups is inner.param_groups
    assert optimizer.state is inner.state
    assert isinstance(optimizer, torch.optim.Optimizer)
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups is inner.param_groups


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_mode_that_moves_weights_moves_those_of_the_model(mode):
    class Moving(torch.optim.SGD):
        def train(self) -> None:
            for leaf in self.param_groups[0]["params"]:
                leaf.data.fill_(3.0)

        eval = train

    model = make()
    leaves = Leaves(hidden(model))
    getattr(OnLeaves(leaves, Moving(leaves.tensors, lr=1.0)), mode)()
    assert all(bool((stack.parameter == 3.0).all()) for stack in hidden(model))
    getattr(OnLeaves(leaves, torch.optim.SGD(leaves.tensors, lr=1.0)), mode)()  # has no modes
