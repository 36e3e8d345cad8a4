"""Steps and evaluations in CUDA graphs, as builders/recorded.py has them on a CPU."""

import dataclasses
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from bench.border.options import OWN, OwnModel, OwnOptimizer
from bench.border.spec import Model, Optimizer, RunSpec
from bench.matrix.expansion import load_matrix
from bench.worker import evaluation, training
from bench.worker.training import Trainer
from tests.builders.own_code import write_examples
from tests.builders.recorded import RecordedGraph, recorded_graphs
from tests.builders.worker_cells import Ran, asking, run, spec_of

BUILT_IN = ["adamw", "sgd", "truemuon", "muon", "muonclip"]
Graphs = list[RecordedGraph]


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graphs]:
    """Those that are captured; evaluations are of several chunks."""
    monkeypatch.setattr(evaluation, "EVAL_TOKENS", {"cpu": 32})
    with recorded_graphs() as found:
        yield found


def of_the_run(graphs: Graphs) -> Graphs:
    """Without the two that were tried out before."""
    return graphs[2:]


def evaluations(ran: Ran) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if name != "train_time_s"}
        for row in ran.table("curve.csv")
    ]


def assert_same(found: Ran, expected: Ran) -> None:
    """To the last digit."""
    assert found.result["status"] == expected.result["status"] == "ok", found.result["reason"]
    plain = expected.losses()
    assert found.losses() == {step: plain[step] for step in found.losses()}
    assert evaluations(found) == evaluations(expected)


# --- What runs in graphs ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "optimizer", "together"),
    [
        *((model, optimizer, 3) for model in ("nanogpt", "nanokimi") for optimizer in BUILT_IN),
        ("nanogpt", "adamw", 1),
        ("nanokimi", "truemuon", 5),
    ],
)
def test_graphs_have_the_losses_of_steps_by_themselves(
    tmp_path: Path, graphs: Graphs, model: str, optimizer: str, together: int
) -> None:
    """Also where what they launch at once does not fit between two evaluations."""
    spec = spec_of(model, optimizer, steps=22, every=7)
    found = run(tmp_path, asking(spec, graph_steps=together))
    assert_same(found, run(tmp_path, spec))
    assert found.row["graph_steps_share"] == 19 / 22
    assert found.row["compile_time_s"] > 0
    launched = [int(steps) for steps in found.column("steps.csv", "steps")]
    assert sum(launched) == 22
    assert set(launched) == {1, together}
    *steps, train, val = of_the_run(graphs)
    lengths = sorted({together, 1}, reverse=True)
    assert sum(n * each.replays for n, each in zip(lengths, steps, strict=True)) == 19
    assert train.replays == 2 * 4  # evaluations after the first one: a comparison, and a chunk
    assert val.replays > train.replays


@pytest.mark.parametrize("heartbeat_s", [1e-9, 1e9])
def test_however_often_it_reports_a_run_launches_whole_graphs(
    tmp_path: Path, graphs: Graphs, monkeypatch: pytest.MonkeyPatch, heartbeat_s: float
) -> None:
    monkeypatch.setattr(training, "HEARTBEAT_S", heartbeat_s)
    run(tmp_path, asking(spec_of(steps=22, every=11), graph_steps=4))
    four, one, *_ = of_the_run(graphs)
    assert (four.replays, one.replays) == (2 + 2, 0 + 3)  # from 3 to 11, and from there to 22


@pytest.mark.parametrize("kind", ["rows", "elements"])
def test_what_others_have_added_to_muon_runs_in_graphs(
    tmp_path: Path, graphs: Graphs, kind: str
) -> None:
    added = {"coefficients": "polar_express", "second_moment": kind, "cautious_decay": True}
    spec = spec_of("nanokimi", "muon", **added)
    in_graphs = run(tmp_path, asking(spec, graph_steps=2))
    assert_same(in_graphs, run(tmp_path, spec))
    assert of_the_run(graphs)


