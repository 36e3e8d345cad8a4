"""A cell that was stopped half-way ends as one that was not: losses, curve, and what it tells."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.border.checkpoints import Keeping
from bench.border.circumstances import Circumstances
from bench.border.options import MODEL_OPTIONS, OWN, OwnModel, OwnOptimizer
from bench.border.spec import CellFiles, Model, Optimizer, RunSpec
from bench.worker import checkpoints, evaluation, training
from tests.builders.recorded import recorded_graphs
from tests.builders.worker_cells import Ran, asking, run, spec_of

HERE = Circumstances("code", "env", "", "host")
EVERY = 4


class Stopped(KeyboardInterrupt):
    """Somebody pulled the plug."""


def cell(
    parent: Path,
    spec: RunSpec,
    every: str = f"{EVERY} steps",
    earlier: Ran | None = None,
    dies_at: int | None = None,
    here: Circumstances = HERE,
) -> Ran:
    """A cell that keeps checkpoints, may have those of an earlier one, and may be cut off."""

    def before(folder: Path) -> None:
        files = CellFiles(folder)
        Keeping(every, here).write(files.keeping)
        if earlier is not None:
            CellFiles(earlier.folder).checkpoints.rename(files.checkpoints)

    with pytest.MonkeyPatch.context() as patch:
        if dies_at is not None:
            train = training.Trainer._train

            def dying(trainer: Any, steps: int) -> None:
                train(trainer, min(steps, dies_at - trainer.done))
                if trainer.done == dies_at:
                    raise Stopped

            patch.setattr(training.Trainer, "_train", dying)
        return run(parent, spec, before=before)


def told(ran: Ran) -> tuple[Any, ...]:
    """All that is measured of the training and no time."""
    curve = [
        {name: value for name, value in point.items() if name != "train_time_s"}
        for point in ran.table("curve.csv")
    ]
    losses = [ran.row[f"{split}_loss_final"] for split in ("train", "val")]
    return ran.result["status"], curve, losses, ran.column("steps.csv", "loss")


def kept(ran: Ran) -> list[Path]:
    return sorted(CellFiles(ran.folder).checkpoints.glob("*"))


VARIANTS = {
    "plain": ("nanogpt", {}),
    "experts": ("nanokimi", {}),
    "pruned": ("nanokimi", {"prune_every": 3, "prune_to": 2}),
    "bias": ("nanokimi", {"gating": "topk", "balance": "bias"}),
}


def variant(name: str, optimizer: str, **settings: Any) -> RunSpec:
    base, options = VARIANTS[name]
    small = MODEL_OPTIONS[base](n_embd=8, n_layer=1, n_head=2, **options)
    spec = spec_of(model=base, optimizer=optimizer, steps=14, every=5, **settings)
    return dataclasses.replace(spec, model=Model("small", base, small))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "truemuon", "muon", "muonclip"])
@pytest.mark.parametrize("model", VARIANTS)
def test_it_goes_on_as_if_nothing_had_been(model, optimizer, tmp_path):
    spec = asking(variant(model, optimizer), schedule="cosine", warmup_steps=3)
    undisturbed = run(tmp_path, spec)
    first = cell(tmp_path, spec, dies_at=7)
    assert (first.result["status"], first.row["steps"]) == ("crashed", 7)
    second = cell(tmp_path, spec, earlier=first, dies_at=11)
    third = cell(tmp_path, spec, earlier=second)
    assert told(third) == told(undisturbed)
    assert (third.row["resumed"], third.row["resumed_from"]) == (2, "step 8")
    assert (undisturbed.row["resumed"], undisturbed.row["resumed_from"]) == (0, None)


def test_its_curve_and_its_clock_go_on(tmp_path):
    spec = spec_of(steps=14, every=5)
    first = cell(tmp_path, spec, dies_at=9)
    second = cell(tmp_path, spec, earlier=first)
    times = [float(point["train_time_s"]) for point in second.table("curve.csv")]
    assert times == sorted(times)
    assert times[:2] == [float(point["train_time_s"]) for point in first.table("curve.csv")]
    assert second.row["train_time_s"] > times[1]
    assert second.column("steps.csv", "step") == [str(step) for step in range(14)]
    assert second.result["carried_s"] > 0
    assert second.row["checkpoint_time_s"] > 0
    assert [event["step"] for event in second.events if event["stage"] == "eval"] == [10, 14]


def test_the_last_two_are_kept_and_none_is_written_after_the_last_step(tmp_path):
    ran = cell(tmp_path, spec_of(steps=16))
    assert [path.name[:14] for path in kept(ran)] == ["step-000000008", "step-000000012"]


def test_without_being_asked_none_is_kept(tmp_path):
    ran = run(tmp_path, spec_of(steps=10))
    assert not CellFiles(ran.folder).checkpoints.exists()
    assert "checkpoint_time_s" not in ran.row


def test_minutes_are_of_wall_time(tmp_path, monkeypatch):
    monkeypatch.setattr(Keeping, "every_s", 0.0)  # less than any step takes
    assert len(kept(cell(tmp_path, spec_of(steps=10), every="1 min"))) == 2
    monkeypatch.undo()
    assert kept(cell(tmp_path, spec_of(steps=10), every="1 min")) == []


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a bit": _flip,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_told_and_the_one_before_it_taken(damage, tmp_path):
    spec = spec_of(steps=14, every=5)
    first = cell(tmp_path, spec, dies_at=13)
    DAMAGE[damage](kept(first)[-1])
    second = cell(tmp_path, spec, earlier=first)
    assert told(second) == told(run(tmp_path, spec))
    assert second.row["resumed"] == 1
    assert second.row["resumed_from"].startswith("step 8; step 12 is damaged: its bytes are not")
    assert [path.name[:14] for path in kept(second)] == ["step-000000008", "step-000000012"]


def test_where_all_are_damaged_it_begins_anew_and_says_so(tmp_path):
    spec = spec_of(steps=14, every=5)
    first = cell(tmp_path, spec, dies_at=13)
    for path in kept(first):
        _flip(path)
    second = cell(tmp_path, spec, earlier=first)
    assert told(second) == told(run(tmp_path, spec))
    assert second.row["resumed"] == 0
    assert second.row["resumed_from"].startswith("step 0; step 12 is damaged")
    assert "step 8 is damaged" in second.row["resumed_from"]


def test_one_of_another_cell_is_not_taken(tmp_path):
    first = cell(tmp_path, spec_of(steps=14, seed=2), dies_at=9)
    second = cell(tmp_path, spec_of(steps=14), earlier=first)
    assert told(second) == told(run(tmp_path, spec_of(steps=14)))
    assert "it is of another cell" in second.row["resumed_from"]


def test_one_that_runs_code_as_it_is_read_is_not_taken(tmp_path):
    """A pickle under the right name and hash: it is refused, and does nothing."""
    spec = spec_of(steps=14)
    first = cell(tmp_path, spec, dies_at=9)
    for path in kept(first):
        path.unlink()
    mark = tmp_path / "it-ran"
    evil = CellFiles(first.folder).checkpoints / "evil"
    torch.save({"run_id": spec.run_id, "state": _Evil(mark)}, evil)
    evil.rename(evil.with_name(checkpoints.name_of(8, checkpoints._sha256(evil))))
    second = cell(tmp_path, spec, earlier=first)
    assert second.row["resumed_from"].startswith("step 0; step 8 is damaged")
    assert not mark.exists()


class _Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_another_machine_is_told(tmp_path):
    spec = spec_of(steps=14)
    first = cell(tmp_path, spec, dies_at=9)
    second = cell(tmp_path, spec, earlier=first, here=HERE._replace(host_id="other"))
    assert second.row["resumed_from"] == "step 8, kept on another machine"


@pytest.mark.parametrize("together", [1, 3])
def test_steps_in_graphs_go_on_too(together, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "EVAL_TOKENS", {"cpu": 32})
    settings = {"schedule": "cosine", "warmup_steps": 3, "graph_steps": together}
    in_graphs = asking(spec_of(steps=22, every=7), **settings)
    with recorded_graphs():
        first = cell(tmp_path, in_graphs, dies_at=18)
        second = cell(tmp_path, in_graphs, earlier=first)
        undisturbed = run(tmp_path, in_graphs)
    assert second.row["resumed_from"] == "step 16"
    assert told(second)[:3] == told(undisturbed)[:3]
    assert 0 < second.row["graph_steps_share"] < 1


# --- Classes of your own -------------------------------------------------------------------------

TEXT = """
import torch
from torch import nn

