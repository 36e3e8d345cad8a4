"""Cells in Apptainer: the command as recorded, and a stand-in that runs it without one."""

import dataclasses
import hashlib
import signal
import sys
from pathlib import Path

import pytest

from bench.border.identity import PACKAGE
from bench.border.options import Limits
from bench.border.spec import CellFiles
from bench.border.surroundings import KEEP_MEMORY
from bench.errors import EngineError, MissingError, RequestError
from bench.launch.apptainer import ApptainerLauncher, bind, exec_argv
from bench.launch.choose import choose_launcher
from bench.launch.job import Job, Stop
from bench.matrix.expansion import load_matrix
from bench.records.corpora import find_corpus
from bench.records.rows import read_table
from tests.builders.containers import Heard
from tests.builders.shared import bench

RECORDED = """\
apptainer exec --containall --no-home --net --network none --workdir /scratch --pwd /tmp --nv
--bind /results/x/cells/abc-1:/cell
--bind /results/x/cells/abc-1/spec.json:/cell/spec.json:ro
--bind /cache/text.tokens:/corpus.tokens:ro
--bind PACKAGE:/opt/bench/bench:ro
/images/bench.sif env GLIBC_TUNABLES=KEEP_MEMORY LC_ALL=C.UTF-8
OMP_DYNAMIC=FALSE OMP_NUM_THREADS=1 OMP_THREAD_LIMIT=2147483647 MKL_NUM_THREADS=1
TORCHINDUCTOR_COMPILE_THREADS=1 TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS=0 USER=bench
PYTHONINSPECT= PYTHONOPTIMIZE= PYTHONWARNINGS= PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0
PYTHONNOUSERSITE=1 PYTHONUNBUFFERED=1 PYTHONUTF8=1 HOME=/tmp PYTHONPATH=/opt/bench
CUDA_VISIBLE_DEVICES=GPU-abc
TORCHINDUCTOR_CACHE_DIR=/cell/compiled TRITON_CACHE_DIR=/cell/compiled/triton
python3 -P -m bench.worker /cell /corpus.tokens
"""

# Runs what it is given without a container: with the sources of bind paths for their targets.
STAND_IN = """\
#!{python}
import os, sys
words = sys.argv[1:]
if words == ["--version"]:
    sys.exit(print("apptainer version 1.3.4"))
image = next(place for place, word in enumerate(words) if word.endswith(".sif"))
binds = [words[place + 1] for place, word in enumerate(words[:image]) if word == "--bind"]
sources = {{parts[1]: parts[0] for parts in (each.split(":") for each in binds)}}
sources |= {{"python3": {python!r}, "PYTHONPATH=/opt/bench": "PYTHONPATH={root}"}}
if "refused" in words[image]:
    sys.exit(print("FATAL: kernel too old", file=sys.stderr) or 255)
command = [sources.get(word, word) for word in words[image + 1 :]]
os.execvp(command[0], command)
"""


@pytest.fixture
def sif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image file, and an `apptainer` on the path that takes it."""
    program = tmp_path / "bin" / "apptainer"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable, root=PACKAGE.parent))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    image = tmp_path / "bench.sif"
    image.write_text("an image")
    return image


@pytest.fixture
def job(tiny_matrix: Path, tmp_path: Path) -> Job:
    matrix = load_matrix(tiny_matrix)
    corpus = find_corpus(matrix.corpus)
    spec = matrix.with_corpus(corpus.ref).cells[0].spec
    files = CellFiles(tmp_path / "results" / "cells" / "abc-1")
    files.folder.mkdir(parents=True)
    files.spec.write_text(spec.to_json())
    return Job(spec, Limits(timeout_s=60.0, cpus=1), files, corpus.for_cells(), (0,), ())


def test_the_command_is_the_recorded_one(job: Job) -> None:
    there = dataclasses.replace(
        job,
        files=CellFiles(Path("/results/x/cells/abc-1")),
        tokens=(Path("/cache/text.tokens"),),
        gpu_uuids=("GPU-abc",),
    )
    words = exec_argv(Path("/images/bench.sif"), there, Path("/scratch"))
    recorded = RECORDED.replace("PACKAGE", str(PACKAGE)).replace("KEEP_MEMORY", KEEP_MEMORY)
    assert words == recorded.split()
    two = dataclasses.replace(there, gpu_uuids=("GPU-abc", "GPU-def"))
    words = exec_argv(Path("/images/bench.sif"), two, Path("/scratch"))
    assert words == recorded.replace("GPU-abc", "GPU-abc,GPU-def").split()
    on_cpu = exec_argv(Path("/images/bench.sif"), job, Path("/scratch"))
    assert "--nv" not in on_cpu
    assert "CUDA_VISIBLE_DEVICES=" in on_cpu


def test_a_path_is_one_bind_whatever_it_holds() -> None:
    assert bind(Path("/r/a,b:c"), "/cell") == r"/r/a\,b\:c:/cell"


@pytest.mark.slow
def test_rows_come_with_what_it_does_not_enforce(
    sif: Path, tiny_matrix: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("--runtime", "apptainer", "--image", sif, "--out", out, "--only", "seed=1")
    answer = bench("run", tiny_matrix, *words)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "untested" in answer.stdout
    rows = read_table(out / "runs.csv")
    told = ("status", "runtime", "env_id", "memory_limit_enforced", "cpus_enforced")
    env_id = f"sif:{hashlib.sha256(b'an image').hexdigest()}"
    wanted = ["ok", "apptainer", env_id, "false", "true"]
    assert [[row[name] for name in told] for row in rows] == [wanted] * 2


def test_a_stop_reaches_the_worker(sif: Path, job: Job) -> None:
    stop = Stop()

    class Stopping(Heard):
        def event(self, event: dict[str, object]) -> None:
            super().event(event)
            stop.set("enough")

    ended = ApptainerLauncher(sif).run(job, Stopping(), stop)
    assert (ended.ended_by, ended.stopped_why) == ("interrupt", "enough")
    assert ended.code not in (0, -signal.SIGKILL)  # it did not wait for the end of its grace


def test_an_apptainer_that_refuses_is_no_crash_of_the_cell(sif: Path, job: Job) -> None:
    refused = sif.rename(sif.with_name("refused.sif"))
    with pytest.raises(EngineError, match="did not start the cell: FATAL: kernel too old"):
        ApptainerLauncher(refused).run(job, Heard(), Stop())


def test_what_is_missing_is_named_with_the_command_that_makes_it(sif: Path) -> None:
    launcher, why = choose_launcher("apptainer", None)
    assert why == "apptainer version 1.3.4, as asked; untested with a real one"
    with pytest.raises(MissingError, match=r"Give --image FILE.sif. .*docker-archive:bench.tar"):
        launcher.environment("cpu")
    launcher, _ = choose_launcher("apptainer", None, "/no/such.sif")
    with pytest.raises(MissingError, match=r"no image file /no/such.sif. Make it: docker save"):
        launcher.environment("cpu")
    with pytest.raises(RequestError, match=r"image\.requirements"):
        choose_launcher("apptainer", None, str(sif), ("a==1",))


def test_a_machine_without_apptainer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineError, match="no apptainer here"):
        choose_launcher("apptainer", None)