@pytest.mark.parametrize("model", ["nanogpt", "nanokimi"])
def test_a_decoder_of_today_runs_in_graphs(tmp_path: Path, graphs: Graphs, model: str) -> None:
    """Angles are read by every step and written by none."""
    spec = spec_of(model, "muon", steps=22, every=7)
    of_today = {"norm": "rmsnorm", "position": "rope", "qk_norm": True, "tied_head": True}
    options = dataclasses.replace(spec.model.options, activation="relu2", bias=False, **of_today)
    spec = dataclasses.replace(spec, model=Model("of-today", model, options))
    in_graphs = run(tmp_path, asking(spec, graph_steps=3))
    assert_same(in_graphs, run(tmp_path, spec))
    assert in_graphs.row["graph_steps_share"] == 19 / 22


def test_without_graphs_no_share_of_them_is_told(tmp_path: Path) -> None:
    assert run(tmp_path, spec_of()).row["graph_steps_share"] is None


SCHEDULES = {
    "cosine": {"schedule": "cosine", "warmup_steps": 5, "min_lr_share": 0.1},
    "wsd": {"schedule": "wsd", "decay_steps": 9},
    "warm-up": {"warmup_steps": 8},
}


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [*((optimizer, "cosine") for optimizer in BUILT_IN), ("adamw", "wsd"), ("muon", "warm-up")],
)
def test_a_schedule_and_clipping_go_on_within_a_graph(
    tmp_path: Path,
    graphs: Graphs,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
    schedule: str,
) -> None:
    spec = spec_of("nanokimi", optimizer, steps=22, every=7)
    spec = asking(spec, clip_norm=0.2, **SCHEDULES[schedule])
    in_graphs = run(tmp_path, asking(spec, graph_steps=5))
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_capture_if_due", lambda trainer, say: None)
        one_by_one = run(tmp_path, asking(spec, graph_steps=5))
    assert_same(in_graphs, one_by_one)
    assert in_graphs.row["graph_steps_share"] == 19 / 22
    assert one_by_one.row["graph_steps_share"] == 0
    plain = run(tmp_path, spec)  # of rates that are numbers of Python's
    for step, loss in in_graphs.losses().items():
        assert loss == pytest.approx(plain.losses()[step], rel=1e-5), step
    constant = run(tmp_path, asking(spec, schedule="constant", warmup_steps=0, **NO_DECAY))
    assert plain.losses()[21] != pytest.approx(constant.losses()[21], rel=1e-4)


NO_DECAY = {"decay_steps": 0, "min_lr_share": 0.0}


def test_narrow_weights_of_an_evaluation_are_those_of_its_own_step(
    tmp_path: Path, graphs: Graphs
) -> None:
    """Autocast keeps what it has narrowed until the evaluation ends, which a graph outlives.

    Of the training split there is less than a chunk: no graph of it narrows the weights anew.
    """
    spec = asking(spec_of("nanokimi", steps=22, every=7, lr=0.01), dtype="bfloat16")
    spec = dataclasses.replace(spec, eval=dataclasses.replace(spec.eval, train_windows=3))
    assert_same(run(tmp_path, asking(spec, graph_steps=3)), run(tmp_path, spec))


