"""Logs of runs that exist already, read by the patterns of a matrix of their program."""

import json
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.errors import ForeignError, MatrixError
from bench.merge.merging import merge
from bench.records.rows import read_table
from bench.run.imported.logs import LogsRequest
from bench.run.imported.results import Foreign
from tests.builders.shared import bench

EVALUATED = r"step (?P<step>\d+): train loss (?P<train_loss>\S+), val loss (?P<val_loss>\S+)"
TRAINED = r"iter (?P<step>\d+): loss (?P<loss>\S+), time (?P<step_time_ms>\S+)ms"
NAMED = r"(?P<model>\w+)-(?P<optimizer>\w+)-(?P<seed>\d+)\.log"
MATRIX: dict[str, Any] = {
    "name": "old",
    "program": {
        "path": "./train.py",
        "command": ["python", "train.py", "{lr}", "{seed}"],
        "read": [EVALUATED, TRAINED],
    },
    "matrix": {
        "model": ["small"],
        "optimizer": ["slow", "fast"],
        "device": ["cpu"],
        "seed": [1, 2],
    },
    "models": {"small": {}},
    "optimizers": {"slow": {"lr": 0.1}, "fast": {"lr": 0.2}},
    "claim": {
        "baseline": {"model": "small", "optimizer": "slow"},
        "metric": "val_loss_final",
        "margin": 0.01,
    },
}


def log(loss: float = 2.0, steps: int = 100, every: int = 10) -> str:
    """What nanoGPT's kind of a script prints."""
    lines = ["number of parameters: 0.80M"]
    for step in range(steps + 1):
        now = loss + 1 / (1 + step)
        if step % every == 0:
            lines.append(f"step {step}: train loss {now - 0.1:.4f}, val loss {now:.4f}")
        lines.append(f"iter {step}: loss {now:.4f}, time {10 + step % 3:.2f}ms, mfu 3.20%")
    return "\n".join(lines) + "\n"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text("print('loss 1')\n")
    (tmp_path / "logs").mkdir()
    return tmp_path


def put(desk: Path, logs: Mapping[str, str]) -> None:
    for name, text in logs.items():
        (desk / "logs" / name).write_text(text)


ALL = [f"small-{optimizer}-{seed}.log" for optimizer in ("slow", "fast") for seed in (1, 2)]


def read(
    desk: Path, changed: Mapping[str, Any] = {}, named: str = NAMED, **program: Any
) -> Foreign:
    matrix = {**MATRIX, **changed, "program": {**MATRIX["program"], **program}}
    (desk / "m.yaml").write_text(yaml.safe_dump(matrix))
    return LogsRequest(str(desk / "logs" / "*"), desk / "m.yaml", named, "").read()


def only(foreign: Foreign) -> dict[str, Any]:
    (run,) = foreign.runs.values()
    return {name: value for name, value in run.columns.items() if value is not None}


def wrong(desk: Path, *asked: Any, **program: Any) -> list[tuple[str, str]]:
    with pytest.raises(ForeignError) as refused:
        read(desk, *asked, **program)
    return [(Path(each.where).name, each.what) for each in refused.value.mistakes]


# --- What is read ---------------------------------------------------------------------------------


def test_a_log_is_a_run_with_its_curve_and_its_told_times(desk: Path) -> None:
    put(desk, {"small-slow-01.log": log()})
    found = read(desk)
    assert list(found.runs) == [("small", "slow", "cpu", 1)]
    assert only(found) == {
        "status": "ok",
        "steps": 100,
        "val_loss_final": 2.0099,
        "val_loss_best": 2.0099,
        "train_loss_final": 1.9099,
        "step_time_source": "told",
        "step_time_ms_p50": 11.0,
        "step_time_ms_p90": 12.0,
        "step_time_ms_p99": 12.0,
    }
    (run,) = found.runs.values()
    points = [(point["step"], point["val_loss"]) for point in run.curve]
    assert points[:2] == [(0, 3.0), (10, 2.0909)]
    assert len(points) == 11
    assert {point["train_time_s"] for point in run.curve} == {None}


def test_when_lines_came_is_not_known_so_that_there_are_no_times(desk: Path) -> None:
    put(desk, {ALL[0]: log()})
    columns = only(read(desk, read=[EVALUATED, r"iter (?P<step>\d+): loss (?P<loss>[^,]+)"]))
    assert columns["status"] == "ok"
    assert not any("time" in name for name in columns)


