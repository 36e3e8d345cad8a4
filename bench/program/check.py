"""A program for some seconds: whether it starts, and what each pattern reads of it."""

import math
import re
import shlex
import time
from typing import Any

from bench.border.identity import program_code_sha256
from bench.program.cell import ProgramCell
from bench.program.lines import ANSI
from bench.program.patience import SlowPatternError
from bench.program.reading import LOSSES, PatternUse, Record
from bench.program.workspace import WorkspaceError
from bench.worker.protocol import write_json

# Different losses or metrics, once every pattern has met a line. The first ones may be those of
# every seed: where the output layer begins at zero, the logarithm of the vocabulary.
ENOUGH = 4
MOST = 100  # of them that are told
QUOTED_LINES = 5  # the last ones

Finding = dict[str, Any]  # {"check": name, "ok": bool, "text": what it says}
Loss = tuple[str, int | None, float | str]  # (name, step, number, or the text of one like nan)


def check(cell: ProgramCell, seconds: float) -> int:
    """Run it until enough was read or the seconds are over; the findings go into result.json."""
    losses: list[Loss] = []
    begins = PatternUse(cell.program.trials)
    fault = ""
    try:
        cell.start()
        if cell.child.process is not None:
            _listen(cell, seconds, losses, begins)
    except (WorkspaceError, SlowPatternError) as error:
        fault = str(error)
        cell.child.kill()
    cell.printed.close()
    findings = [_started(cell, fault)]
    if not fault:
        findings += [_met(cell, use, f"pattern {use.what}") for use, _ in cell.reader.uses]
        if cell.reader.json.lines or not cell.reader.uses:
            findings.append(_met(cell, cell.reader.json, "lines of JSON"))
        if cell.program.trials:
            findings.append(_met(cell, begins, f"trials {begins.what}"))
    content = {"code_sha256": program_code_sha256(), "findings": findings, "losses": losses}
    write_json(cell.folder / "result.json", content)
    cell.workspace.clean_up()
    return 0


def _listen(cell: ProgramCell, seconds: float, losses: list[Loss], begins: PatternUse) -> None:
    names = (*LOSSES, *cell.program.metrics)
    step: int | None = None
    for line, record, _ in cell.listening.until_end(time.monotonic() + seconds):
        if begins.what and not begins.lines and re.search(begins.what, line):
            begins.lines, begins.first = 1, line
        if (told := record.get("step")) is not None:
            step = int(told)
        for name in names:
            if len(losses) < MOST and (value := record.get(name)) is not None:
                losses.append((name, step, value if math.isfinite(value) else str(value)))
        enough = len({number for _, _, number in losses}) >= ENOUGH
        waits = cell.reader.silent or (begins.what and not begins.lines)
        if enough and not waits and not cell.child.stopped:
            cell.child.stop()


def _started(cell: ProgramCell, fault: str) -> Finding:
    command = shlex.join(cell.program.command)
    code = _failure(cell)
    if fault or not code:
        return {"check": "start", "ok": not fault, "text": fault or command}
    text = f"{command} ends with {code}; it printed: {_last(cell)}"
    return {"check": "start", "ok": False, "text": text}


def _failure(cell: ProgramCell) -> int:
    """The exit code of one that ended by itself."""
    return cell.child.process.wait() if cell.child.process and not cell.child.stopped else 0


def _met(cell: ProgramCell, use: PatternUse, check: str) -> Finding:
    reader = cell.reader
    if not use.lines:
        text = f"met nothing in {reader.lines} lines"
        # What it printed is told with its failure.
        text += " before it failed" if _failure(cell) else f"; it printed: {_last(cell)}"
        return {"check": check, "ok": False, "text": text}
    told = _told(use.first_record) if use.first_record else "begins a run"  # of `trials`
    text = f"{told}, in {use.first[:200]!r}"
    bad = [name for name, value in use.first_record.items() if value is None]
    text += "".join(f"; {name}: {reader.refused[name]}" for name in bad)
    return {"check": check, "ok": not bad, "text": text}


def _told(record: Record) -> str:
    known = [f"{name} {value:.12g}" for name, value in record.items() if value is not None]
    return f"reads {', '.join(known) or 'nothing'}"


def _last(cell: ProgramCell) -> str:
    """As a terminal shows them: of a progress bar, what it was at last."""
    printed = ANSI.sub("", cell.printed.tail.decode("utf-8", errors="replace"))
    shown = (line.rstrip("\r").rpartition("\r")[2].strip() for line in printed.split("\n"))
    lines = [line[:200] for line in shown if line]
    return " | ".join(lines[-QUOTED_LINES:]) or "nothing"
