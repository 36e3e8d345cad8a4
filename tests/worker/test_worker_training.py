"""Clocks charge what is named, training stops where it diverges, a cell leaves whole files."""

import csv
import dataclasses
import hashlib
import itertools
import json
import math
import statistics
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.identity import SCHEMA_VERSION, code_sha256
from bench.border.logical import initialise
from bench.border.options import (
    MODEL_OPTIONS,
    OPTIMIZER_OPTIONS,
    DataOptions,
    EvalOptions,
    TrainOptions,
)
from bench.border.spec import PHASES, CorpusRef, Model, Optimizer, RunSpec
from bench.border.tokenised import tokenise
from bench.records.columns import CURVE_COLUMNS, RUN_COLUMNS
from bench.worker import cell, clocks, training
from bench.worker.cell import run_cell
from bench.worker.clocks import PhaseClock, StepSample, StepTimer
from bench.worker.data import batch_positions, read_tokens
from bench.worker.lifeline import TerminatedError
from bench.worker.registry import MODELS, OPTIMIZERS
from bench.worker.schedule import rate_share
from bench.worker.streams import torch_stream
from bench.worker.training import DivergedError, Trainer

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """A cell sets torch's threads for its process; here it shares one with other tests."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class FakeTime:
    """CLOCK_MONOTONIC that moves only when it is told to."""

    def __init__(self) -> None:
        self.ns = 1_000 * 10**9

    def pass_s(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)

    def monotonic(self) -> float:
        return self.ns / 1e9

    def monotonic_ns(self) -> int:
        return self.ns


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(time, "monotonic", fake.monotonic)
    monkeypatch.setattr(time, "monotonic_ns", fake.monotonic_ns)
    return fake


# --- Clocks -------------------------------------------------------------------------------------


def test_each_phase_is_charged_its_own_time_and_the_rest_to_none(fake_time):
    clock = PhaseClock()
    fake_time.pass_s(1)
    with clock.during("data"):
        fake_time.pass_s(2)
    fake_time.pass_s(4)
    with clock.during("train"):
        fake_time.pass_s(8)
    with clock.during("eval"):
        fake_time.pass_s(16)
    with clock.during("train"):
        fake_time.pass_s(32)
    assert clock.seconds == {"data": 2, "train": 40, "eval": 16}
    assert clock.phase == "train"


def test_a_phase_may_have_begun_earlier(fake_time):
    started = fake_time.monotonic()
    fake_time.pass_s(3)
    clock = PhaseClock()
    with clock.during("import", since=started):
        fake_time.pass_s(1)
    assert clock.seconds == {"import": 4}


def test_a_phase_that_fails_is_charged_too_and_stays_the_last(fake_time):
    clock = PhaseClock()

    def build() -> None:
        with clock.during("build"):
            fake_time.pass_s(5)
            raise KeyError

    with pytest.raises(KeyError):
        build()
    assert clock.seconds == {"build": 5}
    assert clock.phase == "build"


def test_a_phase_that_no_column_knows_is_a_mistake():
    with pytest.raises(AssertionError, match="lunch"), PhaseClock().during("lunch"):
        pass
    assert {f"{phase}_time_s" for phase in PHASES} <= set(RUN_COLUMNS)


def test_a_phase_waits_for_the_device_at_both_edges(fake_time, monkeypatch):
    """What the device still did before is not charged; what it does for the phase is."""
    left_s = 10.0  # of work that the device was given and has not done yet

    def wait(device: torch.device) -> None:
        nonlocal left_s
        fake_time.pass_s(left_s)
        left_s = 0.0

    monkeypatch.setattr(clocks, "synchronise", wait)
    clock = PhaseClock()
    with clock.during("train"):
        fake_time.pass_s(1)
        left_s += 20
    assert clock.seconds == {"train": 21}


def test_step_times_are_those_between_marks_of_one_span(fake_time):
    timer = StepTimer(CPU)
    for seconds in ((0.001, 0.002), (0.004,)):
        timer.begin_span()
        for step in seconds:
            fake_time.pass_s(step)
            timer.steps_done()
        timer.end_span()
        fake_time.pass_s(60)  # an evaluation
    assert timer.samples == [StepSample(0, 1, 1.0), StepSample(1, 1, 2.0), StepSample(2, 1, 4.0)]


# --- The loop -----------------------------------------------------------------------------------


class Slow(nn.Module):
    """Takes `step_s` a training step; its loss at step `poisoned` alone is not finite."""

    def __init__(self, fake_time: FakeTime, step_s: float, poisoned: int = -1) -> None:
        super().__init__()
        self.fake_time, self.step_s, self.poisoned = fake_time, step_s, poisoned
        self.bias = nn.Parameter(torch.zeros(3))
        self.poison = math.nan
        self.calls = 0

    def forward(self, tokens: Tensor) -> Tensor:
        logits = self.bias.expand(*tokens.shape, 3)
        if self.calls == self.poisoned:
            logits = logits + torch.tensor([self.poison, 0.0, 0.0])
        self.calls += 1
        self.fake_time.pass_s(self.step_s)
        return logits

    def n_params_active(self) -> int:
        return self.bias.numel()


class FakeEvaluator:
    """Takes 100 s; gives the step's number as loss. Without a test split."""

    windows = ("train", "val")

    def __init__(self, fake_time: FakeTime, losses: dict[int, float] | None = None) -> None:
        self.fake_time, self.losses = fake_time, losses or {}

    def loss(self, model: nn.Module, split: str, step: int, beat: Callable[[], None]) -> float:
        self.fake_time.pass_s(50)
        return self.losses.get(step, step + (0.5 if split == "val" else 0.0))


