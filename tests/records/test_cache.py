"""The cache, which runners of several hosts and containers may share."""

import os
from pathlib import Path

import pytest

from bench.records.cache import cache_folder, is_whole, sha256_of, store

FILES = {"a.py": b"a = 1\n", "deep/b.py": b"b = 2\n"}


def test_two_of_one_process_number_store_an_entry_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As two pods do: each has few processes, and so the same numbers."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    path = cache_folder() / "code" / sha256_of(FILES)
    fsync = os.fsync

    def meanwhile(handle: int) -> None:  # a file of ours is not whole yet
        monkeypatch.setattr(os, "fsync", fsync)
        store(path, lambda: FILES)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", meanwhile)
    assert is_whole(store(path, lambda: FILES))
    assert sorted(each.name for each in path.rglob("*")) == ["a.py", "b.py", "deep"]
    assert list(path.parent.iterdir()) == [path]