def test_training_time_that_was_printed_is_told(desk: Path) -> None:
    put(desk, {ALL[0]: "step:0 val_loss:3.0 train_time:0ms\nstep:5 val_loss:2.5 train_time:750ms"})
    evaluated = r"step:(?P<step>\d+) val_loss:(?P<val_loss>\S+) train_time:(?P<train_time_ms>\d+)ms"
    columns = only(read(desk, read=[evaluated]))
    assert columns["train_time_s"] == 0.75
    assert columns["step_time_source"] == "told"


def test_declared_metrics_and_json_lines(desk: Path) -> None:
    put(desk, {ALL[0]: '{"step": 1, "val_bpb": 1.5}\nnoise\n{"step": 2, "val_bpb": 1.25}'})
    found = read(desk, read=[], metrics={"val_bpb": {"better": "lower"}})
    assert only(found)["metrics"] == '{"val_bpb": 1.25}'
    assert json.loads(found.settings)["program"]["metrics"] == {"val_bpb": "lower"}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: "\x1b[32m" + text.replace("\n", "\x1b[0m\n\x1b[32m"),
        lambda text: "\x00\x01\xff" * 1000 + "\n" + text,
        lambda text: "x" * 3_000_000 + "\n" + text,
        lambda text: text.replace("\n", "\r"),
    ],
)
def test_one_run_however_its_log_is_written(desk: Path, change: Callable[[str], str]) -> None:
    put(desk, {ALL[0]: change(log())})
    assert only(read(desk))["val_loss_final"] == 2.0099


# --- How runs ended -------------------------------------------------------------------------------


def test_a_log_without_a_loss_has_crashed_and_its_end_is_quoted(desk: Path) -> None:
    put(desk, {ALL[0]: "loading\nTraceback (most recent call last):\nKeyError: 'lr'\n"})
    columns = only(read(desk))
    assert columns["status"] == "crashed"
    assert columns["reason"].startswith("an error comes after its last figure; its log ends: ")
    assert "KeyError: 'lr'" in columns["reason"]
    put(desk, {ALL[0]: "loading\nstep 1: nothing\n"})
    reason = only(read(desk))["reason"]
    assert reason.startswith(
        "its log ends without one, and in 2 lines there was no val_loss; nothing matches "
    )
    assert "exit code" not in reason


@pytest.mark.parametrize(
    "last",
    [
        "Killed",
        "run.sh: line 3:  1234 Segmentation fault      (core dumped) python train.py",
        "slurmstepd: error: *** JOB 1 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***",
        "terminate called after throwing an instance of 'std::bad_alloc'",
    ],
)
def test_a_run_that_was_killed_has_crashed_however_far_it_came(desk: Path, last: str) -> None:
    put(desk, {ALL[0]: log() + last + "\n"})
    columns = only(read(desk))
    assert (columns["status"], "val_loss_final" in columns) == ("crashed", False)
    assert last in columns["reason"]
    put(desk, {ALL[0]: log() + "Killed by the duke: a sample\nsaved\n"})
    assert only(read(desk))["status"] == "ok"


def test_an_error_that_the_run_survived_is_none(desk: Path) -> None:
    text = log().replace("iter 50:", "Traceback (most recent call last):\nOSError\niter 50:")
    put(desk, {ALL[0]: text})
    assert only(read(desk))["status"] == "ok"


def test_no_memory_is_told_as_that(desk: Path) -> None:
    error = "Traceback (most recent call last):\ntorch.OutOfMemoryError: CUDA out of memory.\n"
    put(desk, {ALL[0]: log(steps=50) + error})
    columns = only(read(desk))
    assert columns["status"] == "oom"
    assert "val_loss_final" not in columns


@pytest.mark.parametrize("after", ["", "Traceback (most recent call last):\nAssertionError\n"])
def test_a_loss_that_is_not_finite_has_diverged(desk: Path, after: str) -> None:
    put(desk, {ALL[0]: log().replace("iter 40: loss 2.0244", "iter 40: loss nan") + after})
    columns = only(read(desk))
    assert columns["status"] == "diverged"
    assert columns["reason"].startswith("loss is nan at step 40")
    assert "val_loss_final" not in columns