Events = list[dict[str, Any]]


def recorder(events: Events) -> Callable[..., None]:
    return lambda **event: events.append(event)


def trainer_of(
    fake_time: FakeTime, steps: int, step_s: float = 0.01, poisoned: int = -1, lr: float = 0.0
) -> Trainer:
    model = Slow(fake_time, step_s, poisoned)
    windows = (torch.arange(50) % 3).unfold(0, 5, 1)  # T = 4
    positions = torch.zeros(steps, 2, dtype=torch.int64)  # B = 2
    optimizers = [torch.optim.SGD(model.parameters(), lr=lr)] if lr else []
    return Trainer(model, optimizers, windows, positions, PhaseClock())


@pytest.mark.parametrize("step_s", [0.001, 0.01, 0.1, 1.0])
@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [
        (10, 5, [0, 5, 10]),
        (10, 4, [0, 4, 8, 10]),
        (10, 1, list(range(11))),
        (10, 10, [0, 10]),
        (10, 11, [0, 10]),
        (1, 100, [0, 1]),
        (200, 70, [0, 70, 140, 200]),
    ],
)
def test_evaluations_are_at_0_every_and_after_the_last(fake_time, step_s, steps, every, expected):
    """However long the spans between heartbeats are."""
    trainer, events = trainer_of(fake_time, steps, step_s), []
    trainer.run(FakeEvaluator(fake_time), every, recorder(events))
    assert [point.step for point in trainer.curve] == expected
    assert [e["step"] for e in events if e["stage"] == "eval"] == expected
    assert (trainer.done, trainer.model.calls) == (steps, steps)


def test_training_time_has_every_step_and_no_evaluation(fake_time):
    trainer = trainer_of(fake_time, steps=25, step_s=0.2)
    trainer.run(FakeEvaluator(fake_time), 10, recorder([]))
    assert [sample.time_ms for sample in trainer.timer.samples] == pytest.approx([200.0] * 25)
    assert trainer.clock.seconds["train"] == pytest.approx(25 * 0.2)
    assert trainer.clock.seconds["eval"] == pytest.approx(4 * 100)
    assert [point.train_time_s for point in trainer.curve] == pytest.approx([0.0, 2.0, 4.0, 5.0])


def test_a_point_of_the_curve_has_its_tokens_and_both_losses(fake_time):
    trainer = trainer_of(fake_time, steps=6)
    trainer.run(FakeEvaluator(fake_time), 4, recorder([]))
    points = [(p.step, p.tokens, p.train_loss, p.val_loss) for p in trainer.curve]
    assert points == [(0, 0, 0.0, 0.5), (4, 32, 4.0, 4.5), (6, 48, 6.0, 6.5)]


def test_progress_is_told_about_twice_a_second(fake_time):
    trainer, events = trainer_of(fake_time, steps=1_000, step_s=0.01), []
    trainer.run(FakeEvaluator(fake_time), 1_000, recorder(events))
    told = [event for event in events if event["stage"] == "train"]
    assert told[0]["step"] == 1  # at once, so that its length is known
    steps = [event["step"] for event in told]
    assert {later - step for step, later in pairwise(steps[:-1])} == {50}
    assert steps[-1] == 1_000
    assert all(event["loss"] == pytest.approx(math.log(3)) for event in told)
    assert all(event["tokens_per_s"] == pytest.approx(8 / 0.01) for event in told)


@pytest.mark.parametrize("poison", [math.nan, -math.inf])  # a loss that is NaN, or infinite
@pytest.mark.parametrize("step_s", [0.001, 1.0])  # spans of 500 steps and of one
@pytest.mark.parametrize("step", [1, 2, 37, 99])
def test_the_first_step_that_is_not_finite_is_named(fake_time, step, step_s, poison):
    trainer = trainer_of(fake_time, 100, step_s, poisoned=step)
    trainer.model.poison = poison
    trainer.model.bias.data = torch.tensor([0.0, 1.0, 3.0])
    with pytest.raises(DivergedError) as caught:
        trainer.run(FakeEvaluator(fake_time), 1_000, recorder([]))
    before = trainer.losses[step - 1].item()
    says = f"the loss is not finite at step {step}; the last finite loss was {before:.6g}"
    assert (caught.value.step, str(caught.value)) == (step, says)
    assert math.isfinite(before)
    assert (trainer.done, trainer.tokens) == (step, step * 8)
    assert [point.step for point in trainer.curve] == [0]


def test_a_loss_that_is_never_finite_says_so(fake_time):
    trainer = trainer_of(fake_time, 10, poisoned=0)
    with pytest.raises(DivergedError, match=r"not finite at step 0; none was finite"):
        trainer.run(FakeEvaluator(fake_time), 5, recorder([]))
    assert trainer.done == 0


