"""The commands as a person types them: what they print, what they leave, how they exit."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from bench.errors import program
from bench.launch.engine import Engine
from bench.records.rows import read_table
from tests.builders.nvml_stub import TWO_GPUS, NvmlStub
from tests.builders.shared import ROOT, bench, write_tiny_matrix

pytest_plugins = "tests.builders.nvml_stub"

ORIGINAL = "bench/matrix/original.yaml"
LOCAL = ("--runtime", "local")
ADAMW = "optimizer=adamw"


def test_plan_shows_every_cell_of_the_original_and_runs_nothing(tmp_path: Path) -> None:
    answer = bench("plan", ORIGINAL, "--runtime", "local", "--out", tmp_path / "none")
    assert answer.returncode == 0, answer.stderr
    cells = [
        line for line in answer.stdout.splitlines() if " truemuon " in line or " adamw " in line
    ]
    assert len(cells) == 40
    assert "40 cells, 40 selected, 0 of them done" in answer.stdout
    assert "limits   1 CPU, 8 GiB, 2 h 00 min for each cell" in answer.stdout
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_plan_tells_what_is_done_and_measured(tiny_matrix: Path, tmp_path: Path) -> None:
    out = ["--runtime", "local", "--out", str(tmp_path / "results")]
    assert bench("run", tiny_matrix, *out, "--only", "seed=1").returncode == 0
    answer = bench("plan", tiny_matrix, *out)
    assert "4 cells, 4 selected, 2 of them done" in answer.stdout
    lines = [line for line in answer.stdout.splitlines() if "small" in line]
    assert [(" done " in line) for line in lines] == [True, True, False, False]
    assert not any("~" in line for line in lines)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """The results folder of a whole run of the tiny matrix; each (runtime, count) runs once."""
    matrix = write_tiny_matrix(tmp_path_factory.mktemp("matrix"))

    @cache
    def run(runtime: str, count: int = 1) -> Path:
        results = tmp_path_factory.mktemp(runtime) / "results"
        answer = bench("run", matrix, "--runtime", runtime, "--out", results)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "4 of 4 runs ok" in answer.stdout
        return results

    return run


@pytest.mark.slow
def test_jobs_auto_says_what_it_chose_and_why(tiny_matrix: Path, tmp_path: Path) -> None:
    out = [*LOCAL, "--out", tmp_path / "results", "--only", "seed=1"]
    answer = bench("run", tiny_matrix, *out, "--jobs", "auto")
    assert answer.returncode == 0, answer.stderr
    (line,) = (line for line in answer.stdout.splitlines() if line.startswith("jobs: "))
    assert re.fullmatch(r"jobs: [12] at once: .* (open|a cell)", line)
    assert {row["neighbours"] for row in read_table(tmp_path / "results" / "runs.csv")} == {
        str(int(line[len("jobs: ")]) - 1)
    }


@pytest.mark.slow
def test_run_leaves_the_files_of_the_contract(
    finished: Callable[[str, int], Path], runtime: str
) -> None:
    results = finished(runtime, 1)
    assert (results / "matrix.yaml").read_text().startswith("name: tiny\n")
    rows = read_table(results / "runs.csv")
    assert {row["runtime"] for row in rows} == {runtime}
    assert {row["selected"] for row in read_table(results / "plan.csv")} == {"true"}
    for row in rows:
        cell = results / "cells" / f"{row['run_id']}-1"
        tables = ("curve.csv", "steps.csv", "samples.csv", "val_windows.csv")
        files = {*tables, "spec.json", "result.json", "env.json", "worker.log"}
        assert {file.name for file in cell.iterdir()} == files
        assert len(read_table(cell / "steps.csv")) == 4
        told = [
            line for line in (cell / "worker.log").read_text().splitlines() if "val loss" in line
        ]
        assert [line.partition(":")[0] for line in told] == [f"step {n} of 4" for n in (0, 2, 4)]
        assert f"val loss {float(row['val_loss_final']):.4f}," in told[-1]
    steps = [point["step"] for point in read_table(results / "curves.csv")]
    assert steps == ["0", "2", "4"] * 4


@pytest.mark.slow
def test_the_same_cell_gives_the_same_losses_to_the_last_digit_here_and_in_a_container(
    finished: Callable[[str, int], Path], engine: Engine
) -> None:
    losses = []
    for results in (finished("local", 1), finished("local", 2), finished(engine.name, 1)):
        points = read_table(results / "curves.csv")
        losses.append([(point["train_loss"], point["val_loss"]) for point in points])
    assert losses[0] == losses[1] == losses[2]


def test_a_gpu_that_torch_does_not_reach_is_told_before_anything_runs(
    tiny_matrix: Path, tmp_path: Path, nvml: NvmlStub
) -> None:
    """The torch of these tests has no CUDA, or no GPU of this name."""
    nvml.write(TWO_GPUS)
    text = tiny_matrix.read_text()
    tiny_matrix.write_text(text.replace("device: [cpu]", "device: [cpu, cuda]"))
    answer = bench("run", tiny_matrix, "--runtime", "local", "--out", tmp_path / "r")
    assert answer.returncode == 2
    assert "nothing was run: cells cannot compute on Stub GPU A (GPU-aaaa): torch " in answer.stderr
    assert "--only device=cpu" in answer.stderr
    assert read_table(tmp_path / "r" / "runs.csv") == []


@pytest.mark.slow
def test_cuda_cells_without_a_gpu_are_skipped_and_the_exit_code_says_so(
    tiny_matrix: Path, tmp_path: Path
) -> None:
    text = tiny_matrix.read_text()
    tiny_matrix.write_text(text.replace("device: [cpu]", "device: [cpu, cuda]"))
    arguments = ["run", tiny_matrix, "--runtime", "local", "--out", tmp_path / "r"]
    answer = bench(*arguments, "--only", "seed=1")
    rows = read_table(tmp_path / "r" / "runs.csv")
    if all(row["status"] == "ok" for row in rows):
        pytest.skip("this machine has a GPU")
    assert answer.returncode == 1
    assert "2 of 4 runs ok, 2 skipped" in answer.stdout
    assert (
        answer.stdout.count("– 2 cells skipped: no GPU here") == answer.stdout.count("no GPU") == 1
    )
    skipped = [row for row in rows if row["status"] == "skipped"]
    assert [row["device"] for row in skipped] == ["cuda", "cuda"]
    assert all("no GPU here" in row["reason"] for row in skipped)


@pytest.mark.slow
def test_a_cell_out_of_time_keeps_what_it_measured(
    tiny_matrix: Path, tmp_path: Path, runtime: str
) -> None:
    text = tiny_matrix.read_text().replace("steps: 4,", "steps: 2000000,")
    tiny_matrix.write_text(text.replace("seed: [1, 2]", "seed: [1]") + "limits: {timeout_s: 12}\n")
    results = tmp_path / "results"
    answer = bench("run", tiny_matrix, "--runtime", runtime, "--out", results, "--only", ADAMW)
    assert answer.returncode == 1
    (row,) = read_table(results / "runs.csv")
    assert (row["status"], row["val_loss_final"]) == ("timeout", "")
    assert "limits.timeout_s = 12" in row["reason"]
    assert int(row["steps"]) > 0
    assert float(row["step_time_ms_p50"]) > 0


@pytest.mark.slow
def test_a_cell_whose_steps_are_not_timed_is_shown_without_them(
    tiny_matrix: Path, tmp_path: Path
) -> None:
    text = tiny_matrix.read_text().replace("steps: 4,", "steps: 4, step_timing: off,")
    tiny_matrix.write_text(text)
    answer = bench("run", tiny_matrix, *LOCAL, "--out", tmp_path / "r", "--shard", "1/4")
    assert answer.returncode == 0, answer.stderr
    assert "val loss" in answer.stdout
    assert " ms" not in answer.stdout
    (row,) = read_table(tmp_path / "r" / "runs.csv")
    assert (row["step_time_ms_p50"], row["tokens_per_s"] != "") == ("", True)


@pytest.mark.slow
def test_plan_counts_rows_as_run_does_with_the_same_options(
    tiny_matrix: Path, tmp_path: Path
) -> None:
    out = ["--runtime", "local", "--out", str(tmp_path / "r")]
    assert bench("run", tiny_matrix, *out, "--only", "seed=1").returncode == 0
    runs = tmp_path / "r" / "runs.csv"
    text = runs.read_text()
    (code,) = {row["code_sha256"] for row in read_table(runs)}

    def done(*options: str) -> str:
        return bench("plan", tiny_matrix, *out, *options).stdout.partition("4 selected, ")[2][:1]

    runs.write_text(text.replace(code, "0" * 64))
    assert (done(), done("--accept-code", "0000")) == ("0", "2")
    runs.write_text(text.replace(",ok,", ",crashed,"))
    assert (done(), done("--retry-failed")) == ("2", "0")


@pytest.mark.slow
def test_a_raised_limit_opens_nothing_and_plan_and_run_say_what_does(
    finished: Callable[[str, int], Path], tiny_matrix: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(finished("local", 1), results)
    runs = results / "runs.csv"
    runs.write_text(runs.read_text().replace(",ok,", ",timeout,", 3))
    here = [tiny_matrix, *LOCAL, "--out", results]
    hint = "3 cells ended by a limit that the matrix has raised since"
    assert hint not in bench("plan", *here).stdout
    tiny_matrix.write_text(tiny_matrix.read_text() + "limits: {timeout_s: 100000}\n")
    for command in ("plan", "run"):
        told = bench(command, *here).stdout
        assert f"{hint}. They stay as they are: --retry-failed runs them again." in told
    assert "no run is left to make" in told
    assert hint not in bench("plan", *here, "--retry-failed").stdout


@pytest.mark.slow
def test_a_report_tells_the_verdict_and_the_main_table(
    finished: Callable[[str, int], Path], tmp_path: Path
) -> None:
    answer = bench("report", finished("local", 1), "--out", tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"^small \+ adamw +\d\.\d+ \(2\) .* [\d,]+$", answer.stdout, re.MULTILINE)
    assert answer.stdout.endswith(f"report: {tmp_path}/index.html\n4 of 4 runs ok\n")


def test_accepting_code_that_no_row_has_is_refused(tiny_matrix: Path, tmp_path: Path) -> None:
    arguments = ["run", tiny_matrix, *LOCAL, "--out", tmp_path / "r", "--accept-code", "abcdef"]
    answer = bench(*arguments)
    assert answer.returncode == 2
    assert "0 codes in runs.csv begin with it" in answer.stderr


def test_a_path_with_brackets_is_shown_as_it_is(tiny_matrix: Path, tmp_path: Path) -> None:
    results = tmp_path / "E[gpu][/b]"
    answer = bench("run", tiny_matrix, *LOCAL, "--out", results, "--shard", "1/4")
    assert answer.returncode == 0, answer.stderr
    assert f"rows in {results}/runs.csv" in answer.stdout


@pytest.mark.slow
def test_shards_together_are_the_whole_matrix(tiny_matrix: Path, tmp_path: Path) -> None:
    shared = ["--runtime", "local", "--out", str(tmp_path / "results")]
    for part in ("1/2", "2/2"):
        assert bench("run", tiny_matrix, *shared, "--shard", part).returncode == 0
        planned = read_table(tmp_path / "results" / "plan.csv")
    assert {row["selected"] for row in planned} == {"true"}
    assert len(read_table(tmp_path / "results" / "runs.csv")) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "no/such.yaml"], "no/such.yaml: cannot be read"),
        (["run", ORIGINAL, "--only", "sead=1"], "Did you mean 'seed'?"),
        (["run", ORIGINAL, "--only", "seed=77"], "no cell has it"),
        (["run", "bench/matrix/gpu.yaml", "--only", "device=cpu"], "Or add it to `device` in the"),
        (["run", ORIGINAL, "--shard", "3/2"], "write I/N"),
        (["run", ORIGINAL, "--runtime", "dokker"], "Did you mean 'docker'?"),
        (
            ["run", ORIGINAL, "--runtime", "local", "--worker-python", "/bin/true"],
            "--worker-python",
        ),
        (["run", ORIGINAL, *LOCAL, "--jobs", "5000"], "Lower --jobs"),
        (["run", ORIGINAL, *LOCAL, "--jobs", "0"], "write a whole number from 1 on, or auto"),
        (["run", ORIGINAL, *LOCAL, "--jobs", "all"], "write a whole number from 1 on, or auto"),
        (["run", ORIGINAL, *LOCAL, "--sample-ms", "nan"], "write 10 to 60000 milliseconds"),
        (["run", ORIGINAL, *LOCAL, "--sample-ms", "1"], "or 0 to read nothing"),
        (["run", ORIGINAL, "--out", "/proc/results"], "Give another --out"),
        (["report", "tests", "docker"], "need --out"),
        (["image", "tpu"], "Allowed: cpu, cuda"),
    ],
)
def test_a_wrong_request_names_its_remedy_and_runs_nothing(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    if arguments[0] == "run" and "--out" not in arguments:
        arguments = [*arguments, "--out", str(tmp_path / "results")]
    answer = bench(*arguments)
    assert answer.returncode == 2, answer.stdout
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not list(tmp_path.glob("results/cells/*"))


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_wrong_matrix_shows_all_its_mistakes_and_nothing_runs(
    command: str, tiny_matrix: Path, tmp_path: Path
) -> None:
    text = tiny_matrix.read_text().replace("steps: 4", "stepz: 4").replace("adamw", "adamv")
    tiny_matrix.write_text(text)
    answer = bench(command, tiny_matrix, *LOCAL, "--out", tmp_path / "results")
    assert answer.returncode == 2
    assert f"2 mistakes in {tiny_matrix}; nothing was run." in answer.stderr
    assert f"{tiny_matrix}:2: train.stepz: unknown key. Did you mean 'steps'?" in answer.stderr
    assert f"{tiny_matrix}:6: matrix.optimizer[0]: nothing defines 'adamv'." in answer.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_second_runner_is_told_who_holds_the_folder(tiny_matrix: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "run", str(tiny_matrix), "--runtime", "local"]
    results = tmp_path / "results"
    with subprocess.Popen([*command, "--out", str(results)], cwd=ROOT) as first:
        while not list(results.glob(".holder/now/*/who")):
            assert first.poll() is None
        second = bench("run", tiny_matrix, "--runtime", "local", "--out", results)
        assert second.returncode == 2
        assert f"is in use by process {first.pid}" in second.stderr
        assert first.wait() == 0


@pytest.mark.parametrize(
    ("called", "path", "shown"),
    [
        ([".venv/bin/bench"], "/usr/bin", ".venv/bin/bench"),
        (["/desk/bin/bench"], "/desk/bin", "bench"),
        (["my desk/bench"], "/usr/bin", "'my desk/bench'"),
        (["python3", "-m", "bench"], "/usr/bin", "python3 -m bench"),
        (["jupyter"], "/usr/bin", "python -m bench"),
    ],
)
def test_a_message_names_the_program_as_it_was_called(
    called: list[str], path: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_module = called[1:] == ["-m", "bench"]
    monkeypatch.setattr(sys, "argv", [str(ROOT / "bench/__main__.py") if as_module else called[0]])
    monkeypatch.setattr(sys, "orig_argv", called)
    monkeypatch.setattr(shutil, "which", lambda name: f"{path}/{name}")
    assert program() == shown


def test_ctrl_c_while_the_program_is_loaded_ends_it_quietly(tmp_path: Path) -> None:
    """Which takes about a second."""
    press = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    (tmp_path / "typer.py").write_text(press)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["bench"].partition(":")
    as_script = f"from {module} import {function}; {function}()"
    for words in (["-m", "bench"], ["-c", as_script]):
        ended = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_schema_is_json_and_names_every_section() -> None:
    schema = json.loads(bench("schema").stdout)
    both = {"name", "image", "matrix", "exclude", "include", "models", "optimizers", "limits"}
    both |= {"claim", "tune"}
    assert set(schema["else"]["properties"]) == both | {"data", "train", "eval"}
    assert set(schema["then"]["properties"]) == both | {"program"}


def test_the_launching_side_never_imports_torch() -> None:
    check = "import bench.cli, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)
