"""Around an attempt: a copy of what was compiled before it, what is new after it, nothing left."""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from bench.errors import CacheError
from bench.launch.job import Environment, Job
from bench.measure.machine import cpu_kind
from bench.records.cells import Cell
from bench.records.compiled import CompiledCode, check_writable, discard


def check_compile_cache(cells: Iterable[Cell]) -> None:
    """Before any of these runs.

    Raises:
        CacheError: if one is to share what is compiled, and nothing can be kept.
    """
    if any(_shares(cell) for cell in cells):
        check_writable()


def _shares(cell: Cell | Job) -> bool:
    return cell.spec.train.compile and cell.limits.compile_cache == "shared"


def with_compiled(
    job: Job,
    environment: Environment,
    gpu_name: str | None,
    run: Callable[[], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """The rows of a process, whose compilers begin with what was compiled for cells like it.

    Raises:
        CacheError: if that cannot be kept here.
    """
    place = job.files.compiled
    kept = None
    if _shares(job):
        kept = CompiledCode.of(
            env_id=environment.env_id, code=job.spec.code_sha256, cpu=cpu_kind(), gpu=gpu_name
        )
    try:
        if kept:
            kept.copy_to(place)
        rows = run()
        if kept and rows[0]["status"] == "ok" and job.spec.is_ours:
            with contextlib.suppress(CacheError):  # later cells compile anew, and their rows say so
                kept.keep(place)
        return rows
    finally:
        discard(place)