def test_a_poisoned_weight_diverges_at_the_step_that_meets_it(fake_time):
    """The update of step 0 makes the weights infinite; step 1 is the first to see them."""
    trainer = trainer_of(fake_time, 100, step_s=0.001, lr=math.inf)
    with pytest.raises(DivergedError) as caught:
        trainer.run(FakeEvaluator(fake_time), 50, recorder([]))
    assert caught.value.step == 1
    assert f"the last finite loss was {math.log(3):.6g}" in str(caught.value)


@pytest.mark.parametrize("step", [0, 20, 30])
def test_an_evaluation_that_is_not_finite_diverges_as_well(fake_time, step):
    trainer = trainer_of(fake_time, 30)
    with pytest.raises(DivergedError) as caught:
        trainer.run(FakeEvaluator(fake_time, {step: math.nan}), 10, recorder([]))
    last = f"the last finite loss was {step - 10 + 0.5:.6g}" if step else "none was finite"
    assert str(caught.value) == f"the loss is not finite at step {step}; {last}"
    assert [point.step for point in trainer.curve] == list(range(0, step, 10))


def test_gradients_of_one_step_do_not_reach_the_next(fake_time):
    trainer = trainer_of(fake_time, 2, lr=0.1)
    for _ in range(2):
        trainer.step(trainer.positions[0])
        assert trainer.model.bias.grad is None


def test_a_constant_rate_is_left_alone(fake_time):
    """An optimizer may set its own as it likes."""
    trainer = trainer_of(fake_time, 3, lr=0.1)
    (group,) = trainer.optimizers[0].param_groups
    group["lr"] = 0.5
    trainer.run(FakeEvaluator(fake_time), 3, recorder([]))
    assert group["lr"] == 0.5
    assert "initial_lr" not in group


# --- A cell -------------------------------------------------------------------------------------

TEXT = ("the quick brown fox jumps over the lazy dog\n" * 30).encode()
FINITE_BUT_HUGE = 1e2  # AdamW at this rate: losses of thousands, none infinite


def spec_of(
    model: str = "nanogpt",
    optimizer: str = "adamw",
    seed: int = 1,
    steps: int = 10,
    every: int = 4,
    device: str = "cpu",
    protocol: str = "full",
    batch_size: int = 2,
    **settings: Any,
) -> RunSpec:
    options = MODEL_OPTIONS[model](n_embd=8, n_layer=1, n_head=2)
    return RunSpec(
        model=Model("tiny", model, options),
        optimizer=Optimizer("as-asked", optimizer, OPTIMIZER_OPTIONS[optimizer](**settings)),
        device=device,
        seed=seed,
        train=TrainOptions(steps=steps, batch_size=batch_size, block_size=8),
        eval=EvalOptions(every=every, protocol=protocol, train_windows=6, batches=3),
        corpus=CorpusRef("text", hashlib.sha256(TEXT).hexdigest()),
    )


@dataclass
class Ran:
    """What a cell left behind."""

    folder: Path
    code: int
    events: Events

    @property
    def result(self) -> dict[str, Any]:
        return json.loads((self.folder / "result.json").read_text(encoding="utf-8"))

    @property
    def row(self) -> dict[str, Any]:
        return self.result["row"]

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.folder / name).open(newline="") as file:
            return list(csv.DictReader(file))

    def column(self, name: str, column: str) -> list[str]:
        return [line[column] for line in self.table(name)]


