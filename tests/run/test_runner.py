"""The loop: what is settled, what runs, in which order, and what each end leaves behind."""

import os
import select
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from bench.border.identity import code_sha256
from bench.errors import (
    CacheError,
    CorpusError,
    EngineError,
    FolderError,
    MissingError,
    RecordError,
)
from bench.launch.job import Job, Stop
from bench.launch.reach import Reach
from bench.measure.gpus import Gpu, Gpus
from bench.records.cells import Cell
from bench.records.folder import ResultsFolder
from bench.records.rows import RunsTable
from bench.records.tables import CURVE_COLUMNS
from bench.run.progress import PlainDisplay
from bench.run.standing import Policy
from tests.builders.fake_launcher import NO_GPU, Bench, FakeLauncher


@pytest.fixture
def bench(tiny_matrix: Path, tmp_path: Path) -> Bench:
    return Bench(tiny_matrix, ResultsFolder(tmp_path / "results"), FakeLauncher())


def test_runs_seed_by_seed_with_rotated_arms_and_commits_a_row_each(bench: Bench) -> None:
    bench.run()
    assert bench.ran() == [("adamw", 1), ("truemuon", 1), ("truemuon", 2), ("adamw", 2)]
    rows = bench.rows()
    assert [row["order_in_seed"] for row in rows] == ["0", "1", "0", "1"]
    assert all(row["status"] == "ok" and row["attempt"] == "1" for row in rows)
    assert rows[0]["val_loss_final"] == "1.25"
    assert rows[0]["unaccounted_time_s"] != ""


def test_what_is_settled_does_not_run_again(bench: Bench) -> None:
    bench.run()
    bench.ran()
    bench.run()
    assert bench.ran() == []
    assert len(bench.rows()) == 4


@pytest.mark.parametrize("status", ["diverged", "oom", "crashed"])
def test_failures_settle_a_cell_unless_retried(bench: Bench, status: str) -> None:
    bench.launcher.status = lambda job: status if job.spec.seed == 1 else "ok"
    bench.run()
    bench.ran()
    bench.run()
    assert bench.ran() == []
    bench.launcher.status = lambda job: "ok"
    bench.run(policy=Policy(retry_failed=True))
    assert bench.ran() == [("adamw", 1), ("truemuon", 1)]
    attempts = [(row["attempt"], row["status"]) for row in bench.rows()]
    assert attempts == [("1", status)] * 2 + [("1", "ok")] * 2 + [("2", "ok")] * 2


def elsewhere(bench: Bench, change: str) -> None:
    """All rows become those of another environment, code or host than this one's."""
    text = bench.folder.runs.read_text()
    if change == "environment":
        bench.launcher.environment_id = "env-2"
    elif change == "code":
        bench.folder.runs.write_text(text.replace(code_sha256(), "0" * 64))
    else:
        bench.folder.runs.write_text(text.replace("host-1", "host-2"))


@pytest.mark.parametrize("change", ["environment", "code", "host"])
def test_another_environment_code_or_host_opens_a_cell(bench: Bench, change: str) -> None:
    bench.run()
    bench.ran()
    elsewhere(bench, change)
    bench.run()
    assert len(bench.ran()) == 4


@pytest.mark.parametrize(
    ("there", "any_of_kind", "ran"),
    [
        ("AuthenticAMD avx2", True, 0),
        ("AuthenticAMD avx2", False, 4),  # --done-by host
        ("GenuineIntel avx512f", True, 4),
        ("", True, 4),  # of an older version: not known to be alike
    ],
)
def test_a_row_of_another_host_of_this_kind_makes_a_cell_done(
    bench: Bench, there: str, any_of_kind: bool, ran: int
) -> None:
    bench.run(isa="AuthenticAMD avx2")
    bench.ran()
    elsewhere(bench, "host")
    text = bench.folder.runs.read_text()
    bench.folder.runs.write_text(text.replace("AuthenticAMD avx2", there))
    bench.run(isa="AuthenticAMD avx2", policy=Policy(any_of_kind=any_of_kind))
    assert len(bench.ran()) == ran