def test_a_compiled_model_is_what_a_graph_holds(
    tmp_path: Path, graphs: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the compiler's front, which leads back to PyTorch's operators: those can be recorded."""
    plain_compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: plain_compile(model, backend="aot_eager"))
    spec = asking(spec_of("nanokimi", "truemuon", steps=22, every=7), compile=True)
    found = run(tmp_path, asking(spec, graph_steps=5))
    assert_same(found, run(tmp_path, spec))
    assert found.row["graph_steps_share"] == 19 / 22


def test_capturing_leaves_all_as_it_was(tmp_path: Path, graphs: Graphs) -> None:
    """Weights, optimizer state, the place in the run, and the streams of random numbers."""
    seen: list[Any] = []

    def everything(trainer: Trainer) -> list[Any]:
        tensors = [*trainer.model.parameters(), *trainer.model.buffers(), trainer.losses]
        tensors += [
            value
            for optimizer in trainer.optimizers
            for state in optimizer.state.values()
            for value in state.values()
        ]
        assert trainer.on_device is not None
        copies = [each.detach().clone().tolist() for each in [*tensors, trainer.on_device.place]]
        streams = [random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()]
        return [copies, streams, trainer.model.training, trainer.done]

    plain = Trainer._capture_if_due

    def watched(trainer: Trainer, *arguments: Any) -> None:
        before = everything(trainer)
        plain(trainer, *arguments)
        if graphs and not seen:
            seen.append((before, everything(trainer)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_capture_if_due", watched)
        run(tmp_path, asking(spec_of("nanokimi", "muon", steps=12), graph_steps=2))
    ((before, after),) = seen
    assert str(before) == str(after)  # as text, losses to come are the same nan


@pytest.fixture
def protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Those of docs/own.md as an author would copy them, PyTorch's AdamW with these settings."""

    def parts(adamw: str) -> dict[str, Any]:
        file = write_examples(tmp_path)
        text = file.read_text()
        assert "lr: 1.0e-3, betas" in text
        file.write_text(text.replace("lr: 1.0e-3, betas", f"lr: 1.0e-3, {adamw}betas"))
        matrix = load_matrix(file)
        folders = [str(code.store()) for code in matrix.codes]
        monkeypatch.setattr(sys, "path", [*sys.path, *folders])
        specs = [cell.spec for cell in matrix.cells]
        return {each.name: each for spec in specs for each in (spec.model, spec.optimizer)}

    return parts


def with_parts(**parts: Any) -> RunSpec:
    return dataclasses.replace(spec_of(steps=14, every=7), **parts)


@pytest.mark.parametrize("optimizer", ["mine", "parts"])
@pytest.mark.parametrize("model", ["nanogpt", "mymodel"])
def test_the_classes_of_the_protocol_run_in_graphs(
    tmp_path: Path,
    graphs: Graphs,
    monkeypatch: pytest.MonkeyPatch,
    protocol: Callable[[str], dict[str, Any]],
    model: str,
    optimizer: str,
) -> None:
    # PyTorch has this for GPUs alone: on a CPU it makes no difference that one could measure.
    adam = sys.modules["torch.optim.adam"]
    monkeypatch.setattr(adam, "_get_capturable_supported_devices", lambda: ["cpu"])
    parts, cells = protocol("capturable: true, "), tmp_path / "cells"
    cells.mkdir()
    spec = with_parts(optimizer=parts[optimizer])
    if model == "mymodel":
        spec = with_parts(optimizer=parts[optimizer], model=parts[model])
    assert_same(run(cells, asking(spec, graph_steps=3)), run(cells, spec))
    assert graphs.pop().replays > 0  # of an evaluation


def test_an_optimizer_of_pytorchs_that_must_be_asked_for_it_is_refused_otherwise(
    tmp_path: Path, graphs: Graphs, protocol: Callable[[str], dict[str, Any]]
) -> None:
    spec = with_parts(optimizer=protocol("")["parts"])
    (tmp_path / "cells").mkdir()
    found = run(tmp_path / "cells", asking(spec, graph_steps=3))
    assert "the step waits for the device" in found.result["reason"]


# --- What a graph would not repeat --------------------------------------------------------------


class Signs(torch.optim.Optimizer):
    """That of README: its state is made at the first step."""

    def __init__(self, params: Any, lr: float = 0.02) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                momentum = state.setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 0.1)
                self.update(group, state, parameter, momentum)

    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        parameter.add_(momentum.sign(), alpha=-group["lr"])


class CountsInState(Signs):
    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        state["step"] = state.get("step", 0) + 1
        parameter.add_(momentum, alpha=-group["lr"] / state["step"])


class CountsInGroup(Signs):
    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        group["k"] = group.get("k", 0) + 1
        parameter.add_(momentum, alpha=-group["lr"] / group["k"])


class CountsInItself(Signs):
    calls = 0

    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        self.calls += 1
        parameter.add_(momentum, alpha=-group["lr"] / self.calls)


class CountsByNumPy(Signs):
    """On the host as well, where no kernel sees it."""

    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        self.past = np.append(getattr(self, "past", []), 1.0)
        parameter.add_(momentum, alpha=-group["lr"] / len(self.past))