class InState(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(p.grad, 0.1)
                p.sub_(m, alpha=group["lr"])

class InAttribute(InState):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        self.sums = {}

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.sums.setdefault(p, torch.zeros_like(p))
                m.lerp_(p.grad, 0.1)
                p.sub_(m, alpha=group["lr"])

class WithFunction(InState):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        self.param_groups[0]["shape"] = lambda m: m

class InBytes(InState):
    '''Counts in 8 bits, which wrap, and sums in 64, beside a nested list.'''
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["count"] = torch.full((), 250, dtype=torch.uint8)
                    state["sums"] = [torch.zeros_like(p, dtype=torch.float64)]
                state["count"] += 1
                state["sums"][0] += p.grad
                p.sub_(state["sums"][0].float(), alpha=0.01 * (1 + state["count"].item() % 7))

class Cast(InBytes):
    '''Reads its state in a way of its own, and that wrongly.'''
    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)

class Averaging(InState):
    '''Evaluated with the mean of its weights.'''
    def _mean(self, p):
        return self.state[p].setdefault("mean", p.detach().clone())

    def step(self, closure=None):
        super().step()
        for group in self.param_groups:
            for p in group["params"]:
                self._mean(p).lerp_(p.detach(), 0.2)

    @torch.no_grad()
    def _swap(self):
        for group in self.param_groups:
            for p in group["params"]:
                mean = self._mean(p)
                here = p.clone()
                p.copy_(mean)
                mean.copy_(here)
        self.away = not getattr(self, "away", False)

    def eval(self):
        if not getattr(self, "away", False):
            self._swap()

    def train(self):
        if getattr(self, "away", False):
            self._swap()