@pytest.mark.parametrize("change", ["environment", "code", "host"])
def test_a_row_that_does_not_count_here_leaves_a_cell_open(bench: Bench, change: str) -> None:
    """What `run` says at its end, when it was stopped before it came to a cell."""
    bench.run()
    runner = bench.run()
    assert [row and row["status"] for row in runner.rows(bench.cells())] == ["ok"] * 4
    elsewhere(bench, change)
    bench.launcher.during = lambda job, stop: stop.set("stopped by SIGINT", by_user=True)
    runner = bench.run()
    found = [row["status"] if row else "open" for row in runner.rows(bench.cells())]
    assert sorted(found) == ["interrupted", "open", "open", "open"]
    assert runner.ended(bench.cells()) == []


def test_a_retry_that_ends_ok_does_not_wash_a_failure_away(bench: Bench) -> None:
    bench.launcher.status = lambda job: "diverged" if job.spec.seed == 1 else "ok"
    bench.run()
    bench.launcher.status = lambda job: "ok"
    runner = bench.run(policy=Policy(retry_failed=True))
    found = [row["status"] for row in runner.ended(bench.cells())]
    assert sorted(found) == ["diverged", "diverged", "ok", "ok"]
    bench.ran()
    bench.run(policy=Policy(retry_failed=True))
    assert bench.ran() == []  # each has an ok row by now


def test_older_code_can_be_accepted_deliberately(bench: Bench) -> None:
    bench.run()
    bench.ran()
    older = "0" * 64
    bench.folder.runs.write_text(bench.folder.runs.read_text().replace(code_sha256(), older))
    bench.run(policy=Policy(accepted_code=frozenset({older})))
    assert bench.ran() == []


def test_an_interrupt_ends_the_running_cell_and_leaves_the_rest_open(bench: Bench) -> None:
    def interrupt(job: Job, stop: Stop) -> None:
        if job.spec.optimizer.name == "truemuon":
            stop.set("stopped by SIGINT", by_user=True)

    bench.launcher.during = interrupt
    runner = bench.run()
    assert runner.stop.by_user
    ends = [(row["status"], row["reason"]) for row in bench.rows()]
    assert ends == [("ok", ""), ("interrupted", "stopped by SIGINT")]
    bench.ran()
    bench.launcher.during = lambda job, stop: None
    bench.run()
    assert bench.ran() == [("truemuon", 1), ("truemuon", 2), ("adamw", 2)]
    assert [row["attempt"] for row in bench.rows()] == ["1", "1", "2", "1", "1"]


def test_an_engine_that_fails_half_way_keeps_earlier_rows_and_leaves_the_rest_open(
    bench: Bench,
) -> None:
    def fail(job: Job, stop: Stop) -> None:
        if job.spec.seed == 2:
            raise EngineError("the engine has gone")

    bench.launcher.during = fail
    with pytest.raises(EngineError, match="has gone"):
        bench.run()
    assert [row["seed"] for row in bench.rows()] == ["1", "1"]
    assert bench.folder.curves.exists()


def test_a_killed_runners_attempt_keeps_its_folder_and_number(bench: Bench) -> None:
    first = bench.cells()[0]
    bench.folder.cells.mkdir(parents=True)
    bench.folder.make_attempt(first, 1)
    bench.run()
    assert [row["attempt"] for row in bench.rows()] == ["2", "1", "1", "1"]


def test_a_cuda_cell_without_a_gpu_is_skipped_once_with_its_remedy(bench: Bench) -> None:
    text = bench.matrix_file.read_text()
    bench.matrix_file.write_text(text.replace("device: [cpu]", "device: [cpu, cuda]"))
    bench.run()
    bench.run()
    skipped = [row for row in bench.rows() if row["status"] == "skipped"]
    assert len(skipped) == 4
    assert "no GPU here" in skipped[0]["reason"]
    assert "--only device=cpu" in skipped[0]["reason"]
    assert all(job.spec.device == "cpu" for job in bench.launcher.jobs)