class MakesAnew(Signs):
    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        state["momentum"] = 0.9 * momentum
        parameter.add_(momentum, alpha=-group["lr"])


class Gathers(Signs):
    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        state.setdefault("past", []).append(momentum.clone())
        parameter.add_(sum(state["past"]), alpha=-group["lr"])


class DrawsOnTheHost(Signs):
    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        if random.random() < 0.5:
            parameter.add_(momentum, alpha=-group["lr"])


class Waits(Signs):
    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        parameter.add_(momentum, alpha=-group["lr"] / (1 + momentum.norm().item()))


class CountsInItsClass(Signs):
    """Where no list of what an object holds would look."""

    steps = 0

    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        CountsInItsClass.steps += 1
        parameter.add_(momentum, alpha=-group["lr"] * (CountsInItsClass.steps % 7))


class CountsInAClosure(Signs):
    def __init__(self, params: Any) -> None:
        super().__init__(params)
        steps = 0

        def share() -> int:
            nonlocal steps
            steps += 1
            return steps % 7

        self.share = share

    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        parameter.add_(momentum, alpha=-group["lr"] * self.share())


class CountsOnTheParameter(Signs):
    def update(self, group: Any, state: Any, parameter: Any, momentum: Tensor) -> None:
        parameter.steps = getattr(parameter, "steps", 0) + 1
        parameter.add_(momentum, alpha=-group["lr"] / parameter.steps)


class OwnStream(Signs):
    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.stream = np.random.default_rng(0)

    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        parameter.add_(momentum, alpha=-group["lr"] * self.stream.random())


class KeepsGradients(Signs):
    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in parameters_of(self):
            if parameter.grad is not None:
                parameter.grad = 0.9 * parameter.grad


class WritesIntoTheRate(Signs):
    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        rate = group["lr"]
        rate *= 0.5
        parameter.sub_(momentum * rate)


class BeginsLower(Signs):
    """`initial_lr` is what PyTorch's schedulers take a share of."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=0.01)
        self.param_groups[0]["initial_lr"] = 0.02

    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        parameter.sub_(momentum * group["lr"])


class LeavesForALog(Signs):
    """As many write SAM: what the state holds is of this step alone."""

    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        state["before"] = parameter.clone()
        parameter.copy_(state["before"] - group["lr"] * momentum)


class Averages(Signs):
    """A running mean of the weights, put in place by copies for as long as an evaluation lasts."""

    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        super().update(group, state, parameter, momentum)
        state.setdefault("mean", parameter.clone()).lerp_(parameter, 0.1)

    def eval(self) -> None:
        for parameter in parameters_of(self):
            self.state[parameter]["kept"] = parameter.detach().clone()
            parameter.data.copy_(self.state[parameter]["mean"])

    def train(self) -> None:
        for parameter in parameters_of(self):
            if "kept" in self.state[parameter]:
                parameter.data.copy_(self.state[parameter].pop("kept"))


class AveragesBySwapping(Averages):
    """The same by changing pointers, there and back."""

    away = False

    def eval(self) -> None:
        self.swap(away=True)

    def train(self) -> None:
        self.swap(away=False)

    def swap(self, away: bool) -> None:
        if self.away != away:
            for parameter in parameters_of(self):
                state = self.state[parameter]
                parameter.data, state["mean"] = state["mean"], parameter.data
        self.away = away


class AveragesAnew(AveragesBySwapping):
    """The same by new tensors, of which a graph knows nothing."""

    def swap(self, away: bool) -> None:
        if self.away != away:
            for parameter in parameters_of(self):
                state, weights = self.state[parameter], parameter.detach().clone()
                parameter.data.copy_(state["mean"])
                state["mean"] = weights
        self.away = away


class ForgetsAtEachSwitch(Signs):
    """In place: what each switch between training and evaluation does, it does in graphs too."""

    def train(self) -> None:
        for state in self.state.values():
            state["momentum"].zero_()


class SlowsAtEachSwitch(Signs):
    share = 1.0

    def train(self) -> None:
        self.share *= 0.7

    def update(self, group: Any, state: Any, parameter: Tensor, momentum: Tensor) -> None:
        parameter.add_(momentum, alpha=-group["lr"] * self.share)


class SwapsForGood(Signs):
    """Puts another tensor in a parameter's place, and the old one back as a copy."""

    def eval(self) -> None:
        self.kept = [parameter.data for parameter in parameters_of(self)]

    def train(self) -> None:
        for kept, parameter in zip(getattr(self, "kept", ()), parameters_of(self), strict=False):
            parameter.data = kept.clone()