class Model(nn.Module):
    '''With dropout, and a buffer that its first pass makes.'''
    def __init__(self, vocab_size, block_size, d=8):
        super().__init__()
        self.token = nn.Embedding(vocab_size, d)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(d, vocab_size)

    def forward(self, tokens):
        if not hasattr(self, "seen"):
            self.register_buffer("seen", torch.zeros(1))
        if self.training:
            self.seen += 1
        return self.head(self.drop(self.token(tokens)) * (1 + 0.01 * self.seen))

class Counting(Model):
    calls = 0

    def forward(self, tokens):
        self.calls += 1
        return super().forward(tokens) * (1 + 0.01 * self.calls)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cell with an optimizer, or a model, of the text above."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "kept_by.py").write_text(TEXT)
    importlib.invalidate_caches()
    spec = spec_of(steps=14, every=5)

    def own(optimizer: str = "", model: str = "", **options: Any) -> RunSpec:
        named = dict[str, Any]()
        if optimizer:
            made = OwnOptimizer(f"kept_by:{optimizer}", {"lr": 0.1}, **options)
            named["optimizer"] = Optimizer("own", OWN, made)
        if model:
            named["model"] = Model("own", OWN, OwnModel(f"kept_by:{model}", {}))
        return dataclasses.replace(spec, **named)

    return own


@pytest.mark.parametrize(
    "asked",
    [
        {"optimizer": "InState"},
        {"optimizer": "InState", "leaves": "matrices"},
        {"optimizer": "InBytes"},
        {"optimizer": "InBytes", "leaves": "matrices"},
        {"optimizer": "Averaging"},
        {"model": "Model"},
        {"model": "Model", "optimizer": "Averaging"},
    ],
    ids=str,
)
def test_a_class_goes_on_as_if_nothing_had_been(asked, own, tmp_path):
    spec = own(**asked)
    first = cell(tmp_path, spec, dies_at=9)
    assert told(cell(tmp_path, spec, earlier=first)) == told(run(tmp_path, spec))


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"optimizer": "InAttribute"}, "the loss after it is"),
        ({"optimizer": "WithFunction"}, "WithFunction"),
        ({"optimizer": "Cast"}, "what it took back differs from it"),
        ({"model": "Counting"}, "the loss after it is"),
    ],
    ids=str,
)
def test_a_class_that_would_not_is_told_before_it_trains(asked, what, own, tmp_path):
    ran = cell(tmp_path, own(**asked))
    assert (ran.result["status"], ran.result["stage"]) == ("crashed", "warmup")
    assert (
        "limits.checkpoint_every: the model or the optimizer does not go on" in ran.result["reason"]
    )
    assert what in ran.result["reason"]
    assert run(tmp_path, own(**asked)).result["status"] == "ok"