def test_a_machine_without_its_gpu_does_not_unsettle_a_cell(bench: Bench) -> None:
    text = bench.matrix_file.read_text()
    bench.matrix_file.write_text(text.replace("device: [cpu]", "device: [cuda]"))
    bench.gpus = Gpus((Gpu("GPU-abc", "a GPU"),), "580.1", None)
    bench.run()
    bench.gpus = NO_GPU
    bench.run()
    assert [row["status"] for row in bench.rows()] == ["ok"] * 4


@pytest.mark.slow
def test_a_row_that_cannot_be_committed_ends_the_run_and_keeps_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = RunsTable.append

    def full(self: RunsTable, row: dict[str, Any]) -> None:
        if row["optimizer"] == "adamw":
            raise RecordError("the disk is full")
        append(self, row)

    started = threading.Barrier(2, timeout=20)
    bench.launcher.during = lambda job, stop: started.wait() and None
    monkeypatch.setattr(RunsTable, "append", full)
    with pytest.raises(RecordError, match="disk is full"):
        bench.run(jobs=2)
    assert [(row["optimizer"], row["seed"]) for row in bench.rows()] == [("truemuon", "1")]


def test_a_stray_folder_among_the_cells_is_passed_over(bench: Bench) -> None:
    (bench.folder.cells / f"{bench.cells()[0].spec.run_id}-1-old").mkdir(parents=True)
    bench.run()
    assert [row["status"] for row in bench.rows()] == ["ok"] * 4


def test_a_worker_cannot_say_who_it_is(bench: Bench) -> None:
    bench.launcher.row = {"seed": 99, "host_id": "elsewhere"}
    bench.run()
    assert {row["host_id"] for row in bench.rows()} == {"host-1"}
    assert {row["seed"] for row in bench.rows()} == {"1", "2"}


def test_a_cuda_cell_gets_its_gpu_by_uuid(bench: Bench) -> None:
    text = bench.matrix_file.read_text()
    bench.matrix_file.write_text(text.replace("device: [cpu]", "device: [cuda]"))
    bench.gpus = Gpus((Gpu("GPU-abc", "a GPU"),), "580.1", None)
    bench.run()
    assert {job.gpu_uuids for job in bench.launcher.jobs} == {("GPU-abc",)}
    assert bench.rows()[0]["driver_version"] == "580.1"


@pytest.fixture
def on_gpu(bench: Bench) -> Bench:
    """Four cells, on a machine with two GPUs of one kind."""
    text = bench.matrix_file.read_text()
    bench.matrix_file.write_text(text.replace("device: [cpu]", "device: [cuda]"))
    bench.gpus = Gpus((Gpu("GPU-abc", "a GPU"), Gpu("GPU-def", "a GPU")), "550.54", None)
    return bench


UNREACHED = Reach("RuntimeError: driver too old", "2.11.0+cu130", "13.0", "12.4")


@pytest.mark.parametrize("devices", ["cuda", "cpu, cuda"])
def test_a_gpu_that_torch_does_not_reach_ends_the_run_before_any_cell(
    on_gpu: Bench, devices: str
) -> None:
    text = on_gpu.matrix_file.read_text()
    on_gpu.matrix_file.write_text(text.replace("device: [cuda]", f"device: [{devices}]"))
    on_gpu.launcher.found = UNREACHED
    words = r"a GPU \(GPU-.*CUDA 13\.0.*550\.54 supports up to CUDA 12\.4.*Update the driver"
    with pytest.raises(MissingError, match=words) as told:
        on_gpu.run()
    assert ("--only device=cpu" in str(told.value)) == ("cpu" in devices)
    assert (on_gpu.rows(), on_gpu.ran()) == ([], [])
    on_gpu.launcher.found = Reach(None, "2.11.0", "13.0", "13.0")
    on_gpu.run()
    assert {row["status"] for row in on_gpu.rows()} == {"ok"}


def test_each_gpu_in_use_is_tried_out_and_only_where_cells_are_open(on_gpu: Bench) -> None:
    on_gpu.run(jobs=2)
    assert on_gpu.launcher.probed == ["GPU-abc", "GPU-def"]
    on_gpu.run(jobs=2)
    assert len(on_gpu.launcher.probed) == 2


