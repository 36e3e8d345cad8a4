"""Compiled code is kept within bounds: what was used longest ago goes first."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.records import compiled
from bench.records.compiled import CompiledCode


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "MOST_BYTES", 100)


def keep(kind: str, folder: Path, used: int, **sizes: int) -> CompiledCode:
    """Files of these sizes, of a cell of this kind, last used at a time."""
    kept, place = CompiledCode.of(kind=kind), folder / f"place-{used}"
    kept.copy_to(place)
    for name, size in sizes.items():
        (place / name).write_bytes(b"x" * size)
    kept.keep(place)
    if kept.folder.is_dir():
        os.utime(kept.folder, (used, used))
    return kept


def files(kept: CompiledCode) -> list[str]:
    return sorted(path.name for path in kept.folder.glob("*"))


def test_the_kind_that_was_used_longest_ago_is_dropped(tmp_path: Path) -> None:
    first, second = keep("one", tmp_path, 1, a=40), keep("two", tmp_path, 2, b=40)
    keep("one", tmp_path, 3)
    third = keep("three", tmp_path, 4, c=40)
    assert [files(kept) for kept in (first, second, third)] == [["a"], [], ["c"]]


def test_a_kind_that_alone_is_too_much_starts_anew(tmp_path: Path) -> None:
    other = keep("other", tmp_path, 1, a=10)
    keep("one", tmp_path, 2, a=60)
    kept = keep("one", tmp_path, 3, b=60)
    assert (files(kept), files(other)) == (["b"], [])


def test_what_is_more_than_may_be_kept_at_all_is_not_kept(tmp_path: Path) -> None:
    kept = keep("one", tmp_path, 1, a=101)
    assert files(kept) == []
    assert files(keep("one", tmp_path, 2, b=50)) == ["b"]


def test_of_cells_at_once_one_after_the_other_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what one has just kept might be dropped, or half a file be found."""
    busy = threading.Lock()

    def slowly(path: Path, content: bytes) -> None:
        assert busy.acquire(blocking=False)
        time.sleep(0.02)
        path.write_bytes(content)
        busy.release()

    monkeypatch.setattr(compiled, "write_atomically", slowly)
    with ThreadPoolExecutor(2) as pool:
        sizes = ({"a": 10, "b": 10, "c": 10}, {"c": 10, "d": 10, "e": 10})
        cells = [pool.submit(keep, "one", tmp_path, n, **each) for n, each in enumerate(sizes)]
    assert files(cells[0].result()) == files(cells[1].result()) == ["a", "b", "c", "d", "e"]
