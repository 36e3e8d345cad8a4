"""What a cell finds compiled, what is kept of what it compiles, and that nothing is left of it."""

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from bench.errors import CacheError, EngineError
from bench.launch.job import Job, Stop
from bench.measure.gpus import Gpu, Gpus
from bench.records import compiled
from bench.records.cache import cache_folder
from bench.records.folder import ResultsFolder
from bench.run import compiling
from tests.builders.fake_launcher import Bench, FakeLauncher
from tests.builders.shared import TINY

LIBRARY = "ab/library.so"
PLAIN_SGD = "optimizers: {own: {class: 'torch.optim:SGD', lr: 0.1}}\n"


class Cells:
    """One cell after another of a matrix that compiles; each finds files, and leaves some."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: list[list[str]] = []
        self.leaves: Callable[[Path], None] = lambda place: write(place, LIBRARY)
        self.results: list[ResultsFolder] = []

    def bench(self, optimizer: str = "adamw", seed: str = "1", more: str = "") -> Bench:
        """With a results folder of its own, so that nothing is done yet."""
        text = TINY.replace("[adamw, truemuon]", f"[{optimizer}]").replace("[1, 2]", f"[{seed}]")
        number = len(self.results)
        file = self.folder / f"{number}.yaml"
        (self.folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 91)
        corpus = f"data: {{corpus: {self.folder / 'text.txt'}}}\n"
        file.write_text(text.replace("{steps", "{compile: true, steps") + corpus + more)
        self.results.append(ResultsFolder(self.folder / f"results-{number}"))
        made = Bench(file, self.results[-1], FakeLauncher())
        made.launcher.during = self._during
        return made

    def _during(self, job: Job, stop: Stop) -> None:
        self.found.append(names(job.files.compiled))
        self.leaves(job.files.compiled)

    def next_finds(self, *arguments: Any, **options: Any) -> list[str]:
        """What one more cell finds, which leaves nothing."""
        self.leaves = lambda place: None
        self.bench(*arguments, **options).run()
        return self.found[-1]

    @property
    def left(self) -> list[Path]:
        return [path for each in self.results for path in each.cells.glob("*/compiled*")]


def write(place: Path, name: str, content: str = "compiled") -> None:
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_text(content)


def names(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir())


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cells:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return Cells(tmp_path)


def test_a_cell_finds_what_an_earlier_one_compiled(cells: Cells) -> None:
    cells.bench().run()
    assert cells.next_finds(seed="2") == [LIBRARY]
    assert cells.found[0] == []
    assert cells.left == []


def test_a_cell_works_on_a_copy(cells: Cells) -> None:
    """What it makes of a file is its own; another one may have been compiled from it since."""
    cells.bench().run()
    cells.leaves = lambda place: write(place, LIBRARY, "changed")
    cells.bench(seed="2").run()
    (kept,) = (cache_folder() / "compiled").rglob("*.so")
    assert kept.read_text() == "compiled"


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "more", "index", "no index"])
def test_what_is_no_longer_as_it_was_kept_is_dropped(cells: Cells, damage: str) -> None:
    """Half a library would end each later cell; now one is cold, and what it compiles is kept."""
    cells.bench().run()
    (kept,) = (cache_folder() / "compiled").rglob("*.so")
    (index,) = (cache_folder() / "compiled").glob("*.json")
    match damage:
        case "cut":
            os.truncate(kept, 4)
        case "changed":
            kept.write_text("COMPILED")
        case "gone":
            kept.unlink()
        case "more":
            write(kept.parent, "other.so")
        case "index":
            os.truncate(index, 4)
        case "no index":
            index.unlink()
    cells.bench(seed="2").run()
    assert cells.found[-1] == []
    assert cells.next_finds(seed="3") == [LIBRARY]


@pytest.mark.parametrize("status", ["crashed", "diverged", "oom"])
def test_of_a_cell_that_did_not_end_ok_nothing_is_kept(cells: Cells, status: str) -> None:
    bench = cells.bench()
    bench.launcher.status = lambda job: status
    bench.run()
    assert [row["status"] for row in bench.rows()] == [status]
    assert cells.next_finds() == []
    assert cells.left == []


def test_what_a_cell_chose_by_timings_is_not_kept(cells: Cells) -> None:
    """Else what disturbed its autotuning would slow all later cells of one arm."""

    def leaves(place: Path) -> None:
        for name in (LIBRARY, "xy/abc.best_config", "cache/0123"):
            write(place, name)

    cells.leaves = leaves
    cells.bench().run()
    assert cells.next_finds() == [LIBRARY]


def test_of_an_interrupted_cell_nothing_is_kept_or_left(cells: Cells) -> None:
    bench = cells.bench()

    def interrupted(job: Job, stop: Stop) -> None:
        write(job.files.compiled, LIBRARY)
        stop.set("stopped", by_user=True)

    bench.launcher.during = interrupted
    bench.run()
    assert [row["status"] for row in bench.rows()] == ["interrupted"]
    assert cells.next_finds() == []
    assert cells.left == []


def test_a_cell_that_the_engine_lost_leaves_no_folder(cells: Cells) -> None:
    bench = cells.bench()

    def lost(job: Job, stop: Stop) -> None:
        write(job.files.compiled, LIBRARY)
        raise EngineError("made up")

    bench.launcher.during = lost
    with pytest.raises(EngineError):
        bench.run()
    assert cells.left == []


def test_the_next_run_removes_what_a_killed_runner_left(cells: Cells) -> None:
    results = cells.bench().folder
    write(results.cells / "old-1" / "compiled", LIBRARY)
    results.discard_compiled()
    assert cells.left == []
    assert (results.cells / "old-1").is_dir()


def test_a_brought_class_gets_a_copy_and_what_it_leaves_reaches_nobody(cells: Cells) -> None:
    cells.bench().run()
    cells.leaves = lambda place: write(place, "planted.so")
    cells.bench("own", more=PLAIN_SGD).run()
    assert cells.found[-1] == [LIBRARY]
    assert cells.next_finds() == [LIBRARY]
    assert cells.left == []


def test_no_link_or_pipe_is_kept_or_followed(cells: Cells) -> None:
    outside = cells.folder / "outside"
    write(outside, "secret")

    def links(place: Path) -> None:
        write(place, LIBRARY)
        (place / "file.so").symlink_to(outside / "secret")
        (place / "folder").symlink_to(outside)
        os.mkfifo(place / "pipe.so")

    cells.leaves = links
    cells.bench().run()
    assert cells.next_finds() == [LIBRARY]
    assert names(outside) == ["secret"]
    assert cells.left == []


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_in_place_of_the_folder_is_not_followed(cells: Cells, dangling: bool) -> None:
    outside = cells.folder / "outside"
    if not dangling:
        write(outside, "secret")

    def link(place: Path) -> None:
        place.rmdir()
        place.symlink_to(outside)

    cells.leaves = link
    cells.bench().run()
    assert cells.next_finds() == []
    assert dangling or names(outside) == ["secret"]
    assert cells.left == []


@pytest.mark.parametrize(
    ("setting", "kept"), [("limits: {compile_cache: none}\n", True), ("", False)]
)
def test_nothing_is_kept_or_found_without_a_cache(cells: Cells, setting: str, kept: bool) -> None:
    """By the limit, or because nothing is to be compiled; a folder of its own goes all the same."""
    cells.bench().run()
    bench = cells.bench(more=setting)
    if not kept:
        bench.matrix_file.write_text(bench.matrix_file.read_text().replace("compile: true, ", ""))
    cells.leaves = lambda place: write(place, "other.so")
    bench.run()
    assert cells.found[-1] == []
    assert cells.next_finds() == [LIBRARY]
    assert cells.left == []


@pytest.mark.parametrize("other", ["environment", "code", "processor", "gpu"])
def test_what_was_compiled_elsewhere_is_not_found(
    cells: Cells, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = Gpus((Gpu("GPU-a", "one kind"),), "570", None)

    def bench() -> Bench:
        made = cells.bench()
        made.matrix_file.write_text(made.matrix_file.read_text().replace("[cpu]", "[cuda]"))
        return replace(made, gpus=gpus)

    bench().run()
    bench().run()
    assert cells.found == [[], [LIBRARY]]
    later = bench()
    match other:
        case "environment":
            later.launcher.environment_id = "env-2"
        case "code":
            found = compiling.CompiledCode.of

            def other_code(**given: Any) -> compiling.CompiledCode:
                return found(**given | {"code": "other"})

            monkeypatch.setattr(compiling.CompiledCode, "of", other_code)
        case "processor":
            monkeypatch.setattr(compiling, "cpu_kind", lambda: "other")
        case "gpu":
            later = replace(later, gpus=replace(gpus, gpus=(Gpu("GPU-a", "other"),)))
    later.run()
    assert cells.found[-1] == []


def test_two_cells_at_once_both_keep_what_they_compiled(cells: Cells) -> None:
    bench, both = cells.bench(seed="1, 2"), threading.Barrier(2)

    def at_once(job: Job, stop: Stop) -> None:
        for number in range(20):
            write(job.files.compiled, f"ab/{number}.so", "x" * 100_000)
        write(job.files.compiled, f"of-{job.spec.seed}.so")
        both.wait(timeout=60)

    bench.launcher.during = at_once
    bench.run(jobs=2)
    shared = [f"ab/{number}.so" for number in range(20)]
    assert cells.next_finds() == sorted([*shared, "of-1.so", "of-2.so"])
    sizes = {path.stat().st_size for path in (cache_folder() / "compiled").rglob("ab/*.so")}
    assert sizes == {100_000}


def test_a_cache_that_cannot_be_written_is_told_before_the_cell(cells: Cells) -> None:
    write(cache_folder(), "compiled", "a file is in the way")
    with pytest.raises(CacheError, match=r"cannot be kept in .* or limits.compile_cache to none"):
        cells.bench().run()
    assert cells.found == []
    assert list(cells.results[-1].cells.glob("*")) == []  # nor is there an attempt at one
    cells.bench(more="limits: {compile_cache: none}\n").run()
    assert cells.found == [[]]


@pytest.mark.parametrize("why", ["no locks", "locked"])
def test_a_cache_that_cannot_be_locked_is_told_with_the_remedy(
    cells: Cells, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems know no locks; on others one stays of a machine that is gone."""
    kept = cache_folder() / "compiled"
    kept.mkdir(parents=True)
    monkeypatch.setattr(compiled, "LOCK_TIMEOUT_S", 0.1)
    if why == "no locks":

        def refuse(handle: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("fcntl.flock", refuse)
        with pytest.raises(CacheError, match="compile_cache to none"):
            compiled.check_writable()
    else:
        with FileLock(kept / ".lock"), pytest.raises(CacheError, match="compile_cache to none"):
            cells.bench().run()
    assert cells.found == []