def test_a_second_gpu_that_is_dead_is_told_with_what_leaves_it_out(on_gpu: Bench) -> None:
    on_gpu.launcher.dead["GPU-def"] = UNREACHED
    with pytest.raises(
        MissingError, match=r"a GPU \(GPU-def\): .*, or leave it out: --gpus GPU-abc"
    ):
        on_gpu.run(jobs=2)
    assert on_gpu.rows() == []
    on_gpu.run(jobs=1)
    assert {row["status"] for row in on_gpu.rows()} == {"ok"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_gpu_is_tried_out_ends_the_run(
    on_gpu: Bench, number: signal.Signals
) -> None:
    def reach(gpu_uuid: str, folder: Path | None = None) -> Reach:
        signal.raise_signal(number)
        raise MissingError("the probe was ended as well")

    on_gpu.launcher.reach = reach  # type: ignore[method-assign]
    runner = on_gpu.run(jobs=2)
    assert runner.stop.by_user
    assert (on_gpu.rows(), on_gpu.ran()) == ([], [])


def test_cells_on_the_cpu_try_no_gpu_out(bench: Bench) -> None:
    bench.gpus = Gpus((Gpu("GPU-abc", "a GPU"),), "550.54", None)
    bench.launcher.found = UNREACHED
    bench.run()
    assert bench.launcher.probed == []
    assert {row["status"] for row in bench.rows()} == {"ok"}


def test_jobs_run_at_once_on_cpus_of_their_own(bench: Bench) -> None:
    both = threading.Barrier(2, timeout=20)
    bench.launcher.during = lambda job, stop: both.wait() and None
    bench.run(jobs=2)
    rows = bench.rows()
    assert len(rows) == 4
    assert {row["cpus"] for row in rows} == {"0", "1"}
    ids = {row["run_id"] for row in rows}
    for row in rows:
        beside = set(row["neighbour_ids"].split())
        assert beside < ids - {row["run_id"]}
        assert int(row["neighbours"]) == len(beside) > 0


def test_as_many_jobs_as_the_machine_allows(bench: Bench) -> None:
    """By memory: 12 GiB are free, and limits.memory_gib is 4."""
    three = threading.Barrier(3, timeout=20)
    bench.launcher.during = lambda job, stop: job.spec.seed == 1 and three.wait() and None
    text = bench.matrix_file.read_text()
    text = text.replace("[adamw, truemuon]", "[adamw, truemuon, low]")
    bench.matrix_file.write_text(text + "optimizers: {low: {base: adamw, lr: 0.0001}}\n")
    bench.run(jobs=None)
    assert {row["cpus"] for row in bench.rows()} == {"0", "1", "2"}


def test_a_cell_that_runs_alone_has_no_neighbours_and_that_is_known(bench: Bench) -> None:
    bench.run()
    told = {(row["neighbours"], row["neighbour_ids"]) for row in bench.rows()}
    assert told == {("0", "")}


@pytest.mark.parametrize("fails", ["launch", "display"])
def test_a_failure_beside_another_cell_ends_that_one_with_a_row(
    bench: Bench, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2, timeout=20)

    def during(job: Job, stop: Stop) -> None:
        both.wait()
        if job.spec.optimizer.name == "truemuon":
            assert select.select([stop], [], [], 20)[0], "it was not stopped"
        elif fails == "launch":
            raise EngineError("made up")

    def ended(self: PlainDisplay, cell: Cell, row: dict[str, Any], left_s: float | None) -> None:
        if fails == "display" and row["status"] == "ok":
            raise OSError("made up")

    bench.launcher.during = during
    monkeypatch.setattr(PlainDisplay, "ended", ended)
    with pytest.raises((EngineError, OSError), match="made up"):
        bench.run(jobs=2)
    rows = {row["optimizer"]: (row["status"], row["neighbours"]) for row in bench.rows()}
    left = {} if fails == "launch" else {"adamw": ("ok", "1")}
    assert rows == left | {"truemuon": ("interrupted", "1")}


def test_curves_hold_every_committed_attempt(bench: Bench) -> None:
    bench.run()
    lines = bench.folder.curves.read_text().splitlines()
    assert lines[0] == ",".join(CURVE_COLUMNS)
    assert lines[0].startswith(
        "run_id,host_id,attempt,step,tokens,train_time_s,train_loss,val_loss,"
    )
    assert len(lines) == 1 + 4
    assert lines[1].rstrip(",").endswith(",host-1,1,0,0,0.0,2.5,2.5")  # of the rest it says nothing


def test_a_fault_of_the_machine_is_tried_again_as_often_as_allowed(bench: Bench) -> None:
    text = bench.matrix_file.read_text()
    bench.matrix_file.write_text(text + "limits: {retries: 2}\n")

    def kill(job: Job, stop: Stop) -> None:
        bench.launcher.code = -signal.SIGKILL if job.spec.seed == 1 else 0

    bench.launcher.during = kill
    bench.run()
    ends = [(row["seed"], row["attempt"], row["status"]) for row in bench.rows()]
    assert ends == [
        *(("1", str(attempt), "crashed") for attempt in (1, 2, 3)),
        *(("1", str(attempt), "crashed") for attempt in (1, 2, 3)),
        *(("2", "1", "ok") for _ in range(2)),
    ]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("crashed", "RuntimeError: CUDA error: GPU is lost"),
        ("crashed", "RuntimeError: busy or unavailable"),
        ("interrupted", "the GPU failed: Xid 79"),
    ],
)
def test_a_cell_that_blames_the_machine_is_done(bench: Bench, status: str, reason: str) -> None:
    text = bench.matrix_file.read_text()
    bench.matrix_file.write_text(text + "limits: {retries: 2}\n")
    bench.launcher.status, bench.launcher.reason = lambda job: status, reason
    for _ in range(2):
        bench.run()
        assert [(row["attempt"], row["status"]) for row in bench.rows()] == [("1", "crashed")] * 4


