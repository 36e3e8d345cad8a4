"""Who a cell of a program is: by what runs and is read, and by nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.border.identity import OF_PROGRAMS, PACKAGE, program_code_sha256
from bench.border.spec import RunSpec
from bench.matrix.expansion import load_matrix
from tests.builders.program_matrices import write_program

Change = tuple[str, str]
MODEL = "models: {small: {n_layer: 4, mode: plain}}"


def specs(folder: Path, *changes: Change) -> dict[tuple[str, str, int], RunSpec]:
    """By model, optimizer and seed."""
    folder.mkdir(exist_ok=True)
    cells = load_matrix(write_program(folder, *changes)).cells
    return {
        (cell.spec.model.name, cell.spec.optimizer.name, cell.spec.seed): cell.spec
        for cell in cells
    }


def ids(folder: Path, *changes: Change) -> list[str]:
    return [spec.run_id for spec in specs(folder, *changes).values()]


# Name -> what the matrix says instead: another run.
DECIDES: dict[str, tuple[Change, ...]] = {
    "argument": (("--out={out}", "--output={out}"),),
    "one argument for two": (('"--out={out}"', '"--out", "{out}"'),),
    "value of the model": (("n_layer: 4", "n_layer: 5"),),
    "kind of a value": (("n_layer: 4", "n_layer: 4.0"),),
    "value of both optimizers": (("lr: 0.25", "lr: 0.3"), ("lr: 0.5", "lr: 0.7")),
    "replacement": (('"SEED = {seed}"', '"SEED = 1 + {seed}"'),),
    "what is replaced": (('"SEED = 1337": "SEED = {seed}"', '"1337": "{seed}"'),),
    "content of a file": (("steps = {steps}", "n = {steps}"),),
    "name of a file": (("conf/run.cfg", "conf/ran.cfg"),),
    "variable": (('MODE: "{mode}"', 'MODE: "{mode}", MORE: a'),),
    "value of a variable": (("mode: plain", "mode: other"),),
    "name of the data": (("{text: ./texts}", "{words: ./texts}"),),
    "pattern": ((r"'val (?P<val_loss>\S+) ", r"'val  (?P<val_loss>\S+) "),),
    "steps": (("steps: 10", "steps: 11"),),
    "threads": (("steps: 10", "steps: 10\n  threads: 2"),),
    "GPUs": (("steps: 10", "steps: 10\n  gpus: 2"),),
    "replicates": (("steps: 10", "steps: 10\n  seeds: replicates"),),
    "trials": (
        ("steps: 10", "steps: 10\n  seeds: replicates\n  trials: run"),
        ("SEED = {seed}", "SEED = 5"),
    ),
    "direction of a metric": (("better: lower", "better: higher"),),
    "device": (("device: [cpu]", "device: [cuda]"),),
}


@pytest.mark.parametrize("changes", DECIDES.values(), ids=DECIDES.keys())
def test_what_decides_a_run_is_part_of_its_identity(tmp_path, changes):
    before, after = ids(tmp_path / "a"), ids(tmp_path / "b", *changes)
    assert len(before) == len(after) == 4
    assert set(before).isdisjoint(after)


def test_no_two_of_these_give_the_same_run_id(tmp_path):
    found = [ids(tmp_path / str(number), *each) for number, each in enumerate(DECIDES.values())]
    assert len({run_id for each in found for run_id in each}) == 4 * len(DECIDES)


# Name -> what the matrix says instead: the same runs.
DECIDES_NOTHING: dict[str, tuple[Change, ...]] = {
    "comment": (("  steps: 10\n", "  # a remark\n\n  steps: 10  # another\n"),),
    "name": (("name: mine", "name: yours"),),
    "names of optimizers": (
        ("[slow, fast]", "[one, two]"),
        ("slow: {lr: 0.25}", "one: {lr: 0.25}"),
        ("fast: {lr: 0.5}", "two: {lr: 0.5}"),
        ("optimizer: slow}", "optimizer: one}"),
    ),
    "names of values": (
        ("--lr={lr}", "--lr={rate}"),
        ("slow: {lr:", "slow: {rate:"),
        ("fast: {lr:", "fast: {rate:"),
    ),
    "value for its text": (('"--layers={n_layer}"', "--layers=4"), ("n_layer: 4, ", "")),
    "defaults": (("  steps: 10", "  steps: 10\n  gpus: 1\n  threads: 1\n  seeds: paired"),),
    "margin": (("margin: 0.01", "margin: 0.5"),),
    "limits": (("name: mine", "name: mine\nlimits: {timeout_s: 5, memory_gib: 1}"),),
    "what is ignored, and is not there": (('["*.pt"]', '["*.pt", "*.bin"]'),),
    "order of keys": (("  steps: 10\n", ""), ("  path: ./prog\n", "  steps: 10\n  path: ./prog\n")),
}


@pytest.mark.parametrize("changes", DECIDES_NOTHING.values(), ids=DECIDES_NOTHING.keys())
def test_what_decides_no_run_is_none_of_it(tmp_path, changes):
    assert ids(tmp_path / "a") == ids(tmp_path / "b", *changes)


def test_where_a_program_lies_does_not_count(tmp_path):
    before = ids(tmp_path / "a")
    file = tmp_path / "b" / "deep" / "mine.yaml"
    file.parent.mkdir(parents=True)
    shutil.move(tmp_path / "a" / "mine.yaml", file)
    shutil.move(tmp_path / "a" / "prog", tmp_path / "b" / "prog")
    shutil.move(tmp_path / "a" / "texts", tmp_path / "b" / "deep" / "words")
    text = file.read_text().replace("./prog", "../prog").replace("./texts", "./words")
    file.write_text(text)
    assert [cell.spec.run_id for cell in load_matrix(file).cells] == before


@pytest.mark.parametrize("axis", ["model", "optimizer"])
def test_a_name_counts_where_the_program_takes_it(tmp_path, axis):
    used = ("--out={out}", f"--out={{out}}/{{{axis}}}")
    renamed = {
        "model": [("model: [small]", "model: [tiny]"), (MODEL, MODEL.replace("small", "tiny"))],
        "optimizer": [("[slow, fast]", "[one, fast]"), ("slow: {lr:", "one: {lr:")],
    }[axis]
    claim = {"model": ("{model: small,", "{model: tiny,"), "optimizer": ("r: slow}", "r: one}")}
    found = [
        {spec.run_id for spec in specs(tmp_path / str(number), used, *more).values()}
        for number, more in enumerate(([], [*renamed, claim[axis]]))
    ]
    shared = 0 if axis == "model" else 2  # `fast` is called so in both
    assert len(found[0] & found[1]) == shared


def test_a_seed_is_another_run_of_the_same_arm(tmp_path):
    found = specs(tmp_path)
    one, other = found["small", "slow", 1], found["small", "slow", 2]
    assert one.run_id != other.run_id
    assert one.arm_id == other.arm_id
    assert one.arm_id != found["small", "fast", 1].arm_id


@pytest.mark.parametrize("name", ["prog/train.py", "texts/a.txt"])
def test_code_and_data_count_by_their_bytes(tmp_path, name):
    file = write_program(tmp_path)
    before = [cell.spec.run_id for cell in load_matrix(file).cells]
    place = tmp_path / name
    content, times = place.read_bytes(), place.stat()
    place.write_bytes(content + b"\n")
    assert {cell.spec.run_id for cell in load_matrix(file).cells}.isdisjoint(before)
    place.write_bytes(content)
    assert [cell.spec.run_id for cell in load_matrix(file).cells] == before
    assert times.st_mtime_ns != place.stat().st_mtime_ns


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("prog/more.py", True),
        ("prog/deep/more.txt", True),
        ("texts/b.txt", True),
        ("texts/.hidden", True),  # what a program reads is all that it may read
        ("prog/.git/config", False),
        ("prog/weights.pt", False),
        ("prog/__pycache__/train.pyc", False),
        ("elsewhere.py", False),
    ],
)
def test_a_further_file_counts_unless_it_is_ignored(tmp_path, name, counts):
    file = write_program(tmp_path)
    before = [cell.spec.run_id for cell in load_matrix(file).cells]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    after = [cell.spec.run_id for cell in load_matrix(file).cells]
    assert (after != before) == counts


def test_spec_json_holds_templates_and_what_they_stand_for(tmp_path):
    import json

    content = json.loads(specs(tmp_path)["small", "fast", 2].to_json())
    assert content["program"]["command"][2] == "--lr={lr}"
    assert content["optimizer"]["options"] == {"settings": {"lr": 0.5}, "called": ""}
    assert content["model"]["base"] == content["optimizer"]["base"] == "program"
    assert (content["seed"], content["device"]) == (2, "cpu")
    assert not {"train", "eval", "data", "corpus"} & content.keys()


def test_a_programs_code_sha256_is_of_what_runs_it(tmp_path):
    """A change elsewhere in our code opens no cell of a program."""
    copy = tmp_path / "copy" / "bench"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert told(copy) == program_code_sha256()
    for name in ("worker/training.py", "matrix/programs.py", "run/attempt.py", "border/spec.py"):
        with (copy / name).open("a") as file:
            file.write("# a change\n")
    assert told(copy) == program_code_sha256()
    before = told(copy)
    for name in ("program/stamps.py", *OF_PROGRAMS):
        with (copy / name).open("a") as file:
            file.write("# a change\n")
        after = told(copy)
        assert after != before, name
        before = after


def told(package: Path) -> str:
    """program_code_sha256 of a copy of ours."""
    asked = "from bench.border.identity import program_code_sha256 as told; print(told())"
    command = [sys.executable, "-P", "-c", asked]
    environment = {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.check_output(command, env=environment, text=True).strip()


def test_a_row_tells_the_code_that_runs_programs(tmp_path):
    assert specs(tmp_path)["small", "slow", 1].code_sha256 == program_code_sha256()
