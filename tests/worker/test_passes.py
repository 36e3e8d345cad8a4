"""Steps by a closure: as many passes as it is called, counted, and buffers as after one."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.border.options import MODEL_OPTIONS, OWN, OwnOptimizer
from bench.border.spec import Optimizer, RunSpec
from bench.worker.passes import Passes
from tests.builders.worker_cells import run, spec_of

TEXT = """
import torch

class Plain(torch.optim.SGD):
    pass

class Thrice(torch.optim.SGD):
    def step(self, closure):
        for _ in range(3):
            closure()
        super().step()

class Optional(torch.optim.SGD):
    def step(self, closure=None):
        for _ in range(2 if closure else 0):
            closure()
        super().step()

class OfModel(torch.optim.SGD):
    def __init__(self, model, lr):
        assert isinstance(model, torch.nn.Module)
        super().__init__(model.parameters(), lr=lr)

class OfNames(torch.optim.SGD):
    def __init__(self, named, lr):
        named = list(named)
        assert all(isinstance(name, str) for name, _ in named), named
        super().__init__([each for _, each in named], lr=lr)
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cell with a class of the text above."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "by_closure.py").write_text(TEXT)
    importlib.invalidate_caches()

    def spec(name: str, **options: Any) -> RunSpec:
        own = OwnOptimizer(f"by_closure:{name}", {"lr": 0.1}, **options)
        return dataclasses.replace(spec_of(), optimizer=Optimizer("own", OWN, own))

    return spec


def losses(ran: Any) -> list[str]:
    assert ran.result["status"] == "ok", ran.result["reason"]
    return ran.column("steps.csv", "loss")


GROUPED = {
    "hidden": {"settings": {}},
    "other": {"class": "by_closure:Plain", "settings": {"lr": 0.1}},
}


@pytest.mark.parametrize(
    ("name", "options", "passes"),
    [
        ("Plain", {}, 1),
        ("Thrice", {}, 3),
        ("Thrice", {"leaves": "matrices"}, 3),
        ("Thrice", {"groups": GROUPED}, 4),  # the group's own needs gradients first
        ("Optional", {}, 1),
        ("Optional", {"wants": ["closure"]}, 2),
        ("OfModel", {"wants": ["model"]}, 1),
        ("OfNames", {"wants": ["named_parameters"]}, 1),
        ("OfNames", {"wants": ["named_parameters"], "leaves": "matrices"}, 1),
    ],
)
def test_passes_are_counted_and_change_no_loss_of_their_own(tmp_path, spec, name, options, passes):
    ran = run(tmp_path, spec(name, **options))
    assert ran.row["passes_per_step"] == passes
    if "groups" not in options:  # there, the second one computes where the first has stepped
        plain = run(tmp_path, spec("Plain", leaves=options.get("leaves", "parameters")))
        assert losses(ran) == losses(plain)


def test_a_router_learns_once_a_step_however_many_passes_it_takes(tmp_path, spec):
    """At a rate of 0 only the bias of the choice changes: by passes, three times as much."""
    kimi = MODEL_OPTIONS["nanokimi"](
        n_embd=8, n_layer=1, n_head=2, gating="topk", top_k=1, balance="bias", bias_rate=0.5
    )

    def ended(name: str) -> list[str]:
        own = spec(name)
        still = dataclasses.replace(own.optimizer.options, settings={"lr": 0.0})
        return losses(
            run(
                tmp_path,
                dataclasses.replace(
                    own,
                    model=dataclasses.replace(own.model, base="nanokimi", options=kimi),
                    optimizer=dataclasses.replace(own.optimizer, options=still),
                ),
            )
        )

    assert len(set(ended("Plain"))) > 1
    assert ended("Thrice") == ended("Plain")


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.zeros(1))
        self.at: list[float] = []

    def loss(self) -> tuple[torch.Tensor, torch.Tensor]:
        self.at.append(self.seen.item())
        self.seen += 1
        loss = (self.weight**2).sum()
        loss.backward()
        return loss, loss


def test_every_pass_begins_where_the_first_began():
    model = Counting()
    passes = Passes(model, model.loss)
    for _ in range(3):
        with torch.no_grad():
            passes()
        assert (model.seen.item(), model.weight.grad.item()) == (1, 2)
    assert model.at == [0, 0, 0]
    assert (passes.count, passes.loss.item()) == (3, 1)