@pytest.mark.parametrize("status", ["diverged", "oom", "crashed"])
def test_no_other_end_is_tried_again(bench: Bench, status: str) -> None:
    text = bench.matrix_file.read_text()
    bench.matrix_file.write_text(text + "limits: {retries: 2}\n")
    bench.launcher.status = lambda job: status
    bench.run()
    assert [(row["attempt"], row["status"]) for row in bench.rows()] == [("1", status)] * 4


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_a_corpus_that_changes_between_cells_ends_the_run(bench: Bench, change: str) -> None:
    def spoil(job: Job, stop: Stop) -> None:
        if change == "gone":
            job.tokens[0].unlink()
        else:
            job.tokens[0].write_bytes(b"other tokens")

    bench.launcher.during = spoil
    with pytest.raises(CacheError, match=r"cannot be read any more|its SHA-256 is"):
        bench.run()
    assert [row["status"] for row in bench.rows()] == ["ok"]
    bench.launcher.during = lambda job, stop: None
    bench.run()
    assert [row["status"] for row in bench.rows()] == ["ok"] * 4


def test_a_token_file_that_changes_between_cells_ends_the_run(bench: Bench) -> None:
    folder = bench.matrix_file.parent
    for name in ("train.bin", "val.bin"):
        (folder / name).write_bytes(name.encode() * 20)
    data = "data: {tokens: {train: [train.bin], val: [val.bin]}, vocab_size: 65536}\n"
    lines = bench.matrix_file.read_text().splitlines()
    kept = [line for line in lines if not line.startswith("data:")]
    bench.matrix_file.write_text("\n".join([*kept, data]))

    def spoil(job: Job, stop: Stop) -> None:
        job.tokens[1].write_bytes(b"other tokens")

    bench.launcher.during = spoil
    with pytest.raises(CorpusError, match=r"val\.bin changed while cells ran"):
        bench.run()
    assert bench.rows() == []  # its run may have read the other tokens
    bench.launcher.during = lambda job, stop: job.tokens[1].unlink(missing_ok=True)
    (folder / "val.bin").write_bytes(b"other tokens" * 2)
    with pytest.raises(CorpusError, match=r"val\.bin"):
        bench.run()  # what is removed stays mapped: the run that had it has its row
    (first,) = bench.rows()
    (folder / "val.bin").write_bytes(b"more tokens." * 2)
    bench.launcher.during = lambda job, stop: None
    bench.run()  # another corpus: other runs
    again = bench.rows()[1:]
    assert [row["status"] for row in again] == ["ok"] * 4
    assert first["corpus"] == again[0]["corpus"] == "train.bin"
    assert first["corpus_sha256"] not in {row["corpus_sha256"] for row in again}