def run(parent: Path, spec: RunSpec, corpus: Path | None = None) -> Ran:
    folder = parent / f"cell-{len(list(parent.iterdir()))}"
    folder.mkdir()
    (folder / "spec.json").write_text(spec.to_json())
    if corpus is None:
        corpus = parent / "tokens"
        corpus.write_bytes(tokenise(TEXT.decode()))
    events: Events = []
    code = run_cell(folder, corpus, time.monotonic(), recorder(events))
    return Ran(folder, code, events)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One cell that ends well: 10 steps, evaluated at 0, 4, 8 and 10."""
    return run(tmp_path_factory.mktemp("ran"), spec_of())


def test_a_cell_that_ends_well_says_who_it_is(ran):
    assert ran.code == 0
    result = {key: value for key, value in ran.result.items() if key not in ("row", "spans")}
    assert result.pop("started") <= result.pop("finished")
    assert result == {
        "schema_version": SCHEMA_VERSION,
        "run_id": spec_of().run_id,
        "code_sha256": code_sha256(),
        "status": "ok",
        "reason": None,
        "stage": None,
        "context_window": None,
    }


def test_a_cell_leaves_its_files_whole(ran):
    names = {file.name for file in ran.folder.iterdir()}
    assert names == {"spec.json", "result.json", "curve.csv", "steps.csv", "env.json"}
    for name in ("curve.csv", "steps.csv"):
        content = (ran.folder / name).read_bytes()
        assert content.endswith(b"\n")
        assert b"\r" not in content
    assert json.loads((ran.folder / "env.json").read_text())["torch_version"] == torch.__version__


def test_every_figure_is_a_column_of_runs_csv(ran):
    assert set(ran.row) <= set(RUN_COLUMNS)
    assert list(ran.table("curve.csv")[0]) == [
        name for name in CURVE_COLUMNS if name not in ("run_id", "host_id", "attempt")
    ]
    assert list(ran.table("steps.csv")[0]) == ["step", "steps", "time_ms", "loss"]


def test_the_curve_has_every_evaluation(ran):
    assert ran.column("curve.csv", "step") == ["0", "4", "8", "10"]
    assert ran.column("curve.csv", "tokens") == ["0", "64", "128", "160"]
    times = [float(seconds) for seconds in ran.column("curve.csv", "train_time_s")]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (0.0, ran.row["train_time_s"])


def test_the_final_figures_are_those_of_the_curve(ran):
    row, losses = ran.row, [float(loss) for loss in ran.column("curve.csv", "val_loss")]
    assert row["val_loss_final"] == losses[-1]
    assert row["val_loss_best"] == min(losses)
    assert row["train_loss_final"] == float(ran.column("curve.csv", "train_loss")[-1])
    assert row["perplexity"] == pytest.approx(math.exp(losses[-1]))
    assert row["bits_per_char"] == pytest.approx(math.log2(math.e) * losses[-1])
    assert row["param_efficiency"] == pytest.approx(row["perplexity"] / row["n_params"] * 1e6)


def test_the_best_loss_may_be_an_earlier_one(tmp_path, monkeypatch):
    losses = iter([3.0, 2.0, 2.5])
    monkeypatch.setattr(cell.Evaluator, "loss", lambda *of: 9.0 if "train" in of else next(losses))
    row = run(tmp_path, spec_of(steps=2, every=1)).row
    assert (row["val_loss_best"], row["val_loss_final"]) == (2.0, 2.5)
    assert row["train_loss_final"] == 9.0


def test_the_work_done_is_counted(ran):
    row = ran.row
    assert (row["steps"], row["tokens"]) == (10, 10 * 2 * 8)
    assert row["n_params"] == row["n_params_active"] > 0
    assert row["flops_per_token"] > 0
    assert row["optimizer_flops_per_step"] == 14 * row["n_params"]  # AdamW, elementwise
    assert row["optimizer_state_mib"] >= 2 * 4 * row["n_params"] / 2**20  # two moments
    assert row["threads"] == 1
    assert row["eval_protocol"] == "full"
    assert row["host_rss_peak_mib"] > 1


def test_every_step_has_its_time_and_loss(ran):
    assert ran.column("steps.csv", "step") == [str(step) for step in range(10)]
    assert set(ran.column("steps.csv", "steps")) == {"1"}
    times = [float(ms) for ms in ran.column("steps.csv", "time_ms")]
    assert ran.row["step_time_ms_p50"] == pytest.approx(statistics.median(times))
    assert min(times) <= ran.row["step_time_ms_p90"] <= ran.row["step_time_ms_p99"] <= max(times)
    assert ran.row["tokens_per_s"] == pytest.approx(160 / ran.row["train_time_s"])


def test_the_phases_lie_within_the_cells_time_and_hold_its_steps(ran):
    result, row = ran.result, ran.row
    phases = [row[f"{phase}_time_s"] for phase in PHASES if f"{phase}_time_s" in row]
    assert len(phases) == len(PHASES) - 1  # nothing is compiled
    assert min(phases) > 0
    assert sum(phases) <= result["finished"] - result["started"]
    steps_s = sum(float(ms) for ms in ran.column("steps.csv", "time_ms")) / 1e3
    assert steps_s <= row["train_time_s"]


def test_a_cell_tells_where_it_is(ran):
    stages = [event["stage"] for event in ran.events]
    order = list(dict.fromkeys(stages))
    assert order == ["data", "build", "warmup", "eval", "train", "infer", "teardown"]
    told = [event for event in ran.events if event["stage"] == "eval"]
    assert [event["step"] for event in told] == [0, 4, 8, 10]
    assert [repr(event["val_loss"]) for event in told] == ran.column("curve.csv", "val_loss")


@pytest.mark.parametrize("protocol", ["full", "sampled"])
def test_the_test_split_is_evaluated_whole_and_once_after_the_last_step(tmp_path, protocol):
    divided = DataOptions((0.7, 0.2, 0.1))
    spec = dataclasses.replace(spec_of(protocol=protocol), data=divided)
    ran = run(tmp_path, spec)
    assert ran.result["status"] == "ok"
    tokens = read_tokens(tmp_path / "tokens", spec.corpus.sha256, divided)
    model = trained(spec, tmp_path / "tokens")
    starts = range(0, len(tokens.test) - 8, 8)
    windows = torch.stack([tokens.test[start : start + 9] for start in starts]).long()
    with torch.inference_mode():
        logits = model(windows[:, :-1]).flatten(0, 1)
    by_hand = F.cross_entropy(logits, windows[:, 1:].flatten()).item()
    assert ran.row["test_loss_final"] == pytest.approx(by_hand, rel=1e-6)
    assert ran.row["test_loss_final"] != ran.row["val_loss_final"]


def test_without_a_third_share_there_is_no_test_loss(ran):
    assert ran.row["test_loss_final"] is None


def trained(spec: RunSpec, corpus: Path) -> nn.Module:
    """The model after the cell's training, without warm-up, evaluation or clock."""
    tokens = read_tokens(corpus, spec.corpus.sha256, spec.data)
    model = MODELS[spec.model.base](spec.model.options, tokens.vocab_size, 8)
    stacks = model.stacks()
    initialise(stacks, lambda name: torch_stream(spec.seed, "weights", name))
    optimizers = OPTIMIZERS[spec.optimizer.base].build(stacks, spec.optimizer.options)
    windows = tokens.windows("train", 8)
    table = batch_positions(spec.seed, spec.train.steps, spec.train.batch_size, len(windows))
    for row in table:
        batch = windows[row].long()
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return model


