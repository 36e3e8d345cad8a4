"""What is told of a model that somebody brings, where it does not tell itself."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.border.logical import Stack
from bench.border.options import OwnModel
from bench.worker.own_model import BroughtModel, derived_stacks, onto_vocabulary, widths
from tests.builders.own_code import MODEL

NUMBERS = itertools.count()
V, d = 11, 4


class Tied(nn.Module):
    def __init__(self, V: int = V, tied: bool = True) -> None:
        super().__init__()
        self.token = nn.Embedding(V, d)
        self.first = nn.Linear(d, V)  # as wide as the vocabulary, and not the last
        self.mix = nn.Conv1d(d, d, 3)
        self.norm = nn.LayerNorm(d)
        self.raw = nn.Parameter(torch.zeros(2, 3))
        self.last = nn.Linear(d, V)
        self.head = nn.Linear(d, V, bias=False)
        if tied:
            self.head.weight = self.token.weight


def stacks_of(tied: bool) -> list[Stack]:
    module = Tied(tied=tied)
    return derived_stacks(module, onto_vocabulary(module, widths(Tied(V + 1, tied))))


def roles(tied: bool) -> dict[str, str]:
    return {stack.names[0]: stack.role for stack in stacks_of(tied)}


def test_roles_follow_from_the_layers():
    assert roles(tied=True) == {
        "token.weight": "embedding",
        "first.weight": "hidden",
        "first.bias": "vector",
        "mix.weight": "vector",  # three dimensions: only its author knows the matrices
        "mix.bias": "vector",
        "norm.weight": "vector",
        "norm.bias": "vector",
        "raw": "hidden",
        "last.weight": "hidden",  # the head is the last one onto the vocabulary, and is tied
        "last.bias": "vector",
    }
    assert roles(tied=False)["head.weight"] == "head"


def test_every_parameter_is_in_one_stack_as_it_lies():
    model = Tied()
    stacks = derived_stacks(model, [])
    assert [id(stack.parameter) for stack in stacks] == [id(each) for each in model.parameters()]
    for stack in stacks:
        assert stack.view(stack.parameter).shape == (1, *stack.parameter.shape)


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BroughtModel:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"brought_model_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(MODEL)
    return BroughtModel(OwnModel(f"{name}:build", {"n_embd": 8}), V, 6)


def test_weights_follow_from_the_seed_alone(brought: BroughtModel) -> None:
    def drawn(seed: int) -> list[torch.Tensor]:
        brought.draw(seed, torch.device("cpu"))
        return [parameter.detach().clone() for parameter in brought.parameters()]

    first = drawn(1)
    torch.rand(3)
    assert all(map(torch.equal, first, drawn(1)))
    assert not all(map(torch.equal, first, drawn(2)))


def test_a_drawn_model_is_new_whatever_the_old_one_kept(brought: BroughtModel) -> None:
    brought.draw(1, torch.device("cpu"))
    old = brought.module
    old.calls = 5
    old.past.zero_()
    brought.draw(1, torch.device("cpu"))
    assert not hasattr(brought.module, "calls")
    assert brought.module.past.any()
    assert len(list(brought.parameters())) == len(brought.stacks())


def test_what_it_does_not_tell_is_unknown(brought: BroughtModel) -> None:
    brought.draw(1, torch.device("cpu"))
    assert (brought.n_params_active(), brought.flops_per_token()) == (None, None)
    brought.module.flops_per_token = lambda: 12
    assert brought.flops_per_token() == 12
