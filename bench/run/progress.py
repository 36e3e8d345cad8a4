"""What a person sees while cells run: bars on a terminal, plain lines elsewhere."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from bench.records.cells import Cell
from bench.records.tokenfiles import Watch
from bench.statistics.text import counted

LARGE = 256 * 2**20  # bytes that are read in less than a second or so want no bar
SIGN = {"ok": "✓", "interrupted": "…"}


def name(cell: Cell) -> str:
    spec = cell.spec
    return f"{spec.model.name} + {spec.optimizer.name}, {spec.device}, seed {spec.seed}"


def duration(seconds: float | None) -> str:
    """'42 s', '3 min 05 s', '2 h 10 min', 'n/a'."""
    if seconds is None:
        return "n/a"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def summary(row: dict[str, Any]) -> str:
    """How a cell ended, in half a line."""
    if row["status"] != "ok":
        stage = f" ({row['stage']})" if row.get("stage") else ""
        return f"{row['status']}{stage}: {' '.join(str(row['reason']).split())}"
    losses = ((split, row.get(f"{split}_loss_final")) for split in ("val", "test", "train"))
    told = [f"{split} loss {loss:.4f}" for split, loss in losses if loss is not None][:1]
    metrics = json.loads(row.get("metrics") or "{}")
    told += (f"{name} {value:.5g}" for name, value in metrics.items())
    if (train_s := row.get("train_time_s")) is not None:
        told.append(f"train {duration(train_s)}")
    if (median_ms := row.get("step_time_ms_p50")) is not None:  # none with step_timing: off
        told.append(f"step {median_ms:.2f} ms")
    return ", ".join([*told, f"wall {duration(row['wall_time_s'])}"])


@contextmanager
def reading_tokens(console: Console) -> Iterator[Watch]:
    """What shows how far large files of tokens are read: a bar on a terminal, else one line."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    tasks: list[TaskID] = []  # one, once there is something large to read
    with ExitStack() as shown:

        def watch(done: int, total: int) -> None:
            if total < LARGE:
                return
            if not tasks:
                tasks.append(bar.add_task("reading tokens", total=total))
                if console.is_terminal:
                    shown.enter_context(bar)
                else:
                    console.print(f"reading {total / 2**30:.1f} GiB of tokens")
            bar.update(tasks[0], completed=done)

        yield watch


class PlainDisplay:
    """One line when a cell ends: for logs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.total = self.count = 0

    def _tell(self, line: str) -> None:
        # A worker may say anything: its words must not command a terminal's style.
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def open(self, cells: Sequence[Cell], left_s: float | None) -> AbstractContextManager[object]:
        self.total, self.count = len(cells), 0
        expected = f", about {duration(left_s)}" if left_s else ""
        self._tell(f"runs to make: {self.total}{expected}" if cells else "no run is left to make")
        return nullcontext()

    def say(self, line: str, about: str = "GPUs") -> None:
        """Of the GPUs before `open`; of other things when they come about."""
        self._tell(f"{about}: {line}")

    def chose(self, jobs: int, why: str) -> None:
        """How many cells at once, where that was left to us; before `open`."""
        self._tell(f"jobs: {jobs} at once: {why}")

    def skipped(self, count: int, why: str) -> None:
        """So many cells cannot run here, for one reason; after `open`."""
        self._tell(f"– {counted(count, 'cell')} skipped: {why}")

    def started(self, cell: Cell) -> None:
        pass

    def event(self, cell: Cell, event: dict[str, Any]) -> None:
        pass

    def again(self, cell: Cell, row: dict[str, Any]) -> None:
        """A fault of the machine, and limits.retries allows for another attempt."""
        self._tell(f"↻ {name(cell)}: {summary(row)}; it runs once more")

    def ended(self, cell: Cell, row: dict[str, Any], left_s: float | None) -> None:
        self.count += 1
        left = f"   [{duration(left_s)} left]" if left_s else ""
        sign = SIGN.get(row["status"], "✗")
        self._tell(f"{sign} {self.count}/{self.total} {name(cell)}: {summary(row)}{left}")


class LiveDisplay(PlainDisplay):
    """The same lines above an overall bar with time left, and a bar for each running cell."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}", markup=False),  # a worker may say anything
            console=console,
            transient=True,
        )
        self.overall = self.bars.add_task("cells", detail="")
        self.running: dict[str, TaskID] = {}

    def open(self, cells: Sequence[Cell], left_s: float | None) -> AbstractContextManager[object]:
        super().open(cells, left_s)
        left = f"about {duration(left_s)} left" if left_s else ""
        self.bars.update(self.overall, total=len(cells), detail=left)
        return self.bars

    def started(self, cell: Cell) -> None:
        self.running[cell.spec.run_id] = self.bars.add_task(
            escape(name(cell)), total=cell.spec.steps, detail="starting"
        )

    def event(self, cell: Cell, event: dict[str, Any]) -> None:
        details = [str(event.get("stage", ""))]
        if "loss" in event:
            details.append(f"loss {event['loss']:.4f}")
        if "tokens_per_s" in event:
            details.append(f"{event['tokens_per_s']:,.0f} tokens/s")
        if "val_loss" in event:
            details.append(f"val {event['val_loss']:.4f}")
        task = self.running[cell.spec.run_id]
        self.bars.update(task, completed=event.get("step"), detail=", ".join(details))

    def again(self, cell: Cell, row: dict[str, Any]) -> None:
        self._remove(cell)
        super().again(cell, row)

    def _remove(self, cell: Cell) -> None:
        task = self.running.pop(cell.spec.run_id, None)
        if task is not None:  # else another cell's process made its run
            self.bars.remove_task(task)

    def ended(self, cell: Cell, row: dict[str, Any], left_s: float | None) -> None:
        self._remove(cell)
        super().ended(cell, row, None)  # the time left is beside the bar
        left = f"{duration(left_s)} left" if left_s else ""
        self.bars.update(self.overall, advance=1, detail=left)
