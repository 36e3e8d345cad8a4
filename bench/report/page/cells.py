"""One cell in detail: its settings, environment, figures, the end of its log and its files.

A cell's files were written by the program under test, in a folder that anybody may have changed:
they are read up to a limit, never out of their results folder, and shown as text.
"""

import html
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.border.spec import PHASES, CellFiles
from bench.merge.disturbed import REASONS, SOURCE
from bench.merge.merging import EndedCell, Merged
from bench.merge.raw import file_of
from bench.records.columns import SHOWN
from bench.report.page.content import CellView, Field
from bench.statistics.text import NOT_AVAILABLE, of_measure, write

# What a cell's texts may take on the page, in bytes as HTML: with its rows and its curve, a cell
# stays below 10 KB.
MOST_FACT = 900
MOST_FACTS = 3000  # together
MOST_REASON = 500
MOST_LOG = 1500
LOG_LINES = 20

NOTHING: tuple[Any, ...] = ({}, [], "", None)  # of a program's settings
# What is read of a file: no spec or environment is longer, and the end of a log is in its tail.
MOST_JSON = 64 * 2**10
TAIL = 16 * 2**10

DEPTH = 4  # of a JSON file, more than the worker's have

CUT = "…"
# Signs that a browser would not show, or would obey.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

# Of env.json; it also holds how torch was built, which takes pages.
ENVIRONMENT = (
    "python_version",
    "torch_version",
    "numpy_version",
    "platform",
    "cpu_capability",
    "threads",
    "affinity",
    "variables",
)


def anchors(cells: Iterable[EndedCell]) -> list[str]:
    """A name for each cell's part of the page: cell-RUN_ID-ATTEMPT, with a number if it is taken.

    Of a run_id only signs stay that need no escaping anywhere.
    """
    found: dict[str, None] = {}
    for cell in cells:
        attempt = cell.text("attempt") or "0"
        plain = "cell-" + re.sub(r"[^A-Za-z0-9_-]", "-", f"{cell.run_id}-{attempt}")[:80]
        name, number = plain, 1
        while name in found:
            number += 1
            name = f"{plain}--{number}"
        found[name] = None
    return list(found)


def cell_views(merged: Merged, out: Path) -> tuple[CellView, ...]:
    """All cells in the order of the plans; `out` is where the page will lie."""
    names = anchors(merged.cells)
    return tuple(
        _view(cell, name, merged, out) for cell, name in zip(merged.cells, names, strict=True)
    )


def href_of(file: Path, out: Path) -> str:
    """A link from a page in `out`, empty where it would climb above the folder that holds `out`.

    It would name this machine's folders, and lead nowhere once the report is published.
    """
    home = out.resolve().parent
    return quote(os.path.relpath(file, out.resolve())) if file.is_relative_to(home) else ""


def _view(cell: EndedCell, anchor: str, merged: Merged, out: Path) -> CellView:
    source = merged.sources[cell.source]
    root, log_path = source.path.resolve(), cell.text("log_path")
    files = CellFiles((root / log_path).parent) if log_path else None
    log, about = _log(file_of(root, files.log) if files else None, bool(log_path))
    facts = [("Folder", source.name)] if len(merged.sources) > 1 else []
    facts += _row(cell)
    if files:
        facts += _settings(_json(root, files.spec)) + _environment(_json(root, files.env))
    called = (f"{cell.model} + {cell.optimizer}", cell.device)
    return CellView(
        anchor=anchor,
        title=f"{', '.join(filter(None, called))}, seed {cell.seed}: {cell.status}",
        facts=tuple(_fitting(facts)),
        log=log,
        about_log=about,
        files=tuple(_files(files, root, out)) if files else (),
    )


