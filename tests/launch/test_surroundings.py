"""What whoever runs us has set does not reach a local worker, but for what is named."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.border.spec import CellFiles
from bench.border.surroundings import CHANGING
from bench.launch.job import Job, Stop
from bench.launch.local import LocalLauncher
from bench.launch.variables import local_environment
from bench.matrix.expansion import load_matrix
from bench.records.rows import Row, read_table
from tests.builders.containers import Heard
from tests.builders.hostile import HOSTILE
from tests.builders.shared import ROOT

EXAMPLES = 12  # of runs in environments drawn at random
SAME = ("run_id", "status", "env_id", "threads", "init_hash", "data_order_hash", "val_loss_final")
PASSED = {"PATH": "/usr/bin:/bin", "HOME": "/"}

NAMES = st.one_of(
    st.sampled_from([*HOSTILE, "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME", "CUDA_VISIBLE_DEVICES"]),
    st.from_regex(
        r"(OMP|MKL|KMP|TORCH|TORCHINDUCTOR|PYTHON|LD|MALLOC)_?[A-Z_]{1,12}", fullmatch=True
    ),
).filter(lambda name: name not in CHANGING)
VALUES = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]))


@settings(deadline=None)
@given(st.dictionaries(NAMES, VALUES))
def test_nothing_of_the_callers_reaches_a_worker(variables: dict[str, str]) -> None:
    def made(caller: Mapping[str, str]) -> dict[str, str]:
        with pytest.MonkeyPatch.context() as patch:
            for name in os.environ:
                patch.delenv(name)
            for name, value in caller.items():
                patch.setenv(name, value)
            patch.setattr("tempfile.tempdir", "/tmp")
            return local_environment(threads=2, gpus="GPU-a")

    assert made({**variables, **PASSED}) == made(PASSED)


def run(
    folder: Path, matrix: Path, variables: Mapping[str, str]
) -> tuple[Row, list[str], dict[str, Any]]:
    """The one row, the losses of its steps, and env.json, of a run in an environment."""
    out = folder / f"out-{len(list(folder.iterdir()))}"
    command = [sys.executable, "-m", "bench", "run", matrix, "--runtime", "local", "--out", out]
    ended = subprocess.run(
        [*command, "--shard", "1/4"],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (row,) = read_table(out / "runs.csv")
    cell = out / "cells" / f"{row['run_id']}-1"
    losses = [step["loss"] for step in read_table(cell / "steps.csv")]
    return row, losses, json.loads((cell / "env.json").read_text())["worker"]


def compared(found: tuple[Row, list[str], dict[str, Any]]) -> list[Any]:
    row, losses, env = found
    told = [env["variables"], env["cpu_capability"]]
    return [*(row[name] for name in SAME), *losses, *told]


def poisoned(folder: Path) -> str:
    """A folder for PYTHONPATH whose torch ends whoever imports it, and whose site prints."""
    folder.mkdir()
    (folder / "torch.py").write_text("raise SystemExit('the torch of PYTHONPATH')\n")
    (folder / "sitecustomize.py").write_text('print(\'{"stage": "sitecustomize"}\')\n')
    return str(folder)


@pytest.mark.slow
def test_a_cell_in_a_hostile_environment_is_the_same(tiny_matrix: Path, tmp_path: Path) -> None:
    """To the last digit, in the same env_id, with what it found set told."""
    results = tmp_path / "results"
    results.mkdir()
    hostile = HOSTILE | {"PYTHONPATH": poisoned(tmp_path / "poisoned")}
    clean, found = run(results, tiny_matrix, {}), run(results, tiny_matrix, hostile)
    assert compared(found) == compared(clean)
    assert clean[2]["variables"]["OMP_NUM_THREADS"] == "1"


@pytest.mark.slow
def test_cells_in_environments_drawn_at_random_are_the_same(
    tiny_matrix: Path, tmp_path: Path
) -> None:
    results, drawn = tmp_path / "results", random.Random(17)
    results.mkdir()
    clean = compared(run(results, tiny_matrix, {}))
    for _ in range(EXAMPLES):
        some = dict(drawn.sample(list(HOSTILE.items()), drawn.randrange(1, len(HOSTILE))))
        assert compared(run(results, tiny_matrix, some)) == clean, some


@pytest.mark.parametrize("name", CHANGING)
def test_what_is_passed_on_is_part_of_the_environment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def env_id() -> str:
        return LocalLauncher(sys.executable).environment("cpu").env_id

    monkeypatch.delenv(name, raising=False)
    before = env_id()
    monkeypatch.setenv(name, "")
    assert env_id() == before
    monkeypatch.setenv(name, "/opt/one")
    one = env_id()
    monkeypatch.setenv(name, "/opt/other")
    assert len({before, one, env_id()}) == 3
    assert local_environment(threads=1)[name] == "/opt/other"


def test_a_worker_has_a_home_and_a_place_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    assert local_environment(threads=1)["HOME"] == str(tmp_path)
    (tmp_path / "nowhere").mkdir()
    assert local_environment(threads=1)["HOME"] == str(tmp_path / "nowhere")
    monkeypatch.setenv("HOME", "~")  # as expanduser leaves it where nobody knows the user
    assert local_environment(threads=1)["HOME"] == str(tmp_path)


def test_a_worker_has_a_name_that_compilers_may_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id may have none; those of variables come before that of the password file."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    answer = subprocess.run(
        [sys.executable, "-c", "import getpass; print(getpass.getuser())"],
        env=local_environment(threads=1),
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "bench\n"


def test_a_worker_sees_its_own_gpus_and_no_other(tiny_matrix: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf %s "$CUDA_VISIBLE_DEVICES" > "$4/seen"\n')
    python.chmod(0o755)
    cell, files = load_matrix(tiny_matrix).cells[0], CellFiles(tmp_path)
    for gpus in ((), ("GPU-a",), ("GPU-a", "GPU-b")):
        job = Job(cell.spec, cell.limits, files, (tmp_path / "tokens",), (0,), gpus)
        assert LocalLauncher(str(python)).run(job, Heard(), Stop()).code == 0
        assert (tmp_path / "seen").read_text() == ",".join(gpus)
