"""How often a gate is wrong here: one revision beside itself, and beside slower steps."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from bench.border.atomic import write_atomically
from bench.compare.ab import Request, Say, SideBySide, side_by_side
from bench.compare.alarms import FIELDS, Judged, as_json, as_line, as_markdown, judged
from bench.compare.gate import Gate
from bench.compare.pinned import pinned
from bench.compare.planted import slow_down
from bench.compare.sides import Change, changed
from bench.errors import FolderError, RequestError
from bench.records.rows import Row, as_number, read_runs, write_table

MOST_ROUNDS = 10_000
MOST_SLOWER = 1000.0  # percent
BASE, AGAIN = "base", "again"
# What a reader must know of the machine and of what ran on it.
ABOUT = (
    *("runtime", "host_cpu_model", "gpu_name", "cpus", "threads", "memory_limit_gib"),
    *("image_id", "torch_version", "python_version"),
)


def changes(slower: Sequence[float]) -> dict[str, Change]:
    """What is changed in the checkout of each side, by its name; slower: percent of a step's time.

    Raises:
        RequestError: for a slowdown that cannot be, or is asked for twice.
    """
    found: dict[str, Change] = {BASE: _nothing, AGAIN: _nothing}
    for percent in slower:
        name = f"slower-{percent:g}"
        if not 0 < percent <= MOST_SLOWER:
            raise RequestError(
                f"--slower {percent:g}: write a percentage above 0 and up to {MOST_SLOWER:g}."
            )
        if name in found:
            raise RequestError(f"--slower {percent:g} is given twice. Give each slowdown once.")
        found[name] = partial(slow_down, share=percent / 100)
    return found


def _nothing(root: Path) -> None:
    pass


@dataclass(frozen=True)
class Calibration:
    """What is measured: how many rounds of which sides, under which gate."""

    revision: str
    slower: Sequence[float]  # percent of a step's time, of a side each
    rounds: int
    gate: Gate
    command: str  # that asks for it, for readers


def calibrate(asked: Calibration, request: Request, say: Say) -> tuple[Path, list[Judged]]:
    """Run all rounds that are not done and judge each; the folder, and all that was found.

    A round has the same cells as any other: what differs is the machine's moment. What is done is
    only judged, so that another rule costs no run.

    Raises:
        BenchError: as for `run_pairs`, or for a folder with rounds of another matrix.
    """
    if not 1 <= asked.rounds <= MOST_ROUNDS:
        raise RequestError(f"--rounds {asked.rounds}: give a number from 1 to {MOST_ROUNDS:,}.")
    versions = changed(asked.revision, changes(asked.slower))
    _check_matrix(request)
    found: list[Judged] = []
    with side_by_side("calibrate", versions, request, say) as beside:
        for number in range(1, asked.rounds + 1):
            ran = _run_round(number, asked.rounds, beside, say)
            found += _judge_round(number, beside, asked.gate)
            if ran:
                say(as_line(found))
            if ran or number == asked.rounds:
                _leave(found, number, beside, asked)
    return beside.folder, found


def _check_matrix(request: Request) -> None:
    """Rounds are counted together: all have the same cells."""
    file = request.out / "matrix.yaml" if request.out else None
    asked = pinned(request.matrix, request.n_pairs)
    if file and file.is_file() and file.read_text(encoding="utf-8") != asked:
        raise FolderError(
            f"{request.out} holds rounds of another matrix, or of another number of pairs. Give "
            "another --out, or remove it."
        )


def _round(number: int, beside: SideBySide) -> Path:
    return beside.folder / f"round-{number:02d}"


def _run_round(number: int, rounds: int, beside: SideBySide, say: Say) -> bool:
    """Whether it was still to be run."""
    into = _round(number, beside)
    if beside.is_done(into):
        return False
    per_arm = len({cell.spec.seed for cell in beside.cells})
    told = f"round {number}/{rounds}, "
    beside.run(into, lambda line: say(told + line), begin=(number - 1) * per_arm)
    return True


def _judge_round(number: int, beside: SideBySide, gate: Gate) -> Iterator[Judged]:
    """What the gate says of each side, held against the first."""
    into = _round(number, beside)
    base, *others = (side.name for side in beside.sides)
    for name in others:
        yield from judged(number, name, gate.compare(into / base, into / name, (base, name)))


def _leave(found: Sequence[Judged], rounds: int, beside: SideBySide, asked: Calibration) -> None:
    """rounds.csv, calibration.md and calibration.json beside the rounds."""
    facts = _facts(rounds, beside)
    write_table(beside.folder / "rounds.csv", FIELDS, map(asdict, found))
    for file, write in (("calibration.md", as_markdown), ("calibration.json", as_json)):
        write_atomically(beside.folder / file, write(found, asked.command, facts))


def _facts(rounds: int, beside: SideBySide) -> dict[str, str]:
    """What the rounds ran on, and how busy that was."""
    folders = [_round(number, beside) for number in range(1, rounds + 1)]
    rows = {
        side.name: [row for folder in folders for row in read_runs(folder / side.name / "runs.csv")]
        for side in beside.sides
    }
    of_all = [row for of in rows.values() for row in of]
    disturbed = sum(row.get("tainted") == "true" for row in of_all)
    return {
        **{side.name: f"{side.asked} ({side.identity})" for side in beside.sides},
        **{column: text for column in ABOUT if (text := _told(of_all, column))},
        "cells": f"{len(of_all)}, of which {disturbed} were disturbed from outside",
        **{
            f"median {column}": f"{statistics.median(figures):.4g}"
            for column in ("host_load_mean", "cpu_others_pct", "wall_time_s")
            if (figures := _figures(of_all, column))
        },
        **{
            f"median step_time_ms_p50 of {name}": f"{statistics.median(figures):.4g}"
            for name, of in rows.items()
            if (figures := _figures(of, "step_time_ms_p50"))
        },
    }


def _told(rows: Iterable[Row], column: str) -> str:
    return " / ".join(dict.fromkeys(text for row in rows if (text := row.get(column, ""))))


def _figures(rows: Iterable[Row], column: str) -> list[float]:
    return [value for row in rows if (value := as_number(row.get(column, ""))) is not None]
