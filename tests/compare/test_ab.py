"""Two versions beside each other on this machine, with real revisions, worktrees and cells."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bench.border.spec import RunSpec
from bench.compare import sides
from bench.compare.ab import Request, same_gpus
from bench.compare.pinned import pinned
from bench.compare.sides import Side, prepared
from bench.compare.turns import Turns, in_order
from bench.errors import EngineError, MatrixError, RequestError
from bench.launch.engine import Engine
from bench.launch.local import LocalLauncher
from bench.launch.process import ALONE
from bench.matrix.expansion import load_matrix
from bench.records.rows import read_table, write_table
from bench.run.gpus import GpuRequest
from tests.builders.nvml_stub import TWO_GPUS, NvmlStub
from tests.builders.program_matrices import write_program
from tests.builders.revisions import LOCAL, append, checkouts, git, one_arm
from tests.builders.shared import ROOT, bench, write_tiny_matrix

pytest_plugins = "tests.builders.nvml_stub"

FAST_GONE = ("  fast: {lr: 0.5}\n", "")
MATRICES = sorted((ROOT / "bench" / "matrix").glob("*.yaml"))


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "bench", "ab", *map(str, arguments)]


def ab(repository: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, by a person whose Python finds this repository before any other."""
    return subprocess.run(
        command(*arguments),
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def started(out: Path) -> dict[str, list[str]]:
    """Seed -> sides in the order in which they ran."""
    moments = defaultdict(list)
    for side in ("base", "head"):
        for row in read_table(out / side / "runs.csv"):
            moments[row["seed"]].append((row["started_at"], side))
    return {seed: [side for _, side in sorted(found)] for seed, found in moments.items()}


@pytest.mark.slow
def test_pairs_run_side_by_side_and_are_compared(repository: Path, tmp_path: Path) -> None:
    matrix, out = one_arm(tmp_path, 2), tmp_path / "out"
    append(repository, "run/progress.py", "\n# as a person is changing it\n")
    try:
        arguments = ("v1", ".", matrix, "--out", out, *LOCAL, "--fail-on", "val_loss_final>0.01")
        answer = ab(repository, *arguments)
        again = ab(repository, *arguments)
    finally:
        git(repository, "checkout", "--quiet", "--", ".")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert started(out) == {"1": ["base", "head"], "2": ["head", "base"]}
    assert answer.stdout.startswith("BASE  v1: ")
    assert "\nNEW   .: " in answer.stdout
    assert "val_loss_final" in answer.stdout
    assert "identical" in answer.stdout
    lines = [line for line in answer.stderr.splitlines() if "small + adamw" in line]
    assert [line.split()[0] for line in lines] == ["1/2", "2/2"]
    assert all(" ms a step, head " in line for line in lines)
    rows = read_table(out / "base" / "runs.csv") + read_table(out / "head" / "runs.csv")
    assert "cells on CPUs train in turn" in answer.stderr
    assert all(float(row["wait_time_s"]) > 0 for row in rows), "they ran one after the other"
    assert {row["git_dirty"] for row in rows[:2]} == {"false"}
    assert {row["git_dirty"] for row in rows[2:]} == {"true"}
    assert (out / "compare.md").read_text().startswith("**Passed: ")
    assert json.loads((out / "compare.json").read_text())["outcome"] == "pass"
    suite = ElementTree.parse(out / "compare.xml").getroot()[0]
    assert suite.get("name") == "bench compare v1 ."
    assert [(case.get("classname"), case.get("name")) for case in suite] == [
        ("small + adamw, cpu", "val_loss_final>0.01"),
        ("small + adamw, cpu", "cells"),
    ]
    (notice,) = (out / "annotations.txt").read_text().splitlines()
    assert notice.startswith(
        "::notice title=Passed%3A 2::val_loss_final>0.01, small + adamw, cpu: "
    )
    assert again.returncode == 0, again.stderr
    assert all(len(sides) == 2 for sides in started(out).values()), "settled cells ran again"
    assert checkouts(repository) == 1


@pytest.mark.slow
def test_a_version_that_knows_no_turns_is_told(repository: Path, tmp_path: Path) -> None:
    """Losses do not depend on who trained in between."""
    matrix, out = one_arm(tmp_path, 1), tmp_path / "out"
    append(repository, "launch/baton.py", "\nBaton.given = lambda: None\n")
    try:
        answer = ab(repository, "v1", ".", matrix, "--out", out, *LOCAL)
    finally:
        git(repository, "checkout", "--quiet", "--", ".")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    base, head = (read_table(out / side / "runs.csv")[0] for side in ("base", "head"))
    assert float(base["wait_time_s"]) > float(head["train_time_s"])
    assert head["wait_time_s"] == ""
    assert "head: its cells ran whole" in answer.stderr
    assert "base: its cells" not in answer.stderr
    assert base["val_loss_final"] == head["val_loss_final"]
    for row in (base, head):
        parts = [
            float(row[name])
            for name in row
            if name.endswith("_time_s") and name not in ("wall_time_s", "wait_time_s", "cpu_time_s")
            if row[name]
        ]
        assert sum(parts) == pytest.approx(float(row["wall_time_s"]))


@pytest.mark.slow
def test_versions_that_have_not_the_memory_together_run_one_after_the_other(
    repository: Path, tmp_path: Path
) -> None:
    matrix, out = one_arm(tmp_path, 1), tmp_path / "out"
    matrix.write_text(matrix.read_text() + "limits: {memory_gib: 900000}\n")
    answer = ab(repository, "v1", "v1", matrix, "--out", out, *LOCAL)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "one after the other: to train in turn, 2 of them need 1.8e+06 GiB" in answer.stderr
    assert [row["wait_time_s"] for row in read_table(out / "head" / "runs.csv")] == [""]


@pytest.mark.slow
def test_a_program_runs_on_both_sides_and_its_metric_is_compared(
    repository: Path, tmp_path: Path
) -> None:
    """Its paths are relative to a matrix that neither side reads where it lies."""
    matrix, out = write_program(tmp_path, ("[slow, fast]", "[slow]"), FAST_GONE), tmp_path / "out"
    answer = ab(repository, "v1", "v1", matrix, "--out", out, *LOCAL)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert started(out) == {"1": ["base", "head"], "2": ["head", "base"]}
    rows = [row for side in ("base", "head") for row in read_table(out / side / "runs.csv")]
    assert [row["status"] for row in rows] == ["ok"] * 4
    assert len({row["run_id"] for row in rows}) == 2
    assert "val_bpb" in answer.stdout


@pytest.mark.slow
def test_a_version_whose_cells_crash_fails_the_gate(repository: Path, tmp_path: Path) -> None:
    answer = ab(
        repository,
        *("v1", "crashing", one_arm(tmp_path, 1), "--out", tmp_path / "out", *LOCAL),
        *("--fail-on", "step_time_ms_p50>5%"),
    )
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "head crashed" in answer.stderr
    assert "seed 1 failed only in NEW (crashed)" in answer.stdout
    assert checkouts(repository) == 1


@pytest.mark.slow
def test_a_version_that_cannot_run_a_cell_is_told_with_its_own_words(
    repository: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    earlier = {
        "model": "small",
        "optimizer": "adamw",
        "device": "cpu",
        "seed": 1,
        "status": "interrupted",
        "run_id": "a",
        "host_id": "b",
        "attempt": 1,
    }
    (out / "base").mkdir(parents=True)
    write_table(out / "base" / "runs.csv", earlier, [earlier])
    answer = ab(repository, "old", "v1", one_arm(tmp_path, 1), "--out", out, *LOCAL)
    assert answer.returncode == 2
    assert "base (old) could not run small + adamw" in answer.stderr
    assert "no such option: --only" in answer.stderr
    assert checkouts(repository) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("v1", "v9"), "git knows no revision 'v9'"),
        (("v1", "v1", "--fail-on", "speed>5%"), "no such metric"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(
    arguments: tuple[str, ...], words: str, repository: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    answer = ab(repository, *arguments, one_arm(tmp_path, 1), "--out", out, *LOCAL)
    assert answer.returncode == 2
    assert words in answer.stderr
    assert not out.exists()
    assert checkouts(repository) == 1


def test_a_folder_of_other_versions_is_not_mixed_with(repository: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "versions.txt").write_text("base another\nhead one\n")
    answer = ab(repository, "v1", "v1", one_arm(tmp_path, 1), "--out", out, *LOCAL)
    assert answer.returncode == 2
    assert "holds pairs of other versions" in answer.stderr


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interruption_ends_the_cell_and_leaves_no_checkout(
    number: signal.Signals, repository: Path, tmp_path: Path
) -> None:
    matrix, out = one_arm(tmp_path, 1), tmp_path / "out"
    matrix.write_text(matrix.read_text().replace("steps: 4,", "steps: 2000000,"))
    with subprocess.Popen(
        command("v1", "v1", matrix, "--out", out, *LOCAL),
        cwd=repository,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while not list(out.glob("base/cells/*/worker.log")):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert "the same command goes on where it stopped" in said
    (row,) = read_table(out / "base" / "runs.csv")
    assert row["status"] == "interrupted"
    assert not (out / "head").exists()
    assert checkouts(repository) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_versions_do_not_go_on_at_once_when_who_let_them_take_turns_is_gone(
    number: signal.Signals, repository: Path, tmp_path: Path
) -> None:
    """Their times would be those of two at once, and the same command would take them for done."""
    matrix, out = one_arm(tmp_path, 1), tmp_path / "out"
    matrix.write_text(matrix.read_text().replace("steps: 4,", "steps: 2000000,"))
    with subprocess.Popen(
        command(".", ".", matrix, "--out", out, *LOCAL),
        cwd=repository,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while not list(out.glob("head/cells/*/worker.log")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
    for side in ("base", "head"):
        runs, until = out / side / "runs.csv", time.monotonic() + 60
        while not runs.exists() or not read_table(runs):
            assert time.monotonic() < until, f"{side} goes on"
            time.sleep(0.05)
        (row,) = read_table(runs)
        assert (row["status"], row["reason"]) == ("interrupted", ALONE)


# --- Without cells -------------------------------------------------------------------------------


@pytest.mark.parametrize("file", MATRICES, ids=lambda file: file.stem)
def test_each_arm_begins_with_either_side_in_turn(file: Path) -> None:
    turns = defaultdict(list)
    for cell, order in in_order(load_matrix(file).cells, 2):
        turns[cell.spec.arm_id].append(order == (1, 0))
    assert len({found[0] for found in turns.values()}) == min(2, len(turns))
    for found in turns.values():
        assert all(one != other for one, other in pairwise(found))


# Token files are pinned by a test of their own: nobody has those of the matrices that come along.
OF_TEXTS = [file for file in MATRICES if "tokens:" not in file.read_text()]


@pytest.mark.parametrize("file", OF_TEXTS, ids=lambda file: file.stem)
def test_a_pinned_matrix_asks_for_the_same_cells(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(pinned(file, None))
    asked = [cell for cell in load_matrix(file).cells if not cell.tried]  # no trials
    assert list(load_matrix(copy).cells) == asked
    copy.write_text(pinned(file, 3))
    assert {cell.spec.seed for cell in load_matrix(copy).cells} == {1, 2, 3}


SEEDED = """\
name: seeded
matrix: {model: [nanogpt, nanokimi], optimizer: [adamw, truemuon], device: [cpu], seed: [1, 2, 3]}
exclude:
  - {model: nanogpt, optimizer: truemuon}
  - {model: nanogpt, device: null, seed: 3}
  - {model: nanokimi, optimizer: adamw, seed: 1}
include:
  - {model: nanokimi, optimizer: slow, device: cpu, seed: 7}
  - {model: nanogpt, optimizer: truemuon, device: cpu, seed: 8}
optimizers:
  slow: {base: sgd, lr: 3.0e-4}
claim: {baseline: {model: nanogpt, optimizer: adamw}, metric: val_loss_final, margin: 0.01}
tune: {trials: 2, seeds: [11], space: {lr: [1.0e-3, 3.0e-3]}}
"""


def pinned_places(matrix: Path, n_pairs: int | None) -> set[tuple[str, str, str, int]]:
    """The cells of a matrix as `ab` rewrites it; it is read as any other."""
    copy = matrix.with_name("copy.yaml")
    copy.write_text(pinned(matrix, n_pairs))
    return {cell.place for cell in load_matrix(copy).cells}


def test_pairs_are_those_of_every_arm_but_where_a_seed_is_excluded(tmp_path: Path) -> None:
    matrix = tmp_path / "seeded.yaml"
    matrix.write_text(SEEDED)
    whole = {
        *(("nanogpt", "adamw", "cpu", seed) for seed in (1, 2, 3, 4)),
        *(("nanogpt", "truemuon", "cpu", seed) for seed in (1, 2, 3, 4)),
        *(("nanokimi", "adamw", "cpu", seed) for seed in (1, 2, 3, 4)),
        *(("nanokimi", "truemuon", "cpu", seed) for seed in (1, 2, 3, 4)),
        *(("nanokimi", "slow", "cpu", seed) for seed in (1, 2, 3, 4)),
    }
    whole -= {("nanogpt", name, "cpu", 3) for name in ("adamw", "truemuon")}
    whole -= {("nanokimi", "adamw", "cpu", 1)}
    assert pinned_places(matrix, 4) == whole
    assert pinned_places(matrix, 2) == {place for place in whole if place[3] <= 2}


def test_pairs_of_which_none_is_left_are_refused(tmp_path: Path) -> None:
    matrix = write_tiny_matrix(tmp_path)
    matrix.write_text(matrix.read_text() + "exclude: [{seed: 1}]\n")
    with pytest.raises(RequestError, match="--pairs 1: the matrix excludes every cell"):
        pinned(matrix, 1)
    assert {place[3] for place in pinned_places(matrix, 2)} == {2}


SEEDS = st.integers(0, 5)
ARM = {
    "model": st.sampled_from(["nanogpt", "nanokimi", "wide"]),
    "optimizer": st.sampled_from(["adamw", "sgd", "same"]),
    "device": st.sampled_from(["cpu", "cuda"]),
}
FILES = st.fixed_dictionaries(
    {
        "name": st.just("any"),
        "matrix": st.fixed_dictionaries(
            {
                **{axis: st.lists(one, min_size=1, unique=True) for axis, one in ARM.items()},
                "seed": st.lists(SEEDS, min_size=1, unique=True),
            }
        ),
        "models": st.just({"wide": {"base": "nanogpt", "n_embd": 128}}),
        "optimizers": st.just({"same": {"base": "adamw"}}),  # as adamw: one arm of two names
    },
    optional={
        "train": st.just({"graph_steps": 1}),  # for cuda alone, and not for every model
        "exclude": st.lists(st.fixed_dictionaries({}, optional={**ARM, "seed": SEEDS}), max_size=4),
        "include": st.lists(st.fixed_dictionaries({**ARM, "seed": SEEDS}), max_size=3),
        "claim": st.fixed_dictionaries(
            {
                "baseline": st.fixed_dictionaries(
                    {key: ARM[key] for key in ("model", "optimizer")}
                ),
                "metric": st.just("val_loss_final"),
                "margin": st.just(0.01),
            }
        ),
        "tune": st.just({"trials": 2, "seeds": [6, 7], "space": {"lr": {"log": [1e-4, 1e-2]}}}),
    },
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=FILES, n_pairs=st.none() | st.integers(1, 4))
def test_a_pinned_matrix_is_valid_wherever_the_matrix_was(
    content: dict[str, Any], n_pairs: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    matrix = tmp_path_factory.getbasetemp() / "any.yaml"
    matrix.write_text(yaml.safe_dump(content))
    try:
        own = {cell.place for cell in load_matrix(matrix).cells if not cell.tried}
    except MatrixError:
        assume(False)
    try:
        found = pinned_places(matrix, n_pairs)
    except RequestError:  # none of these seeds is left
        assert any("seed" in rule for rule in content["exclude"])
        return
    if n_pairs is None:
        assert found == own
    else:
        assert {place[:3] for place in found} <= {place[:3] for place in own}
        assert {place[3] for place in found} <= set(range(1, n_pairs + 1))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", "pydoc"),
        ("data: {corpus: text.txt}", "HERE/text.txt"),
        ("data: {corpus: pydoc}", "pydoc"),
    ],
)
def test_a_corpus_means_the_same_from_any_folder(
    asked: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    matrix = write_tiny_matrix(tmp_path)
    lines = [line for line in matrix.read_text().splitlines() if not line.startswith("data:")]
    matrix.write_text("\n".join([*lines, asked, ""]))
    copy = tmp_path / "copy.yaml"
    copy.write_text(pinned(matrix, None))
    assert load_matrix(copy).corpus == found.replace("HERE", str(tmp_path))
    if not asked:
        (tmp_path / "input.txt").write_text("a text")
        copy.write_text(pinned(matrix, None))
        assert load_matrix(copy).corpus == str(tmp_path / "input.txt")


def test_token_files_mean_the_same_from_any_folder(tmp_path: Path) -> None:
    """Whatever a folder is called, also as a pattern would be."""
    home = tmp_path / "in [x]"
    home.mkdir()
    matrix = write_tiny_matrix(home)
    for name in ("a_2.bin", "a_1.bin", "val.bin"):
        (home / name).write_bytes(name.encode() * 20)
    lines = [line for line in matrix.read_text().splitlines() if not line.startswith("data:")]
    data = "data: {tokens: {train: [a_*.bin], val: [val.bin]}, vocab_size: 65536}"
    matrix.write_text("\n".join([*lines, data, ""]))
    copy = tmp_path / "copy.yaml"
    copy.write_text(pinned(matrix, None))
    here, there = load_matrix(matrix).find_corpus(), load_matrix(copy).find_corpus()
    assert here is not None
    assert there is not None
    assert there.for_cells() == tuple(home / name for name in ("a_1.bin", "a_2.bin", "val.bin"))
    assert there.ref == here.ref
    (home / "val.bin").write_bytes(b"odd")
    with pytest.raises(MatrixError, match=r"val\.bin, byte 2: an odd number of bytes"):
        pinned(matrix, None)


def test_a_corpus_that_is_not_there_is_told_before_anything_is_built(tmp_path: Path) -> None:
    matrix = write_tiny_matrix(tmp_path)
    matrix.write_text(matrix.read_text().replace("text.txt", "absent.txt"))
    with pytest.raises(MatrixError, match=r"corpus .*absent\.txt: No such file"):
        pinned(matrix, None)


def test_a_wrong_matrix_is_told_as_by_run(tmp_path: Path) -> None:
    matrix = write_tiny_matrix(tmp_path)
    matrix.write_text(matrix.read_text().replace("steps: 4", "stepz: 4"))
    with pytest.raises(MatrixError, match="Did you mean 'steps'"):
        pinned(matrix, None)


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_a_number_of_pairs_that_cannot_be_is_refused(count: int, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"--pairs {count}: give a number from 1 to"):
        pinned(write_tiny_matrix(tmp_path), count)


@pytest.mark.parametrize("revision", ["v9", "--all", "", "v1:bench", "main..v1"])
def test_what_is_no_revision_is_refused(revision: str) -> None:
    with (
        pytest.raises(RequestError, match="git knows no revision"),
        prepared(revision, ".", LocalLauncher(sys.executable)),
    ):
        pass


def test_variables_of_a_hook_do_not_lead_elsewhere(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides, "ROOT", repository)
    monkeypatch.setenv("GIT_DIR", str(ROOT / "nowhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(ROOT / "nowhere"))
    with prepared("v1", "crashing", LocalLauncher(sys.executable)) as versions:
        assert [checked.name for checked in versions] == ["base", "head"]
        assert "GIT_DIR" not in versions[0].environment()


def test_images_need_an_engine() -> None:
    with (
        pytest.raises(EngineError, match="needs a container engine"),
        prepared("image:a", "image:b", LocalLauncher(sys.executable)),
    ):
        pass


def test_an_image_beside_a_revision_is_refused() -> None:
    with (
        pytest.raises(RequestError, match="two things would differ at once"),
        prepared("image:a", "HEAD", LocalLauncher(sys.executable)),
    ):
        pass


@pytest.mark.slow
def test_two_images_run_the_same_code(engine: Engine, tmp_path: Path) -> None:
    (first, *_) = engine.tags("bench-cpu")
    other = f"bench-cpu:test-{os.getpid()}"
    engine.command("tag", first, other)
    out = tmp_path / "out"
    try:
        answer = ab(
            ROOT,
            *(f"image:{first}", f"image:{other}", one_arm(tmp_path, 1), "--out", out),
            *("--runtime", engine.name),
        )
    finally:
        engine.command("rmi", other)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    rows = [read_table(out / side / "runs.csv")[0] for side in ("base", "head")]
    assert {row["image_id"] for row in rows} == {engine.image_id(first)}
    assert {row["status"] for row in rows} == {"ok"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--runtime", "local", "--image", "a"], "--image a needs a container engine"),
        (["--image", "bench-cpu:none"], "has no image 'bench-cpu:none'"),
    ],
)
def test_a_run_takes_an_image_by_its_tag(
    options: list[str], words: str, engine: Engine, tmp_path: Path
) -> None:
    options = options if "--runtime" in options else [*options, "--runtime", engine.name]
    answer = bench("run", one_arm(tmp_path, 1), "--out", tmp_path / "out", *options)
    assert answer.returncode == 2
    assert words in answer.stderr


# --- On a GPU -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "asked", "got"),
    [
        ("ungpus", "idle", "GPU-bbbb"),
        pytest.param("v1", "idle", "GPU-bbbb", marks=pytest.mark.slow),
        pytest.param("v1", "0", "GPU-aaaa", marks=pytest.mark.slow),  # somebody computes there
    ],
)
def test_both_sides_have_the_same_gpu(
    repository: Path, tmp_path: Path, nvml: NvmlStub, base: str, asked: str, got: str
) -> None:
    """Their cells fail for want of a real one, and say which they were given."""
    nvml.write(TWO_GPUS | {"gpu0.processes": {7: 300}, "gpu1.processes": {}})
    matrix, out = one_arm(tmp_path, 1), tmp_path / "out"
    matrix.write_text(matrix.read_text().replace("[cpu]", "[cuda]"))
    answer = ab(repository, base, "v1", matrix, "--out", out, *LOCAL, "--gpus", asked)
    rows = [row for side in ("base", "head") for row in read_table(out / side / "runs.csv")]
    assert [row["gpu_uuid"] for row in rows] == [got, got], answer.stderr


def test_both_sides_have_the_same_two_gpus(
    tmp_path: Path, nvml: NvmlStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first two of a kind that nobody computes on, named to each command of a side."""
    nvml.write(TWO_GPUS | {"gpu2.uuid": "GPU-cccc", "gpu2.name": "Stub GPU A"})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(RunSpec, "gpus", property(lambda spec: 2))
    matrix = one_arm(tmp_path, 1)
    asked = Request(matrix, None, None, LocalLauncher(sys.executable), None, GpuRequest())
    gpus = same_gpus(asked, lambda line: None)
    assert [gpu.uuid for gpu in gpus] == ["GPU-aaaa", "GPU-cccc"]
    version = tmp_path / "bench" / "__main__.py"
    version.parent.mkdir()
    version.write_text("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])")
    side = Side("base", "v1", tmp_path, None, "v1")
    assert Turns(gpus).run(side, "run") == (0, "GPU-aaaa,GPU-cccc\n")


def test_with_every_gpu_in_use_nothing_runs(
    repository: Path, tmp_path: Path, nvml: NvmlStub
) -> None:
    nvml.write(TWO_GPUS | {"gpu0.processes": {7: 300}, "gpu1.processes": {8: 4}})
    matrix, out = one_arm(tmp_path, 1), tmp_path / "out"
    matrix.write_text(matrix.read_text().replace("[cpu]", "[cuda]"))
    answer = ab(repository, "v1", "v1", matrix, "--out", out, *LOCAL)
    assert answer.returncode == 2
    assert "Stub GPU A (GPU-aaaa) is used by pid 7 (300 MiB)" in answer.stderr
    assert "--wait-for-gpu waits" in answer.stderr
    assert not out.exists()