def _fitting(facts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Those that are known; the last ones shorter, if all together take too much."""
    room = MOST_FACTS
    for term, text in facts:
        if text:
            shown = shortened(one_line(text), max(len(CUT.encode()), min(MOST_FACT, room)))
            room -= _size(shown)
            yield term, shown


def one_line(text: str) -> str:
    return " ".join(text.split())


def shortened(text: str, limit: int) -> str:
    """The beginning of a text that takes at most `limit` bytes as HTML."""
    text = CONTROL.sub("\ufffd", text)
    if _size(text) <= limit:
        return text
    text = text[:limit]
    while text and _size(text) > limit - len(CUT.encode()):
        text = text[: min(len(text) - 1, len(text) * limit // _size(text))]
    return text + CUT


def _size(text: str) -> int:
    return len(html.escape(text).encode("utf-8", "replace"))


def _row(cell: EndedCell) -> list[tuple[str, str]]:
    """What runs.csv has of it."""
    if cell.row is None:
        return [("Run", f"{cell.run_id}, not run yet")]
    attempt, host = cell.text("attempt"), cell.text("host_id")
    started = cell.text("started_at") or NOT_AVAILABLE
    stage = cell.text("stage")
    why = cell.text("reason") + (f" (stage {stage})" if stage else "")
    phases = [
        f"{phase} {write(value, of_measure)}"
        for phase in ("startup", *PHASES, "teardown", "unaccounted", "wall")
        if (value := cell.number(f"{phase}_time_s")) is not None
    ]
    own = {name: cell.setup.columns[name] for name in cell.setup.declared}
    figures = [
        f"{column.heading} {column.write(value)}"
        for name, column in {**SHOWN, **own}.items()
        if not name.endswith("_time_s") and (value := cell.number(name)) is not None
    ]
    return [
        ("Run", f"{cell.run_id}, attempt {attempt} on host {host}, started {started}"),
        ("Reason", shortened(one_line(why), MOST_REASON)),
        ("Disturbed by", shortened(one_line(cell.text(REASONS)), MOST_REASON)),
        ("Phases (s)", ", ".join(phases)),
        ("Times of steps", cell.text(SOURCE)),
        ("Figures", "; ".join(figures)),
    ]


def _json(root: Path, path: Path) -> dict[str, Any] | None:
    """What a JSON file holds; None if it is not there, too long, or no JSON object."""
    file = file_of(root, path)
    if file is None:
        return None
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_JSON + 1)
        found = json.loads(content) if len(content) <= MOST_JSON else None
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _settings(spec: dict[str, Any] | None) -> list[tuple[str, str]]:
    if spec is None:
        return [("Configuration", "spec.json is not there, or cannot be read.")]
    parts = ("program", "model", "optimizer", "train", "eval", "corpus")
    found = {part: spec[part] for part in parts if part in spec}
    if isinstance(program := found.get("program"), dict):  # most of what it may have is empty
        found["program"] = {key: value for key, value in program.items() if value not in NOTHING}
    return [(f"Configuration: {part}", flat(value)) for part, value in found.items()]


def _environment(env: dict[str, Any] | None) -> list[tuple[str, str]]:
    if env is None:
        return [("Environment", "env.json is not there, or cannot be read.")]
    return [("Environment", flat({name: env[name] for name in ENVIRONMENT if name in env}))]


def flat(value: Any, depth: int = DEPTH) -> str:
    """JSON on one line, for readers: "n_embd 64, n_layer 4"; what is nested deeper is left out."""
    if isinstance(value, dict | list) and not depth:
        return CUT
    if isinstance(value, dict):
        inner = ((name, item, flat(item, depth - 1)) for name, item in value.items())
        return ", ".join(
            f"{name} ({text})" if isinstance(item, dict) else f"{name} {text}"
            for name, item, text in inner
        )
    if isinstance(value, list):
        return " ".join(flat(item, depth - 1) for item in value) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def _log(file: Path | None, is_named: bool) -> tuple[str, str]:
    """The last lines of a log, and what a reader must know about them."""
    if file is None:
        return "", "The log is not there." if is_named else "There is no log."
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL))
            text = stream.read(TAIL).decode("utf-8", "replace")
    except OSError:
        return "", "The log cannot be read."
    lines = [CONTROL.sub("\ufffd", line) for line in re.split(r"\r\n|\r|\n", text.rstrip())]
    if size > TAIL:
        lines = lines[1:] or lines  # the first of them is a part of one
    kept = _last(lines)
    if not any(kept):
        return "", "The log is empty."
    whole = size <= TAIL and kept == lines
    return "\n".join(kept), "" if whole else "The end of it; earlier lines are left out."


def _last(lines: Sequence[str]) -> list[str]:
    """As many of the last lines as fit; of a longer one its beginning."""
    kept: list[str] = []
    room = MOST_LOG
    for line in reversed(lines[-LOG_LINES:]):
        shown = shortened(line, MOST_LOG // 4)
        room -= _size(shown) + 1
        if room < 0:
            break
        kept.insert(0, shown)
    return kept


def _files(files: CellFiles, root: Path, out: Path) -> Iterator[Field]:
    """Links to those that are there and that the page may link to.

    Its curve is in curves.csv; a folder as it is published holds it nowhere else.
    """
    for path in (files.log, files.spec, files.result, files.env, files.steps, files.samples):
        file = file_of(root, path)
        if file is not None and (href := href_of(file, out)):
            yield Field(path.name, href=href)