ARMS = [(model, optimizer) for model in MODEL_OPTIONS for optimizer in OPTIMIZER_OPTIONS]


@pytest.mark.parametrize("protocol", ["full", "sampled"])
@pytest.mark.parametrize(("model", "optimizer"), ARMS)
def test_a_cell_run_again_has_the_same_losses_to_the_last_digit(
    tmp_path, model, optimizer, protocol
):
    spec = spec_of(model, optimizer, steps=6, protocol=protocol)
    first, again = run(tmp_path, spec), run(tmp_path, spec)
    for name, column in (
        ("curve.csv", "train_loss"),
        ("curve.csv", "val_loss"),
        ("steps.csv", "loss"),
    ):
        assert first.column(name, column) == again.column(name, column)
    for column in ("val_loss_final", "init_hash", "data_order_hash", "n_params"):
        assert first.row[column] == again.row[column]


def plain_losses(spec: RunSpec, corpus: Path) -> list[float]:
    """The cell's training without warm-up, evaluation or clock."""
    tokens = read_tokens(corpus, spec.corpus.sha256, spec.data)
    T, train = spec.train.block_size, spec.train
    model = MODELS[spec.model.base](spec.model.options, tokens.vocab_size, T)
    stacks = model.stacks()
    initialise(stacks, lambda name: torch_stream(spec.seed, "weights", name))
    optimizers = OPTIMIZERS[spec.optimizer.base].build(stacks, spec.optimizer.options)
    base_rates = [[group["lr"] for group in each.param_groups] for each in optimizers]
    table = batch_positions(spec.seed, train.steps, train.batch_size, len(tokens.train) - T)
    losses = []
    for step, row in enumerate(table):
        batch = torch.stack([tokens.train[p : p + T + 1] for p in row.tolist()]).long()
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        auxiliary = model.auxiliary_loss() if hasattr(model, "auxiliary_loss") else None
        (loss if auxiliary is None else loss + auxiliary).backward()
        if train.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm)
        for optimizer, rates in zip(optimizers, base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * rate_share(train, step)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("model", "optimizer"), ARMS)
def test_warm_up_evaluation_and_clocks_change_no_loss(tmp_path, model, optimizer):
    """Weights and optimizer after warm-up are as they were initialised."""
    torch.set_num_threads(1)
    spec = spec_of(model, optimizer, steps=12, lr=0.02)
    ran = run(tmp_path, spec)
    losses = [float(loss) for loss in ran.column("steps.csv", "loss")]
    assert losses == plain_losses(spec, tmp_path / "tokens")


PACES = {
    "cosine": {"schedule": "cosine", "warmup_steps": 3, "min_lr_share": 0.1},
    "wsd": {"schedule": "wsd", "warmup_steps": 2, "decay_steps": 5},
    "warm-up": {"warmup_steps": 8},
    "clipped": {"clip_norm": 0.05},
    "everything": {"schedule": "cosine", "warmup_steps": 3, "clip_norm": 0.05},
}


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("optimizer", OPTIMIZER_OPTIONS)
def test_every_step_has_the_rates_and_gradients_asked_for(tmp_path, optimizer, pace):
    """The steps of warm-up have had theirs, of which nothing is left."""
    torch.set_num_threads(1)
    plain = spec_of(optimizer=optimizer, steps=12, every=12)
    spec = dataclasses.replace(plain, train=dataclasses.replace(plain.train, **PACES[pace]))
    ran = run(tmp_path, spec)
    losses = [float(loss) for loss in ran.column("steps.csv", "loss")]
    assert losses == plain_losses(spec, tmp_path / "tokens")
    if optimizer != "adamw" or pace != "clipped":  # AdamW divides a gradient's size away
        assert losses != plain_losses(plain, tmp_path / "tokens")


def test_evaluating_more_often_changes_no_loss_of_training(tmp_path):
    often, seldom = (run(tmp_path, spec_of(every=every)) for every in (1, 100))
    assert often.column("steps.csv", "loss") == seldom.column("steps.csv", "loss")
    assert often.row["val_loss_final"] == seldom.row["val_loss_final"]


def test_a_longer_run_begins_as_a_shorter_one(tmp_path):
    short, long = (run(tmp_path, spec_of(steps=steps)) for steps in (8, 12))
    assert short.table("curve.csv")[0]["val_loss"] == long.table("curve.csv")[0]["val_loss"]
    assert short.column("steps.csv", "loss") == long.column("steps.csv", "loss")[:8]