def test_a_run_that_ended_before_others_of_its_configuration_has_crashed(desk: Path) -> None:
    put(desk, dict.fromkeys(ALL, log()) | {ALL[3]: log(steps=75)})
    found = read(desk)
    assert [run.columns["steps"] for run in found.runs.values()] == [100, 70, 100, 100]
    ends = [run.columns["status"] for run in found.held_to_length().runs.values()]
    assert ends == ["ok", "crashed", "ok", "ok"]
    early = read(desk, steps=100).runs["small", "fast", "cpu", 2].columns  # type: ignore[index]
    assert early["status"] == "crashed"
    assert "last read at step 70, and the matrix says steps: 100" in early["reason"]


def test_a_pattern_that_takes_for_ever_ends_its_log_alone(desk: Path) -> None:
    put(desk, {ALL[0]: log(), ALL[1]: "a" * 40 + "!\n"})
    found = read(desk, read=[EVALUATED, r"(a+)+(?P<loss>\d)$"])
    status = {place.seed: run.columns["status"] for place, run in found.runs.items()}
    assert status == {1: "ok", 2: "crashed"}


# --- Whose log it is ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_plan_is_the_matrix_so_that_a_missing_log_is_seen(desk: Path) -> None:
    put(desk, dict.fromkeys(ALL[:3], log()))
    found = read(desk)
    found.write(desk / "out")
    assert len(found.planned) == 4
    assert [cell.status for cell in merge([desk / "out"]).counted].count("open") == 1
    assert bench("report", desk / "out").stdout.strip().endswith("3 of 4 runs ok, 1 open")


def test_all_mistakes_of_names_at_once(desk: Path) -> None:
    names = ["small-slow-1.log", "small-slow-01.log", "notes.txt", "smal-slow-1.log"]
    put(desk, dict.fromkeys([*names[1:], "small-slow-7.log"], log()))
    assert wrong(desk) == [
        ("notes.txt", "--name-pattern does not match this path."),
        (
            "smal-slow-1.log",
            "the matrix has no model 'smal'. Did you mean 'small'? Allowed: small.",
        ),
        ("small-slow-7.log", "the matrix has no seed '7'. Allowed: 1, 2."),
    ]
    for name in ("notes.txt", "smal-slow-1.log", "small-slow-7.log"):
        (desk / "logs" / name).unlink()
    put(desk, {names[0]: log()})
    ((name, what),) = wrong(desk)
    assert name == "small-slow-1.log"
    assert what == "holds 1 run, and the matrix has place for 0 more that are called so."


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (r"(?P<model>\w+)-\w+-(?P<seed>\d+)", "no group optimizer, and the matrix has several"),
        (r"(?P<optimizer>\w+)-\d+", "no group seed, and the matrix has several: 1, 2."),
        (r"(?P<optimiser>\w+)-(?P<seed>\d+)", "Did you mean 'optimizer'?"),
        ("(", "no regular expression"),
        (".*", "matches the empty text"),
    ],
)
def test_name_patterns_that_do_not_tell_whose_a_log_is(desk: Path, named: str, told: str) -> None:
    put(desk, {ALL[0]: log()})
    assert any(told in what for _, what in wrong(desk, {}, named))


def test_a_pattern_for_no_file_and_a_matrix_without_a_program(desk: Path) -> None:
    ((_, what),) = wrong(desk)
    assert "no file is called so" in what
    (desk / "m.yaml").write_text(
        "name: ours\nmatrix: {model: [nanogpt], optimizer: [adamw], device: [cpu], seed: [1]}\n"
    )
    with pytest.raises(ForeignError, match="has no `program`"):
        LogsRequest(str(desk / "logs" / "*"), desk / "m.yaml", NAMED, "").read()
    (desk / "m.yaml").write_text("name: 1\n")
    with pytest.raises(MatrixError):
        LogsRequest(str(desk / "logs" / "*"), desk / "m.yaml", NAMED, "").read()


