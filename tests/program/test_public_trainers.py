"""Programs in the shape of public trainers, through every command, by the matrices of the docs."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from bench.launch.engine import Engine
from bench.matrix.expansion import load_matrix
from bench.records.rows import read_table
from tests.builders.own_code import FOX
from tests.builders.public_trainers import PROGRAMS, TRAINERS, recipes, write_trainer
from tests.builders.shared import ROOT, bench

# What is read of a run: what is claimed on, and where its figure stands.
CLAIMED = {"nanogpt": "val_loss_final", "nanochat": "val_bpb", "modded-nanogpt": "val_loss_final"}
STEPS = {"nanogpt": 30, "nanochat": 20, "modded-nanogpt": 20}
each_trainer = pytest.mark.parametrize("name", TRAINERS)


def told(*arguments: str | Path) -> str:
    """What a command prints, which must end well."""
    answer = bench(*arguments, timeout_s=900)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def figure(row: dict[str, str], name: str) -> float:
    return float(row[name] if name in row else json.loads(row["metrics"])[name])


@each_trainer
def test_a_matrix_is_no_longer_than_fifteen_lines(tmp_path: Path, name: str) -> None:
    assert len(recipes()[name].splitlines()) <= 15
    assert len(load_matrix(write_trainer(tmp_path, name)).cells) == 10


@pytest.mark.slow
@each_trainer
def test_check_shows_what_each_pattern_reads(tmp_path: Path, name: str) -> None:
    matrix = write_trainer(tmp_path, name)
    said = told("check", matrix, "--runtime", "local")
    for pattern in load_matrix(matrix).cells[0].spec.program.read:
        assert pattern in said


@pytest.mark.slow
@each_trainer
def test_run_report_compare_bundle(tmp_path: Path, name: str) -> None:
    matrix = write_trainer(tmp_path, name)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    first, again = tmp_path / "first", tmp_path / "again"
    said = told("run", matrix, "--report", "--out", first, "--runtime", "local")
    assert "10 of 10 runs ok" in said
    assert before == {file: file.read_bytes() for file in before}  # nothing there was touched
    rows = read_table(first / "runs.csv")
    assert Counter(row["status"] for row in rows) == {"ok": 10}
    assert len({(row["optimizer"], row["seed"]) for row in rows}) == 10
    for row in rows:
        assert math.isfinite(figure(row, CLAIMED[name]))
        assert int(row["steps"]) == STEPS[name]
        assert float(row["train_time_s"]) > 0
        assert row["step_time_source"] in ("told", "stamps")
        assert row["corpus"] == ""
    # Other seeds, or trials, are other runs.
    for optimizer in {row["optimizer"] for row in rows}:
        found = [figure(row, CLAIMED[name]) for row in rows if row["optimizer"] == optimizer]
        assert len(set(found)) == 5
    assert (first / "report" / "index.html").is_file()
    if name != "nanochat":  # which tells no loss of an evaluation
        curves = read_table(first / "curves.csv")
        assert max(int(point["step"]) for point in curves) == STEPS[name]
    two = ("--only", "seed=1", "--only", "seed=2")
    told("run", matrix, "--out", again, "--runtime", "local", *two)
    compared = told("compare", first, again)
    assert CLAIMED[name] in compared or "validation loss" in compared
    if name != "modded-nanogpt":  # which seeds nothing
        repeated = losses(read_table(again / "runs.csv"), name)
        assert len(repeated) == 4
        assert repeated.items() <= losses(rows, name).items()
    told("bundle", first, "--out", tmp_path / "first.tar.gz")
    told("verify", tmp_path / "first.tar.gz")


def losses(rows: list[dict[str, str]], name: str) -> dict[tuple[str, str], float]:
    return {(row["optimizer"], row["seed"]): figure(row, CLAIMED[name]) for row in rows}


TUNE = "tune: {{trials: 2, seeds: [101], metric: {metric}, space: {{{key}: [{values}]}}}}\n"
TUNED = {
    "nanogpt": TUNE.format(metric="val_loss_final", key="lr", values="1.0e-2, 3.0e-2"),
    "nanochat": TUNE.format(metric="val_bpb", key="matrix_lr", values="1.0e-2, 3.0e-2"),
    "modded-nanogpt": TUNE.format(metric="val_loss_final", key="lr", values="0.01, 0.02")
    + "optimizers: {adam: {lr: 0.01}, muon: {lr: 0.01}}\n",
}
# Arms that tuning does not make one: two models, or a script whose rate is replaced.
LR = '  replace: {train_adam.py: {lr=0.01: "lr={lr}"}, train_muon.py: {lr=0.01: "lr={lr}"}}\n'
TWO_ARMS = {
    "nanogpt": (
        ("[small], optimizer: [slow, fast]", "[small, deep], optimizer: [slow]"),
        ("small: {n_layer: 4}", "small: {n_layer: 1}, deep: {n_layer: 2}"),
        (", fast: {lr: 3.0e-2}", ""),
    ),
    "nanochat": (
        ("[d4], optimizer: [low, high]", "[d4, d2], optimizer: [low]"),
        ("d4: {depth: 4}", "d4: {depth: 4}, d2: {depth: 2}"),
        (", high: {matrix_lr: 2.0e-2}", ""),
    ),
    "modded-nanogpt": (("  seeds: replicates\n", f"{LR}  seeds: replicates\n"),),
}


@pytest.mark.slow
@each_trainer
def test_tune_varies_what_placeholders_stand_for(tmp_path: Path, name: str) -> None:
    matrix = write_trainer(tmp_path, name, ("seed: [1, 2, 3, 4, 5]", "seed: [1]"), *TWO_ARMS[name])
    matrix.write_text(matrix.read_text() + TUNED[name])
    told("run", matrix, "--report", "--out", tmp_path / "tuned", "--runtime", "local")
    rows = read_table(tmp_path / "tuned" / "runs.csv")
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["optimizer"] for row in rows if row["part"] == "tuned"} == {
        f"{optimizer}-tuned" for optimizer in {row["optimizer"] for row in rows if not row["part"]}
    }


@pytest.mark.slow
@each_trainer
def test_a_container_makes_the_same_run(tmp_path: Path, name: str, engine: Engine) -> None:
    """Without a network, with the program's own folder as the only place to write."""
    matrix = write_trainer(tmp_path, name, ("seed: [1, 2, 3, 4, 5]", "seed: [1]"))
    out = tmp_path / "results"
    only = ("--only", f"optimizer={load_matrix(matrix).cells[0].spec.optimizer.name}")
    told("check", matrix, "--runtime", engine.name, *only)
    told("run", matrix, "--out", out, "--runtime", engine.name, *only)
    (row,) = read_table(out / "runs.csv")
    assert (row["status"], row["runtime"]) == ("ok", engine.name)
    assert math.isfinite(figure(row, CLAIMED[name]))