def test_arms_of_a_seed_share_their_data_and_those_of_a_model_their_weights(tmp_path):
    rows = {
        (model, optimizer, seed): run(tmp_path, spec_of(model, optimizer, seed, steps=1)).row
        for model, optimizer in ARMS
        for seed in (1, 2)
    }
    for seed in (1, 2):
        of_seed = [row for (_, _, its), row in rows.items() if its == seed]
        assert len({row["data_order_hash"] for row in of_seed}) == 1
    weights = {
        model: [
            rows[model, optimizer, seed]["init_hash"]
            for seed in (1, 2)
            for optimizer in OPTIMIZER_OPTIONS
        ]
        for model in MODEL_OPTIONS
    }
    for hashes in weights.values():
        of_first, of_second = (
            set(hashes[: len(OPTIMIZER_OPTIONS)]),
            set(hashes[len(OPTIMIZER_OPTIONS) :]),
        )
        assert len(of_first) == len(of_second) == 1
        assert of_first != of_second
    assert not set(weights["nanogpt"]) & set(weights["nanokimi"])
    assert len({row["data_order_hash"] for row in rows.values()}) == 2


def test_a_run_shorter_than_its_warm_up_ends_well(tmp_path):
    ran = run(tmp_path, spec_of(steps=1))
    assert (ran.code, ran.result["status"], ran.row["steps"]) == (0, "ok", 1)


def test_threads_are_those_asked_for(tmp_path):
    spec = spec_of(steps=1)
    spec = dataclasses.replace(spec, train=dataclasses.replace(spec.train, threads=2))
    assert run(tmp_path, spec).row["threads"] == 2


# --- A cell that does not end well --------------------------------------------------------------


def test_a_cell_that_diverges_is_a_result(tmp_path):
    ran = run(tmp_path, spec_of(steps=30, every=50, lr=1e6))
    assert ran.code == 0
    assert (ran.result["status"], ran.result["stage"]) == ("diverged", "train")
    losses = [float(loss) for loss in ran.column("steps.csv", "loss")]
    step = next(step for step, loss in enumerate(losses) if not math.isfinite(loss))
    assert ran.result["reason"] == (
        f"the loss is not finite at step {step}; the last finite loss was {losses[step - 1]:.6g}"
    )
    assert ran.row["steps"] == step
    assert ran.column("curve.csv", "step") == ["0"]
    assert ran.row["val_loss_best"] == float(ran.column("curve.csv", "val_loss")[0])
    unknown = {"val_loss_final", "train_loss_final", "perplexity", "bits_per_char"}
    assert not {name for name in unknown if ran.row.get(name) is not None}
    assert "param_efficiency" not in ran.row


def test_a_loss_that_is_huge_but_finite_is_a_result(tmp_path):
    ran = run(tmp_path, spec_of(steps=14, every=14, lr=FINITE_BUT_HUGE))
    assert (ran.code, ran.result["status"]) == (0, "ok")
    assert ran.row["val_loss_final"] > 100


@pytest.mark.parametrize("loss", [0.0, 700.0, 705.0, 709.7, 709.8, 3_000.0, 3.4e38])
def test_a_figure_that_no_float_holds_is_left_empty(tmp_path, monkeypatch, loss):
    """exp(709.8) is beyond a float, and so is exp(705) / 0.0014 million parameters."""
    monkeypatch.setattr(cell.Evaluator, "loss", lambda *of: loss)
    ran = run(tmp_path, spec_of(steps=1))
    assert (ran.code, ran.result["status"], ran.row["val_loss_final"]) == (0, "ok", loss)
    assert ran.row["bits_per_char"] == pytest.approx(loss / math.log(2))
    assert (ran.row.get("perplexity") is not None) == (loss < 709.78)
    assert (ran.row.get("param_efficiency") is not None) == (loss <= 700)


def test_tokens_that_are_missing_are_a_crash_with_a_reason(tmp_path, capsys):
    ran = run(tmp_path, spec_of(), corpus=tmp_path / "absent.tokens")
    assert ran.code == 1
    assert (ran.result["status"], ran.result["stage"]) == ("crashed", "data")
    assert ran.result["reason"].startswith("FileNotFoundError: ")
    assert "absent.tokens" in ran.result["reason"]
    assert "Traceback" in capsys.readouterr().err
    assert not (ran.folder / "curve.csv").exists()
    assert set(ran.row) <= set(RUN_COLUMNS)
    assert not {"steps", "val_loss_final", "init_hash"} & set(ran.row)


def test_tokens_of_another_text_are_a_crash_with_a_reason(tmp_path):
    (tmp_path / "other").write_bytes(tokenise("another text"))
    ran = run(tmp_path, spec_of(), corpus=tmp_path / "other")
    assert (ran.code, ran.result["status"]) == (1, "crashed")
    assert f"tokens of the text with SHA-256 {spec_of().corpus.sha256}" in ran.result["reason"]


def test_cuda_without_a_gpu_is_a_crash_and_never_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ran = run(tmp_path, spec_of(device="cuda"))
    assert (ran.code, ran.result["status"]) == (1, "crashed")
    assert "asks for cuda, and torch finds no usable GPU" in ran.result["reason"]
    assert ran.events == [{"stage": "teardown"}]


def test_more_batches_than_memory_holds_is_out_of_memory(tmp_path):
    ran = run(tmp_path, spec_of(steps=100_000_000, batch_size=1_000_000))  # 800 TB
    assert (ran.code, ran.result["status"], ran.result["stage"]) == (1, "oom", "data")
    assert "Unable to allocate" in ran.result["reason"]


