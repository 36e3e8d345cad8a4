"""What optimizers hold is counted, however they keep it; a statistic that fails is empty."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_optimizer
import torch
from torch import Tensor, nn

from bench.border.logical import AttentionLogits, Stack
from bench.border.options import MuonOptions, TrueMuonOptions
from bench.optim import muon, truemuon
from bench.optim.leaves import Leaves, OnLeaves
from bench.worker.holdings import held_bytes
from bench.worker.protocol import told

FLOAT = 4  # bytes


class Keeps(torch.optim.Optimizer):
    """Whatever it is given, at the named place."""

    def __init__(self, model: nn.Module, kept: Any, place: str = "attribute") -> None:
        super().__init__(model.parameters(), {"lr": 0.1})
        if place == "attribute":
            self.kept = kept
        elif place == "by name":
            self.state["kept"] = kept
        else:
            self.state[self.param_groups[0]["params"][0]] = kept

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        pass


@dataclass
class Pair:
    one: Tensor
    others: list[Tensor] = field(default_factory=list)


class Slotted:
    __slots__ = ("missing", "one")

    def __init__(self, one: Tensor) -> None:
        self.one = one


def ten() -> Tensor:
    return torch.zeros(10)


@pytest.mark.parametrize("place", ["attribute", "by name", "by parameter"])
@pytest.mark.parametrize(
    ("keep", "numbers"),
    [
        (lambda: {"m": ten(), "v": ten()}, 20),
        (lambda: {"both": [ten(), (ten(), {"deep": ten()})]}, 30),
        (lambda: {"set": {ten()}, "step": 3, "name": "text"}, 10),
        (lambda: {"pair": Pair(ten(), [ten()])}, 20),
        (lambda: {"slots": Slotted(ten()), "space": SimpleNamespace(a=ten())}, 20),
        (lambda: {"net": nn.Linear(4, 5)}, 25),
        (lambda: {"none": None, "count": 7}, 0),
    ],
)
def test_tensors_are_found_wherever_they_are_kept(keep, numbers, place):
    model = nn.Linear(2, 2)
    assert held_bytes([Keeps(model, keep(), place)], model) == FLOAT * numbers


@pytest.mark.parametrize("kept", [0, None, [1, 2], "text"])
def test_what_is_no_dict_of_tensors_is_no_trouble(kept):
    model = nn.Linear(2, 2)
    for place in ("by name", "by parameter"):
        assert held_bytes([Keeps(model, kept, place)], model) == 0


def test_memory_counts_once_and_the_models_does_not():
    model = nn.BatchNorm1d(8)
    model(torch.randn(4, 8)).sum().backward()
    flat = torch.zeros(100)
    kept = [flat, flat[10:20], flat.view(10, 10), flat]
    kept += [model.weight, model.weight.grad, model.running_mean, model.bias.detach()[2:]]
    assert held_bytes([Keeps(model, kept), Keeps(model, kept)], model) == FLOAT * 100


def test_what_holds_itself_is_walked_once():
    model = nn.Linear(2, 2)
    kept: dict[str, Any] = {"mine": ten()}
    kept["itself"] = kept
    assert held_bytes([Keeps(model, kept)], model) == FLOAT * 10


def test_sparse_tensors_are_their_indices_and_values():
    model = nn.Linear(2, 2)
    assert held_bytes([Keeps(model, [torch.eye(5).to_sparse()])], model) == 5 * FLOAT + 2 * 5 * 8


def test_what_tells_of_the_model_is_not_looked_into():
    """An optimizer of attention heads keeps the stacks, which lead to the model's own logits."""
    model = nn.ParameterList([torch.randn(4, 6)])
    stack = Stack(("w",), "hidden", model[0], (4, 6), logits=AttentionLogits(largest=ten()))
    assert held_bytes([Keeps(model, [stack])], model) == 0


def hidden(parameter: nn.Parameter, transposed: bool = False) -> Stack:
    return Stack(("w",), "hidden", parameter, (4, 6), transposed=transposed)


def test_the_work_space_of_batches_and_the_copies_of_leaves_count():
    model = nn.ParameterList([torch.randn(4, 6)])
    assert held_bytes(truemuon.build([hidden(model[0])], TrueMuonOptions()), model) == FLOAT * 48
    assert held_bytes(muon.build([hidden(model[0])], MuonOptions()), model) == FLOAT * 48
    rows, elements = (
        held_bytes(muon.build([hidden(model[0])], MuonOptions(second_moment=kind)), model)
        for kind in ("rows", "elements")
    )
    assert (rows, elements) == (FLOAT * (48 + 4), FLOAT * (48 + 24))
    assert held_bytes([momentum_on_leaves(hidden(model[0]))], model) == FLOAT * 24
    stored = nn.ParameterList([torch.randn(6, 4)])
    copied = momentum_on_leaves(hidden(stored[0], transposed=True))
    assert held_bytes([copied], stored) == FLOAT * 48


def momentum_on_leaves(stack: Stack) -> OnLeaves:
    stack.parameter.grad = torch.ones_like(stack.parameter)
    leaves = Leaves([stack])
    optimizer = OnLeaves(leaves, torch.optim.Muon(leaves.tensors))
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


@pytest.mark.parametrize(
    ("make", "numbers"),
    [
        (lambda p: torch.optim.AdamW(p), lambda n: 2 * n + 2),  # and a count each
        (lambda p: torch.optim.SGD(p, momentum=0.9), lambda n: n),
        # Ten directions and ten steps at the most, of the last gradient and direction one.
        (lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=4, history_size=10), None),
        (lambda p: pytorch_optimizer.SOAP(p), None),
        (lambda p: pytorch_optimizer.Kron(p), None),
    ],
    ids=["adamw", "sgd", "lbfgs", "soap", "kron"],
)
def test_well_known_optimizers(make, numbers):
    torch.manual_seed(0)
    model = nn.ParameterList([torch.randn(16, 16), torch.randn(16, 32)])
    optimizer = make(list(model.parameters()))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = sum((parameter**4).sum() for parameter in model)
        loss.backward()
        return loss

    for _ in range(3):
        closure()
        optimizer.step(closure)
    n = sum(parameter.numel() for parameter in model)
    found = held_bytes([optimizer], model) / FLOAT
    if numbers is None:
        assert found > 2 * n  # more than their direct tensors
    else:
        assert found == numbers(n)


def test_a_statistic_that_fails_is_none_and_says_so(capfd):
    def fails() -> int:
        raise KeyError("nothing")

    assert told("figure", lambda: 3) == 3
    assert told("figure", fails) is None
    assert capfd.readouterr().err == "figure is not known: KeyError: 'nothing'\n"