def test_runs_that_seed_themselves_take_the_seeds_in_turn(desk: Path) -> None:
    """Their files are named at random, as modded-nanogpt names them; some hold several runs."""
    put(desk, {"slow-af3.txt": log(2.0), "slow-b01.txt": log(2.1)})
    put(desk, {"fast-c.txt": "begin\n" + log(1.9) + "begin\n" + log(1.8)})
    named = r"(?P<optimizer>\w+)-\w+\.txt"
    program = {"command": ["python", "train.py", "{lr}"], "seeds": "replicates", "trials": "begin"}
    found = read(desk, {}, named, **program)
    losses = {place[1::2]: run.columns["val_loss_final"] for place, run in found.runs.items()}
    assert losses == {
        ("slow", 1): 2.0099,
        ("slow", 2): 2.1099,
        ("fast", 1): 1.9099,
        ("fast", 2): 1.8099,
    }
    put(desk, {"slow-c.txt": log()})
    ((name, what),) = wrong(desk, {}, named, **program)
    assert name == "slow-c.txt"
    assert "holds 1 run, and the matrix has place for 0 more" in what


# --- By the command -------------------------------------------------------------------------------


def typed(desk: Path, *more: str | Path) -> Any:
    where = ("--logs", str(desk / "logs" / "*"), "--matrix", desk / "m.yaml")
    return bench("import", *where, "--name-pattern", NAMED, "--out", desk / "out", *more)


@pytest.mark.slow
def test_the_command_leaves_what_report_compare_and_bundle_take(desk: Path) -> None:
    put(desk, dict.fromkeys(ALL, log()) | {ALL[3]: "loss? none\n"})
    read(desk)  # which writes the matrix
    answer = typed(desk)
    assert answer.returncode == 0, answer.stderr
    assert f"imported 4 runs into {desk / 'out'}: " in answer.stdout
    assert "3 ok" in answer.stdout
    assert "1 crashed" in answer.stdout
    rows = read_table(desk / "out" / "runs.csv")
    for row in rows:
        text = (desk / "out" / row["log_path"]).read_text()
        assert text == (log() if row["status"] == "ok" else "loss? none\n")
    answer = bench("report", desk / "out")
    assert answer.returncode == 0, answer.stderr
    first = answer.stdout.strip().splitlines()[0]
    assert first.startswith("These runs were made elsewhere and imported")
    assert "against small + slow, margin 0.01" in first
    assert bench("bundle", desk / "out").returncode == 0
    assert bench("verify", desk / "out.tar.gz").returncode == 0
    again = typed(desk)
    assert again.returncode == 2
    assert "has runs already" in again.stderr


def test_an_imported_log_closes_no_cell_of_its_matrix(desk: Path) -> None:
    put(desk, dict.fromkeys(ALL, log()))
    read(desk).write(desk / "out")
    answer = bench("plan", desk / "m.yaml", "--runtime", "local", "--out", desk / "out")
    assert answer.returncode == 0, answer.stderr
    assert "4 cells, 4 selected, 0 of them done" in answer.stdout


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--logs", "x"),
        ("--logs", "x", "--matrix", "m"),
        ("a.csv", "--logs", "x", "--matrix", "m", "--name-pattern", "p"),
        ("--logs", "x", "--matrix", "m", "--name-pattern", "p", "--metric", "val_loss=l"),
        ("a.csv", "--matrix", "m"),
    ],
)
def test_a_csv_or_logs_and_no_mixture(options: tuple[str, ...]) -> None:
    answer = bench("import", *options)
    assert answer.returncode == 2
    assert "name a CSV with its columns, or --logs" in answer.stderr


def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    answer = bench("import", tmp_path / "a.csv", "--name", "../a")
    assert answer.returncode == 2
    assert "--name '../a' cannot be a name" in answer.stderr


@pytest.mark.slow
def test_four_hundred_logs_become_a_page(desk: Path) -> None:
    draw = random.Random(1)
    seeds = list(range(200))
    for optimizer, gain in (("slow", 0.0), ("fast", 0.05)):
        for seed in seeds:
            loss = 2.0 - gain + draw.gauss(0, 0.01)
            put(desk, {f"small-{optimizer}-{seed}.log": log(loss, steps=900)})
    found = read(desk, {"matrix": MATRIX["matrix"] | {"seed": seeds}})
    found.write(desk / "out")
    answer = bench("report", desk / "out")
    assert answer.returncode == 0, answer.stderr
    assert "small + fast is better on 200 of 200 planned seeds" in answer.stdout
    assert "400 of 400 runs ok" in answer.stdout
    assert math.isclose(len(read_table(desk / "out" / "curves.csv")), 400 * 91)