def fail_at(monkeypatch: pytest.MonkeyPatch, call: int, failure: Callable[[], Any]) -> None:
    """Let the call-th training step, warm-up's included, fail."""
    step, calls = Trainer.step, iter(range(1_000_000))

    def failing(self: Trainer, positions: Tensor) -> Tensor:
        return failure() if next(calls) == call else step(self, positions)

    monkeypatch.setattr(Trainer, "step", failing)


def test_torchs_own_allocator_failing_is_out_of_memory(tmp_path, monkeypatch):
    fail_at(monkeypatch, 2, lambda: torch.empty(2**60, dtype=torch.uint8))
    ran = run(tmp_path, spec_of())
    assert (ran.code, ran.result["status"], ran.result["stage"]) == (1, "oom", "warmup")


def test_a_crash_in_the_middle_keeps_what_was_known_by_then(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "HEARTBEAT_S", 0.0)  # a span is a step
    fail_at(monkeypatch, cell.WARMUP_STEPS + 6, lambda: [][0])
    ran = run(tmp_path, spec_of(steps=10, every=4))
    assert (ran.code, ran.result["status"], ran.result["stage"]) == (1, "crashed", "train")
    assert ran.result["reason"] == "IndexError: list index out of range"
    assert ran.column("curve.csv", "step") == ["0", "4"]
    assert ran.column("steps.csv", "step") == [str(step) for step in range(6)]
    assert (ran.row["steps"], ran.row["tokens"]) == (6, 6 * 16)
    assert ran.row["train_time_s"] > 0
    assert "val_loss_final" not in ran.row
    assert ran.row["val_loss_best"] == min(map(float, ran.column("curve.csv", "val_loss")))


def test_being_stopped_is_told_with_what_was_measured(tmp_path, monkeypatch):
    def stop() -> None:
        raise TerminatedError("stopped by SIGTERM")

    monkeypatch.setattr(training, "HEARTBEAT_S", 0.0)
    fail_at(monkeypatch, cell.WARMUP_STEPS + 6, stop)
    ran = run(tmp_path, spec_of(steps=10, every=4))
    assert (ran.code, ran.result["status"]) == (1, "interrupted")
    assert ran.result["reason"] == "stopped by SIGTERM"
    assert ran.row["steps"] == 6


def test_a_crash_within_a_span_keeps_the_times_of_its_whole_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "HEARTBEAT_S", 1e9)  # after the first, a span is all steps
    fail_at(monkeypatch, cell.WARMUP_STEPS + 6, lambda: [][0])
    ran = run(tmp_path, spec_of(steps=10, every=10))
    assert ran.column("steps.csv", "step") == [str(step) for step in range(6)]


# --- Step timing, spans, drift ------------------------------------------------------------------