def test_a_disk_without_room_for_a_cell_ends_the_run_before_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.records.folder.ROOM_FOR_A_CELL", 2**80)
    with pytest.raises(FolderError, match=r"MiB left; a cell needs .* Make room"):
        bench.run()
    assert bench.launcher.jobs == []


def test_a_worker_that_blocks_its_own_folder_has_crashed(bench: Bench) -> None:
    bench.launcher.during = lambda job, stop: job.files.samples.mkdir()
    bench.run()
    assert {row["status"] for row in bench.rows()} == {"crashed"}
    assert "its folder cannot be written" in bench.rows()[0]["reason"]


def test_a_row_tells_whether_memory_was_limited(bench: Bench) -> None:
    bench.launcher.enforces_memory = False
    bench.run()
    row = bench.rows()[0]
    assert (row["memory_limit_gib"], row["memory_limit_enforced"]) == ("4.0", "false")


def test_a_run_without_a_new_row_leaves_the_curves_as_they_are(bench: Bench) -> None:
    bench.run()
    before = bench.folder.curves.stat()
    os.utime(bench.folder.curves, ns=(0, before.st_mtime_ns + 10**9))
    bench.run()
    assert bench.folder.curves.stat().st_ino == before.st_ino


@pytest.mark.parametrize("missing", ["a row's curve", "the file", "a cell's curve"])
def test_curves_that_a_killed_runner_left_behind_are_made_whole(bench: Bench, missing: str) -> None:
    bench.run()
    whole = bench.folder.curves.read_text()
    if missing == "a row's curve":
        bench.folder.curves.write_text(whole[: whole.index("\n") + 1])
        bench.folder.runs.touch()
    elif missing == "the file":
        bench.folder.curves.unlink()
    else:
        first = next(bench.folder.cells.iterdir())
        (first / "curve.csv").unlink()
        whole = "".join(
            line for line in whole.splitlines(keepends=True) if first.name[:12] not in line
        )
    bench.run()
    assert bench.folder.curves.read_text() == whole


def test_a_curve_that_is_not_one_spoils_no_other(bench: Bench) -> None:
    bench.run()
    first = sorted(bench.folder.cells.iterdir())[0]
    (first / "curve.csv").write_text("step,val_loss\n0,2.5,7\n")
    bench.run()
    assert len(bench.folder.curves.read_text().splitlines()) == 1 + 3


def test_a_curve_cannot_say_whose_it_is(bench: Bench) -> None:
    bench.run()
    for cell in bench.folder.cells.iterdir():
        (cell / "curve.csv").write_text("step,val_loss,run_id,attempt\n0,2.5,forged,9\n")
    bench.run()
    assert "forged" not in bench.folder.curves.read_text()


def test_a_cuda_row_of_another_kind_of_gpu_settles_nothing(bench: Bench) -> None:
    text = bench.matrix_file.read_text()
    bench.matrix_file.write_text(text.replace("device: [cpu]", "device: [cuda]"))
    bench.gpus = Gpus((Gpu("GPU-abc", "a GPU"),), "580.1", None)
    bench.run()
    bench.ran()
    bench.gpus = Gpus((Gpu("GPU-def", "a GPU"),), "580.1", None)
    bench.run()
    assert bench.ran() == []
    bench.gpus = Gpus((Gpu("GPU-ghi", "another GPU"),), "580.1", None)
    bench.run()
    assert len(bench.ran()) == 4


def test_a_curve_that_is_a_pipe_hangs_nothing(bench: Bench) -> None:
    bench.launcher.during = lambda job, stop: os.mkfifo(job.files.folder / "pipe")
    bench.run()
    for cell in bench.folder.cells.iterdir():
        (cell / "pipe").replace(cell / "curve.csv")
    bench.run()
    assert len(bench.folder.curves.read_text().splitlines()) == 1