def parameters_of(optimizer: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


class Plain(nn.Module):
    """A model that may keep something between two batches."""

    def __init__(self, vocab_size: int, block_size: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, 8)
        self.head = nn.Linear(8, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.keep(self.token(tokens)))
        return out

    def keep(self, x: Tensor) -> Tensor:
        return x


class LeavesActivations(Plain):
    """For others to look at: no step reads those of the one before."""

    def keep(self, x: Tensor) -> Tensor:
        self.last = x.detach()
        return x


class Remembers(Plain):
    """The batch before."""

    memory: Tensor | None = None

    def keep(self, x: Tensor) -> Tensor:
        known = self.memory if self.training and self.memory is not None else 0
        if self.training:
            self.memory = x.detach().mean((0, 1))
        return x + known


class RemembersInPlace(Plain):
    def __init__(self, vocab_size: int, block_size: int) -> None:
        super().__init__(vocab_size, block_size)
        self.register_buffer("memory", torch.zeros(8))

    def keep(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        known = self.memory.clone()
        self.memory.copy_(x.detach().mean((0, 1)))
        return x + known


class NewBuffer(RemembersInPlace):
    def keep(self, x: Tensor) -> Tensor:
        if self.training:
            self.memory = 0.9 * self.memory
        return x


class Drops(Plain):
    """By the device's own random numbers, which go on from replay to replay."""

    def keep(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.3, self.training)


class LeavesWithGradient(Plain):
    """Not detached: what led to it lives on as well."""

    def keep(self, x: Tensor) -> Tensor:
        self.last = x.pow(2).mean()
        return x


class ForgetsBuffer(RemembersInPlace):
    def train(self, mode: bool = True) -> Any:
        self.memory.zero_()
        return super().train(mode)

    def keep(self, x: Tensor) -> Tensor:
        known = self.memory.clone()
        self.memory.copy_(x.detach().mean((0, 1)))
        return x + known


class Gathering(Plain):
    """All batches before, in a list."""

    def __init__(self, vocab_size: int, block_size: int) -> None:
        super().__init__(vocab_size, block_size)
        self.past: list[Tensor] = []

    def keep(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        known = self.past[-1] if self.past else 0
        self.past.append(x.detach().mean((0, 1)))
        return x + known


class TrainsForEvaluation(Plain):
    """What training leaves, an evaluation reads."""

    scale: Tensor | None = None

    def keep(self, x: Tensor) -> Tensor:
        if self.training:
            self.scale = x.detach().std()
            return x / x.std()
        return x if self.scale is None else x / self.scale


class RemembersEvaluations(Plain):
    memory: Tensor | None = None

    def keep(self, x: Tensor) -> Tensor:
        if self.training:
            return x
        known = 0 if self.memory is None else self.memory
        self.memory = x.detach().mean((0, 1))
        return x + known


class MergesForEvaluation(Plain):
    """As low-rank adapters are merged; lazily, in the first batch of an evaluation."""

    merged: Tensor | None = None

    def __init__(self, vocab_size: int, block_size: int) -> None:
        super().__init__(vocab_size, block_size)
        self.narrow, self.wide = nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False)

    def train(self, mode: bool = True) -> Any:
        self.merged = None if mode else self.product()
        return super().train(mode)

    def product(self) -> Tensor:
        return (torch.eye(8) + self.wide.weight @ self.narrow.weight).detach()

    def keep(self, x: Tensor) -> Tensor:
        if self.merged is None:
            return x + self.wide(self.narrow(x))
        return x @ self.merged.T


class OneMask(Plain):
    """A table for the last shape alone, which an evaluation's own takes the place of."""

    mask: Tensor | None = None

    def keep(self, x: Tensor) -> Tensor:
        if self.mask is None or len(self.mask) != len(x):
            self.mask = torch.full((len(x), 1, 8), 0.5)
        return x * self.mask


class CountsBatches(Plain):
    batches = 0

    def keep(self, x: Tensor) -> Tensor:
        self.batches += 1
        return x / self.batches


class CountsEvaluations(Plain):
    evaluated = 0

    def keep(self, x: Tensor) -> Tensor:
        self.evaluated += not self.training
        return x / (1 + self.evaluated)


OUT_OF_SIGHT = r"a loss of the first steps comes to .* in a CUDA graph, and to .* kernel by kernel"
TORCHS_MUON: dict[str, Any] = {
    "settings": {"lr": 0.02},
    "leaves": "matrices",
    "groups": {"hidden": {"settings": {}}, "other": {"base": "adamw"}},
}


def brought(
    model: type[Plain] | None = None,
    optimizer: type[torch.optim.Optimizer] | None = None,
    **asked: Any,
) -> RunSpec:
    """asked: of the optimizer, beside its class."""
    spec = spec_of("nanokimi", steps=14, every=7)
    if model is not None:
        own = OwnModel(f"{__name__}:{model.__name__}", {}, "")
        spec = dataclasses.replace(spec, model=Model("own", OWN, own))
    if optimizer is not None:
        reference = f"{optimizer.__module__}:{optimizer.__name__}"
        own_optimizer = OwnOptimizer(reference, **{"settings": {}, **asked})
        spec = dataclasses.replace(spec, optimizer=Optimizer("own", OWN, own_optimizer))
    return spec


def named(value: Any) -> str:
    """The brought classes of a cell."""
    if not isinstance(value, RunSpec):
        return ""
    own = (each.options for each in (value.model, value.optimizer) if each.base == OWN)
    return "-".join(each.reference.partition(":")[2] for each in own)


@pytest.mark.parametrize(
    "spec",
    [
        brought(optimizer=Signs),
        brought(optimizer=torch.optim.Muon, **TORCHS_MUON),
        brought(model=Plain),
        brought(model=LeavesActivations),
        brought(model=RemembersInPlace),
        brought(optimizer=LeavesForALog),
        brought(optimizer=Averages),
        brought(optimizer=AveragesBySwapping),
        brought(optimizer=ForgetsAtEachSwitch),
        brought(model=Drops),
        brought(model=LeavesWithGradient),
        brought(model=ForgetsBuffer),
    ],
    ids=named,
)
def test_a_brought_class_that_can_be_repeated_is(
    tmp_path: Path, graphs: Graphs, spec: RunSpec
) -> None:
    assert_same(run(tmp_path, asking(spec, graph_steps=3)), run(tmp_path, spec))
    assert graphs


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (brought(optimizer=CountsInState), r"CountsInState\.state\[token\]\['step'\] is 2, then 3"),
        (brought(optimizer=CountsInGroup), r"CountsInGroup\.param_groups\[0\]\['k'\] is \d+, then"),
        (brought(optimizer=CountsInItself), r"CountsInItself\.calls is \d+, then \d+"),
        (brought(optimizer=CountsByNumPy), r"CountsByNumPy\.past has other numbers in it"),
        (brought(optimizer=MakesAnew), r"state\[token\]\['momentum'\] becomes another tensor"),
        (brought(optimizer=Gathers), r"\['past'\]\[2\] is made anew"),
        (brought(optimizer=DrawsOnTheHost), "random draws other numbers on the host"),
        (brought(optimizer=Waits), r"the step waits for the device \(.*\), as \.item\(\)"),
        (brought(optimizer=CountsInItsClass), OUT_OF_SIGHT),
        (brought(optimizer=CountsInAClosure), OUT_OF_SIGHT),
        (brought(optimizer=CountsOnTheParameter), r"token\.steps is \d+, then \d+"),
        (brought(optimizer=OwnStream), r"OwnStream\.stream has other numbers in it\. Draw from"),
        (brought(optimizer=KeepsGradients), r"token\.grad becomes another tensor"),
        (asking(brought(optimizer=WritesIntoTheRate), warmup_steps=5), r"Write `lr = lr \* 2`"),
        (brought(optimizer=AveragesAnew), r"\['mean'\] becomes another tensor"),
        (brought(optimizer=SlowsAtEachSwitch), r"\.share (is|becomes) 0\."),
        (brought(optimizer=SwapsForGood), r"Decoder|NanoKimi\.token becomes another tensor"),
        (asking(brought(optimizer=Signs), warmup_steps=5), r"`alpha=` of a tensor do"),
        (
            asking(brought(optimizer=torch.optim.Muon, **TORCHS_MUON), schedule="cosine"),
            r"`alpha=` of a tensor do",
        ),
        (brought(model=Remembers), r"Remembers\.memory becomes another tensor"),
        (brought(model=NewBuffer), r"NewBuffer\.memory becomes another tensor"),
        (brought(model=Gathering), r"Gathering\.past\[\d\] is made anew"),
        (brought(model=TrainsForEvaluation), OUT_OF_SIGHT),
        (
            brought(model=RemembersEvaluations),
            r"an evaluation \(train, step 7\) comes to .* kernel",
        ),
        (
            brought(model=MergesForEvaluation),
            r"an evaluation \(train, step 14\) comes to .* kernel",
        ),
        (brought(model=OneMask), r"OneMask\.mask becomes another tensor"),
        (brought(model=CountsBatches), r"CountsBatches\.batches is \d+, then \d+"),
        (brought(model=CountsEvaluations), r"CountsEvaluations\.evaluated is \d+, then \d+"),
    ],
    ids=named,
)
def test_what_a_graph_would_not_repeat_is_refused_by_name(
    tmp_path: Path, graphs: Graphs, spec: RunSpec, why: str
) -> None:
    found = run(tmp_path, asking(spec, graph_steps=3))
    assert found.result["status"] == "crashed"
    assert found.result["reason"].startswith("WrongClassError: train.graph_steps: ")
    assert found.result["reason"].endswith("leave out train.graph_steps")
    assert re.search(why, found.result["reason"]), found.result["reason"]
    assert run(tmp_path, spec).result["status"] == "ok"  # nothing is wrong with it otherwise