class FakeEvent:
    """An event on a stream whose work takes as long as the fake clock passes."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = time.monotonic()

    def elapsed_time(self, end: "FakeEvent") -> float:
        return (end.at - self.at) * 1000


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """On a pretended CUDA device: one entry each time that it is waited for."""
    found: list[None] = []
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(clocks, "synchronise", lambda device: found.append(None))
    return found


def timed(timer: StepTimer, fake_time: FakeTime, spans: list[int], step_s: float) -> None:
    for steps in spans:
        timer.begin_span()
        for _ in range(steps):
            fake_time.pass_s(step_s)
            timer.steps_done()
        timer.end_span()


def test_sampled_on_cuda_waits_once_a_span_and_never_between_steps(fake_time, waits):
    timer = StepTimer(torch.device("cuda"), "sampled")
    timed(timer, fake_time, [1, 50], step_s=0.002)
    assert len(waits) == 2
    assert [sample.steps for sample in timer.samples] == [1] * 51  # a step is long enough by itself
    assert [sample.time_ms for sample in timer.samples] == pytest.approx([2.0] * 51)


def test_samples_of_short_steps_span_several(fake_time, waits):
    """A first span of one step tells how long a step is: 0.3 ms, so that 4 make a millisecond."""
    timer = StepTimer(torch.device("cuda"), "sampled")
    timed(timer, fake_time, [1, 10], step_s=0.0003)
    assert [(s.last_step, s.steps) for s in timer.samples] == [(0, 1), (4, 4), (8, 4), (10, 2)]
    assert [s.time_ms for s in timer.samples] == pytest.approx([0.3, 1.2, 1.2, 0.6])


def test_every_waits_for_the_device_after_each_step(fake_time, waits):
    timer = StepTimer(torch.device("cuda"), "every")
    timed(timer, fake_time, [5], step_s=0.0003)
    assert len(waits) == 5 + 1
    assert [s.steps for s in timer.samples] == [1] * 5


def test_off_counts_steps_and_times_none(fake_time, waits):
    timer = StepTimer(torch.device("cuda"), "off")
    timed(timer, fake_time, [5, 3], step_s=0.01)
    assert (timer.steps, timer.samples, waits) == (8, [], [])


@pytest.mark.parametrize("timing", ["every", "off"])
def test_how_steps_are_timed_changes_no_loss_and_is_part_of_the_identity(tmp_path, timing):
    spec = spec_of()
    other = dataclasses.replace(spec, train=dataclasses.replace(spec.train, step_timing=timing))
    assert other.run_id != spec.run_id
    first, second = run(tmp_path, spec), run(tmp_path, other)
    assert first.column("curve.csv", "val_loss") == second.column("curve.csv", "val_loss")
    assert len(second.table("steps.csv")) == (0 if timing == "off" else 10)
    assert ("step_time_ms_p50" in second.row) == (timing != "off")
    assert second.row["tokens_per_s"] == pytest.approx(160 / second.row["train_time_s"])


def test_a_sample_of_several_steps_weighs_as_many():
    row = cell._step_time_columns([StepSample(8, 9, 9.0), StepSample(9, 1, 101.0)])
    assert row["step_time_ms_p50"] == 1.0
    assert row["step_time_ms_p99"] > 90


@pytest.mark.parametrize(("factor", "drift"), [(1.0, 0.0), (1.5, 50.0), (0.8, -20.0)])
def test_drift_is_the_last_third_against_the_first(factor, drift):
    samples = [StepSample(n, 1, 10.0 if n < 20 else 10.0 * factor) for n in range(30)]
    assert cell._step_time_columns(samples)["step_time_drift_pct"] == pytest.approx(drift)
    assert "step_time_drift_pct" not in cell._step_time_columns(samples[:29])


def test_spans_say_when_each_phase_was_and_add_up_to_its_time(ran):
    spans = ran.result["spans"]
    assert [begin for _, begin, _ in spans] == sorted(begin for _, begin, _ in spans)
    assert all(end <= begin for (_, _, end), (_, begin, _) in pairwise(spans))
    phases = [phase for phase, _, _ in spans]
    assert phases == [
        *("import", "build", "data", "build", "warmup"),
        *("eval", "train", "eval", "train", "eval", "train", "eval", "infer"),
    ]
    for phase in set(phases) - {"train"}:  # between two heartbeats of training it only speaks
        inside = sum(end - begin for name, begin, end in spans if name == phase)
        assert inside == pytest.approx(ran.row[f"{phase}_time_s"], abs=1e-6)


def test_processor_use_is_told(ran):
    assert ran.row["cpu_time_s"] > 0
    assert ran.row["context_switches_voluntary"] >= 0


def test_a_long_evaluation_says_that_it_lives(fake_time):
    class Chunked(FakeEvaluator):
        def loss(self, model, split, step, beat):
            for _ in range(10):
                self.fake_time.pass_s(0.3)
                beat()
            return 1.0

    events: Events = []
    trainer = trainer_of(fake_time, steps=2)
    trainer.run(Chunked(fake_time), 2, recorder(events))
    before_training = list(itertools.takewhile(lambda event: event["stage"] == "eval", events))
    assert len(before_training) == 10 + 1  # every other chunk, and the result
    assert [event for event in before_training if "val_loss" in event] == before_training[-1:]


def test_warm_up_leaves_torchs_own_streams_as_they_were(tmp_path, monkeypatch):
    """A model with dropout draws from them; the first step must find them untouched."""
    states: list[Tensor] = []
    step = Trainer.step

    def drawing(self: Trainer, positions: Tensor) -> Tensor:
        states.append(torch.get_rng_state())
        torch.rand(3)
        return step(self, positions)

    monkeypatch.setattr(Trainer, "step", drawing)
    run(tmp_path, spec_of(steps=2))
    assert torch.equal(states[0], states[2])  # warm-up is as long as the run, 2 steps


def test_warm_up_leaves_buffers_as_they_were(tmp_path, monkeypatch):
    seen: list[float] = []
    build = cell.MODELS["nanogpt"]

    def with_counter(*arguments: Any) -> nn.Module:
        model = build(*arguments)
        model.register_buffer("calls", torch.zeros(()))
        return model

    step = Trainer.step

    def counting(self: Trainer, positions: Tensor) -> Tensor:
        seen.append(self.model.calls.item())
        self.model.calls += 1
        return step(self, positions)

    monkeypatch.setitem(cell.MODELS, "nanogpt", with_counter)
    monkeypatch.setattr(Trainer, "step", counting)
    run(tmp_path, spec_of(steps=2))
    assert seen == [0, 1, 0, 1]


@pytest.mark.parametrize("optimizer", OPTIMIZER_OPTIONS)
def test_the_state_of_warm_up_is_gone_before_the_new_one_is_made(tmp_path, monkeypatch, optimizer):
    """Both at once would be a peak of memory that training never has."""
    held: list[weakref.ref[Any]] = []
    entry = cell.OPTIMIZERS[optimizer]

    def build(*arguments: Any) -> list[torch.optim.Optimizer]:
        assert [reference() for reference in held] == [None] * len(held)
        made = entry.build(*arguments)
        held.extend(map(weakref.ref, made))  # whose state may come with the first step
        states = (state for each in made for state in each.state.values())
        held.extend(weakref.ref(value) for state in states for value in state.values())
        return made

    monkeypatch.setitem(cell.OPTIMIZERS, optimizer, dataclasses.replace(entry, build=build))
    assert run(tmp_path, spec_of("nanokimi", optimizer, steps=2)).row["steps"] == 2
    assert held
