"""A cell that ends well leaves whole files, whose figures follow from each other."""

import dataclasses
import json
import math
import statistics
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench.border.identity import SCHEMA_VERSION, code_sha256
from bench.border.logical import initialise
from bench.border.options import (
    DataOptions,
)
from bench.border.spec import PHASES, RunSpec
from bench.records.columns import RUN_COLUMNS
from bench.records.tables import CURVE_COLUMNS
from bench.worker import cell, evaluation, figures
from bench.worker.clocks import StepSample
from bench.worker.data import read_tokens
from bench.worker.positions import BatchPositions
from bench.worker.registry import MODELS, OPTIMIZERS
from bench.worker.streams import torch_stream
from tests.builders.worker_cells import TEXT, Ran, run, spec_of


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One cell that ends well: 10 steps, evaluated at 0, 4, 8 and 10."""
    return run(tmp_path_factory.mktemp("ran"), spec_of(), inferences=evaluation.INFER_ROUND)


def trained(spec: RunSpec, corpus: Path) -> nn.Module:
    """The model after the cell's training, without warm-up, evaluation or clock."""
    tokens = read_tokens(corpus, spec.corpus.sha256, spec.data)
    model = MODELS[spec.model.base](spec.model.options, tokens.vocab_size, 8)
    stacks = model.stacks()
    initialise(stacks, lambda name: torch_stream(spec.seed, "weights", name))
    optimizers = OPTIMIZERS[spec.optimizer.base].build(stacks, spec.optimizer.options)
    windows = tokens.windows("train", 8)
    table = BatchPositions(spec.seed, spec.train.steps, spec.train.batch_size, len(windows))
    for row in table:
        batch = windows.at(row)
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return model


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
        "carried_s": 0.0,
    }


def test_a_cell_leaves_its_files_whole(ran):
    names = {file.name for file in ran.folder.iterdir()}
    tables = {"curve.csv", "steps.csv", "val_windows.csv"}
    assert names == {"spec.json", "result.json", "env.json", *tables}
    for name in tables:
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


def of_windows(ran, split: str) -> float:
    """The mean over all windows."""
    table = ran.table(f"{split}_windows.csv")
    counts = [int(line["windows"]) for line in table]
    total = sum(n * float(line["loss"]) for n, line in zip(counts, table, strict=True))
    return total / sum(counts)


def test_the_loss_of_each_window_of_the_last_evaluation_is_kept(ran):
    blocks = (len(TEXT) - int(0.9 * len(TEXT)) - 1) // 8
    assert ran.column("val_windows.csv", "windows") == ["1"] * blocks
    assert len(set(ran.column("val_windows.csv", "loss"))) > 5
    assert of_windows(ran, "val") == pytest.approx(ran.row["val_loss_final"], rel=1e-6)


def test_of_a_long_text_parts_of_as_many_windows_to_one_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(cell, "MOST_PARTS", 3)
    ran = run(tmp_path, spec_of())
    counts = [int(count) for count in ran.column("val_windows.csv", "windows")]
    assert len(counts) == 3
    assert max(counts) - min(counts) <= 1
    assert of_windows(ran, "val") == pytest.approx(ran.row["val_loss_final"], rel=1e-6)


def test_windows_of_the_test_split_are_kept_and_none_that_were_drawn_at_random(tmp_path):
    spec = replace(spec_of(protocol="sampled"), data=DataOptions(split=(0.8, 0.1, 0.1)))
    ran = run(tmp_path, spec)
    assert of_windows(ran, "test") == pytest.approx(ran.row["test_loss_final"], rel=1e-6)
    assert not (ran.folder / "val_windows.csv").exists()


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
    # Nothing is compiled or kept, and it waits for nobody.
    assert len(phases) == len(PHASES) - 3
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
    (test,) = tokens.splits["test"].tensors
    starts = range(0, len(test) - 8, 8)
    windows = torch.stack([test[start : start + 9] for start in starts]).long()
    with torch.inference_mode():
        logits = model(windows[:, :-1]).flatten(0, 1)
    by_hand = F.cross_entropy(logits, windows[:, 1:].flatten()).item()
    assert ran.row["test_loss_final"] == pytest.approx(by_hand, rel=1e-6)
    assert ran.row["test_loss_final"] != ran.row["val_loss_final"]


def test_without_a_third_share_there_is_no_test_loss(ran):
    assert ran.row["test_loss_final"] is None


def test_a_run_shorter_than_its_warm_up_ends_well(tmp_path):
    ran = run(tmp_path, spec_of(steps=1))
    assert (ran.code, ran.result["status"], ran.row["steps"]) == (0, "ok", 1)


def test_threads_are_those_asked_for(tmp_path):
    spec = spec_of(steps=1)
    spec = dataclasses.replace(spec, train=dataclasses.replace(spec.train, threads=2))
    assert run(tmp_path, spec).row["threads"] == 2


def test_a_sample_of_several_steps_weighs_as_many():
    row = figures.step_time_columns([StepSample(8, 9, 9.0), StepSample(9, 1, 101.0)])
    assert row["step_time_ms_p50"] == 1.0
    assert row["step_time_ms_p99"] > 90


@pytest.mark.parametrize(("factor", "drift"), [(1.0, 0.0), (1.5, 50.0), (0.8, -20.0)])
def test_drift_is_the_last_third_against_the_first(factor, drift):
    samples = [StepSample(n, 1, 10.0 if n < 20 else 10.0 * factor) for n in range(30)]
    assert figures.step_time_columns(samples)["step_time_drift_pct"] == pytest.approx(drift)
    assert "step_time_drift_pct" not in figures.step_time_columns(samples[:29])


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