def test_what_a_compiled_model_reads_is_known_all_the_same(
    tmp_path: Path, graphs: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler's own kernels are none of PyTorch's operators, as those of this one seem."""

    def hiding(module: Any, inputs: Any) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with _disable_current_modes():
                return module(*arguments)

        return call

    plain_compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: plain_compile(model, backend=hiding))
    found = run(tmp_path, asking(brought(model=Remembers), graph_steps=3, compile=True))
    assert "Remembers.memory becomes another tensor" in str(found.result["reason"])


def test_rates_on_the_device_begin_where_numbers_do(tmp_path: Path, graphs: Graphs) -> None:
    """And are no state of an optimizer."""
    spec = asking(brought(optimizer=BeginsLower), schedule="cosine")
    found, plain = run(tmp_path, asking(spec, graph_steps=3)), run(tmp_path, spec)
    for step, loss in found.losses().items():
        assert loss == pytest.approx(plain.losses()[step], rel=1e-5), step
    assert found.row["optimizer_state_mib"] == plain.row["optimizer_state_mib"]


def test_a_split_without_a_whole_chunk_is_evaluated_as_ever(tmp_path: Path, graphs: Graphs) -> None:
    spec = spec_of("nanokimi", steps=14, every=7)
    spec = dataclasses.replace(spec, eval=dataclasses.replace(spec.eval, train_windows=3))
    assert_same(run(tmp_path, asking(spec, graph_steps=3)), run(tmp_path, spec))
    assert all(graph.replays for graph in of_the_run(graphs))  # and none was captured in vain


def test_the_line_that_waits_is_named(tmp_path: Path, graphs: Graphs) -> None:
    reason = run(tmp_path, asking(brought(optimizer=Waits), graph_steps=3)).result["reason"]
    assert re.search(r"waits for the device \(test_graphs\.py, line \d+: parameter\.add_", reason)