OURS = """\
name: ours
data: {corpus: fox.txt}
train: {steps: 30, batch_size: 4, block_size: 16}
eval: {every: 10}
matrix: {model: [small], optimizer: [adamw, truemuon], device: [cpu], seed: [3]}
models: {small: {base: nanogpt, n_embd: 16, n_layer: 1, n_head: 2}}
"""
SCRIPTED = """\
name: scripted
program:
  path: ./scripted
  command: [python, train.py, data/fox.txt, "{optimizer}", "{seed}", "{steps}"]
  data: {fox.txt: ./fox.txt}
  steps: 30
matrix: {model: [small], optimizer: [adamw, truemuon], device: [cpu], seed: [3]}
"""


@pytest.mark.slow
def test_a_built_in_cell_and_the_same_training_as_a_program_have_the_same_losses(
    tmp_path: Path,
) -> None:
    """To the last digit: how a run is launched and read changes nothing of what it computes."""
    (tmp_path / "fox.txt").write_text(FOX)
    write_scripted(tmp_path / "scripted")
    found = {}
    for name, text in (("ours", OURS), ("scripted", SCRIPTED)):
        (tmp_path / f"{name}.yaml").write_text(text)
        out = tmp_path / name
        told("run", tmp_path / f"{name}.yaml", "--out", out, "--runtime", "local")
        rows = {row["optimizer"]: row for row in read_table(out / "runs.csv")}
        curves = read_table(out / "curves.csv")
        found[name] = (
            {optimizer: row["val_loss_final"] for optimizer, row in rows.items()},
            [(point["step"], point["train_loss"], point["val_loss"]) for point in curves],
        )
    assert found["ours"] == found["scripted"]


def write_scripted(folder: Path) -> None:
    """The script, and beside it what it imports of ours: the worker's side."""
    folder.mkdir()
    (folder / "train.py").write_bytes((PROGRAMS / "scripted" / "train.py").read_bytes())
    package = ROOT / "bench"
    for part in ("border", "models", "optim", "worker"):
        for file in [package / "__init__.py", *(package / part).rglob("*.py")]:
            target = folder / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
