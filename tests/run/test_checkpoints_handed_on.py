"""Which attempt goes on from which: checkpoints move with the cell, and go when it is ok."""

import os
from pathlib import Path

import pytest
from rich.console import Console

from bench.border.checkpoints import Keeping, name_of
from bench.errors import MatrixError
from bench.launch.job import Exit, Job, Stop, Watcher
from bench.matrix.expansion import load_matrix
from bench.records.folder import ResultsFolder
from bench.run.progress import PlainDisplay
from bench.run.standing import Policy
from tests.builders.fake_launcher import Bench, FakeLauncher

ASKED = "limits: {checkpoint_every: 500 steps}\n"
NAMES = [name_of(step, f"{step:064x}") for step in (500, 1000)]


class Leaving(FakeLauncher):
    """Each attempt tells which checkpoints it found, and leaves two more of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[list[str]] = []
        self.during = self._leave
        self.stopping = False

    def run(self, job: Job, watcher: Watcher, stop: Stop) -> Exit:
        ended = super().run(job, watcher, stop)
        if ended.code < 0:
            job.files.result.unlink()
        return ended

    def _leave(self, job: Job, stop: Stop) -> None:
        place = job.files.checkpoints
        self.found.append(sorted(path.name for path in place.glob("*")))
        place.mkdir(exist_ok=True)
        for name in NAMES:
            (place / name).write_bytes(b"state")
        if self.stopping:
            stop.set("stopped by SIGTERM", by_user=True)


@pytest.fixture
def bench(tiny_matrix: Path, tmp_path: Path) -> Bench:
    """Of one cell."""
    text = tiny_matrix.read_text().replace("[adamw, truemuon]", "[adamw]")
    tiny_matrix.write_text(text.replace("seed: [1, 2]", "seed: [1]") + ASKED)
    return Bench(tiny_matrix, ResultsFolder(tmp_path / "results"), Leaving())


def kept(bench: Bench) -> dict[str, list[str]]:
    """Attempt -> its checkpoints."""
    return {
        cell.name.rpartition("-")[2]: sorted(path.name for path in (cell / "checkpoints").glob("*"))
        for cell in sorted(bench.folder.cells.iterdir())
        if (cell / "checkpoints").exists()
    }


def ends(bench: Bench, status: str, reason: str = "", again: bool = False) -> None:
    bench.launcher.status, bench.launcher.reason = (lambda job: status), reason
    bench.run(policy=Policy(retry_failed=again))


def test_an_attempt_is_told_how_often_and_where_it_is(bench: Bench) -> None:
    bench.launcher.during = lambda job, stop: keepings.append(Keeping.read(job.files.keeping))
    keepings: list[Keeping | None] = []
    bench.run()
    (keeping,) = keepings
    assert keeping is not None
    assert (keeping.every_steps, keeping.every_s) == (500, None)
    assert (keeping.here.env_id, keeping.here.host_id) == ("env-1", "host-1")


@pytest.mark.parametrize(
    ("status", "reason"),
    [("interrupted", ""), ("crashed", "ended by SIGKILL; it left no result")],
)
def test_the_next_attempt_has_those_of_an_interrupted_one(bench, status, reason):
    if status == "interrupted":
        bench.launcher.stopping = True
    else:
        bench.launcher.code = -9
    bench.run()
    bench.launcher.stopping, bench.launcher.code = False, 0
    assert bench.rows()[-1]["status"] == status
    assert kept(bench) == {"1": NAMES}
    ends(bench, "ok", again=True)
    assert bench.launcher.found == [[], NAMES]
    assert kept(bench) == {}


def test_without_a_row_its_runner_was_killed_and_it_is_gone_on_from(bench):
    bench.run()
    lines = bench.folder.runs.read_text().splitlines(keepends=True)
    bench.folder.runs.write_text(lines[0])
    (cell,) = bench.folder.cells.iterdir()
    (cell / "checkpoints").mkdir()
    (cell / "checkpoints" / NAMES[0]).write_bytes(b"state")
    ends(bench, "ok")
    assert bench.launcher.found[-1] == NAMES[:1]


@pytest.mark.parametrize("status", ["diverged", "crashed", "oom"])
def test_nobody_goes_on_from_a_failure(bench, status):
    ends(bench, status)
    assert kept(bench) == {"1": NAMES}
    ends(bench, "ok", again=True)
    assert bench.launcher.found == [[], []]
    assert kept(bench) == {}


@pytest.mark.parametrize("change", ["environment", "code"])
def test_nobody_goes_on_from_what_ran_otherwise(bench, change):
    bench.run()
    bench.folder.runs.unlink()
    (cell,) = bench.folder.cells.iterdir()
    (cell / "checkpoints").mkdir()
    (cell / "checkpoints" / NAMES[0]).write_bytes(b"state")
    if change == "environment":
        bench.launcher.environment_id = "env-2"
    else:
        told = (cell / "keeping.json").read_text()
        code = bench.launcher.jobs[0].spec.code_sha256
        (cell / "keeping.json").write_text(told.replace(code, "0" * 64))
    ends(bench, "ok")
    assert bench.launcher.found == [[], []]


def test_links_and_strangers_are_left_where_they_are(bench, tmp_path):
    """A worker owns its folder: what it puts there must not be moved, nor what a link leads to."""
    secret = tmp_path / "secret"
    secret.write_text("mine")
    bench.run()
    bench.folder.runs.unlink()
    (cell,) = bench.folder.cells.iterdir()
    place = cell / "checkpoints"
    place.mkdir()
    (place / NAMES[0]).symlink_to(secret)
    os.mkfifo(place / name_of(700, "7" * 64))
    (place / NAMES[1]).write_bytes(b"state")
    (place / "notes.txt").write_text("mine too")
    ends(bench, "ok")
    assert bench.launcher.found[-1] == NAMES[1:]
    assert secret.read_text() == "mine"


def test_a_folder_that_is_a_link_is_not_followed(bench, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / NAMES[0]).write_bytes(b"state")
    bench.run()
    bench.folder.runs.unlink()
    (cell,) = bench.folder.cells.iterdir()
    (cell / "checkpoints").symlink_to(other)
    ends(bench, "ok")
    assert bench.launcher.found[-1] == []
    assert (other / NAMES[0]).exists()


def test_they_stay_where_that_is_asked(bench):
    text = bench.matrix_file.read_text()
    bench.matrix_file.write_text(text.replace("500 steps", "500 steps, keep_checkpoints: true"))
    bench.run()
    assert kept(bench) == {"1": NAMES}


def test_a_run_that_went_on_says_so_and_is_no_timing(bench):
    bench.launcher.row = {"resumed": 2, "resumed_from": "step 1000"}
    bench.run()
    (row,) = bench.rows()
    assert (row["resumed"], row["resumed_from"]) == ("2", "step 1000")
    assert row["tainted"] == "true"
    assert "resumed 2 times" in row["taint_reasons"]


def test_how_often_is_part_of_no_identity(bench):
    asked = load_matrix(bench.matrix_file).cells[0].spec.run_id
    bench.matrix_file.write_text(bench.matrix_file.read_text().replace(ASKED, ""))
    assert load_matrix(bench.matrix_file).cells[0].spec.run_id == asked


@pytest.mark.parametrize(
    ("every", "what"),
    [
        ("500", "500 has no unit. Write 500 steps, or 10 min."),
        ("often", "'often' is neither steps nor minutes. Write 500 steps, or 10 min."),
        ("0 steps", "is neither steps nor minutes"),
        ("1.5 min", "is neither steps nor minutes"),
    ],
)
def test_how_often_is_steps_or_minutes(bench, every, what):
    bench.matrix_file.write_text(bench.matrix_file.read_text().replace("500 steps", every))
    with pytest.raises(MatrixError, match=what):
        load_matrix(bench.matrix_file)


def test_those_of_this_environment_are_found_behind_those_of_another(bench):
    """As a queue leaves them that gives one kind of machine, then another, then the first again."""
    bench.run()
    bench.folder.runs.unlink()
    (first,) = bench.folder.cells.iterdir()
    second = first.with_name(first.name[:-1] + "2")
    for cell, name, env in ((first, NAMES[1], "env-1"), (second, NAMES[0], "env-2")):
        (cell / "checkpoints").mkdir(parents=True)
        (cell / "checkpoints" / name).write_bytes(b"state")
        told = (first / "keeping.json").read_text().replace("env-1", env)
        (cell / "keeping.json").write_text(told)
    ends(bench, "ok")
    assert bench.launcher.found[-1] == NAMES[1:]


def test_that_it_goes_on_is_said(bench, capsys):
    bench.display = PlainDisplay(Console())
    bench.launcher.stopping = True
    bench.run()
    bench.launcher.stopping = False
    bench.run()
    assert "small + adamw, cpu, seed 1 goes on from step 1,000" in capsys.readouterr().out


def test_a_worker_that_lives_on_may_drop_one_meanwhile(bench, monkeypatch):
    """Of a runner on another host that was taken over from: it keeps the last two."""
    bench.launcher.stopping = True
    bench.run()
    replace = Path.replace

    def dropped(self: Path, target: Path) -> Path:
        if self.name == NAMES[0]:
            self.unlink()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", dropped)
    bench.launcher.stopping = False
    ends(bench, "ok")
    assert bench.launcher.found == [[], NAMES[1:]]
