"""Versions on one machine, cell beside cell: what drifts falls on all alike."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.border.atomic import write_atomically
from bench.border.turns import SLICE_S
from bench.compare.pinned import pinned
from bench.compare.sides import Side, check_same, prepared
from bench.compare.turns import GOES_ON, Call, Turns, in_order
from bench.errors import RequestError, StoppedError, VersionError
from bench.launch.container import ContainerLauncher
from bench.launch.job import Launcher, Stop
from bench.matrix.expansion import Matrix, load_matrix
from bench.matrix.selection import axis_values
from bench.measure.gpus import Gpu
from bench.measure.machine import this_machine, this_room
from bench.records.cells import Cell
from bench.records.endings import by_circumstances, ending
from bench.records.rows import Row, read_runs
from bench.run.gpus import GpuRequest
from bench.run.lanes import gpus_each
from bench.run.progress import duration, name
from bench.run.signals import heard
from bench.run.standing import skip_reason

Say = Callable[[str], None]
IN_TURN = f"cells on CPUs train in turn, {SLICE_S:g} s each time"


@dataclass(frozen=True)
class Request:
    """What `ab` was asked, besides the versions."""

    matrix: Path
    out: Path | None
    n_pairs: int | None  # every arm with the seeds 1 to n; None: the matrix's own cells
    launcher: Launcher
    worker_python: str | None
    gpus: GpuRequest


def run_pairs(base: str, head: str, request: Request, say: Say) -> Path:
    """Run every cell of a matrix on both sides, pair by pair; the folder with base/ and head/.

    Raises:
        BenchError: for a wrong request.
        VersionError: for a version that cannot run its cells at all.
        StoppedError: by Ctrl-C or SIGTERM.
    """
    with side_by_side("ab", prepared(base, head, request.launcher), request, say) as beside:
        beside.run(beside.folder, say)
    return beside.folder


@dataclass(frozen=True)
class SideBySide:
    """A matrix and the sides that run it, ready to."""

    folder: Path
    matrix_file: Path
    cells: Sequence[Cell]
    sides: Sequence[Side]  # the first one is the one that others are held against
    request: Request
    turns: Turns
    naming: Set[str]  # the sides that must be told their GPUs, or might pass over one
    in_turn: bool  # whether cells that can train in turn with those of the other sides do
    whole: set[str] = field(default_factory=set)  # the sides that did not, as was told

    def run(self, into: Path, say: Say, begin: int = 0) -> None:
        """Bring every cell of every side to its row, in a results folder of `into` for each side.

        begin: how many cells of each arm ran before these.
        """
        begun, total = time.monotonic(), len(self.cells)
        for count, (cell, order) in enumerate(
            in_order(self.cells, len(self.sides), begin), start=1
        ):
            rows = self._cell(cell, [self.sides[number] for number in order], into)
            left_s = (time.monotonic() - begun) / count * (total - count)
            left = f"   [{duration(left_s)} left]" if count < total else ""
            told = ", ".join(f"{side.name} {_told(rows[side.name])}" for side in self.sides)
            say(f"{count}/{total} {name(cell)}: {told}{left}")
            if self.in_turn and cell.spec.can_take_turns and len(rows) > 1:
                self._tell_whole(rows, say)

    def _cell(self, cell: Cell, sides: Sequence[Side], into: Path) -> dict[str, Row]:
        """Bring one cell of each side to its row; a cell that has one is passed over."""
        asked = [Call(side, self._command(side, cell, into)) for side in sides]
        if self.in_turn and cell.spec.can_take_turns:
            ended = self.turns.run_in_turn(asked)
        else:
            ended = [self.turns.run(one.side, *one.arguments) for one in asked]
        rows = {}
        for side, (code, said) in zip(sides, ended, strict=True):
            row = _ended(cell, into / side.name)
            if row is None:
                raise VersionError(
                    f"{side.name} ({side.asked}) could not run {name(cell)}: `run` ended with exit "
                    f"code {code}. Is the version too old for this matrix or these options? Its "
                    f"last lines:\n{_tail(said)}"
                )
            rows[side.name] = row
        return rows

    def _command(self, side: Side, cell: Cell, into: Path) -> tuple[str, ...]:
        chosen = [f"--only={key}={value}" for key, value in axis_values(cell).items()]
        python = self.request.worker_python
        return (
            *("run", str(self.matrix_file), "--out", str(into / side.name), *chosen),
            *("--runtime", self.request.launcher.runtime),
            *(["--worker-python", str(Path(python).absolute())] if python else []),
            *(["--gpus", self.turns.uuids] if side.name in self.naming else []),
        )

    def _tell_whole(self, rows: Mapping[str, Row], say: Say) -> None:
        """Once of each side whose cells ran whole although they were to train in turn."""
        for side, row in rows.items():
            if row["status"] == "ok" and not row.get("wait_time_s") and side not in self.whole:
                self.whole.add(side)
                say(f"{side}: its cells ran whole; it is older than training in turn")

    def is_done(self, into: Path) -> bool:
        """Whether every cell of every side has its row."""
        return all(_ended(cell, into / side.name) for side in self.sides for cell in self.cells)


@contextmanager
def side_by_side(
    kind: str, versions: AbstractContextManager[Sequence[Side]], request: Request, say: Say
) -> Iterator[SideBySide]:
    """Sides with their images, beside a matrix that all can read, in a folder of their own.

    kind: how the folder is called, where none is asked for.
    """
    text = pinned(request.matrix, request.n_pairs)
    turns = Turns(same_gpus(request, say))
    with heard(turns.pass_on), versions as sides:
        folder = (request.out or _default_folder(kind, text, sides)).absolute()
        check_same(folder, sides)
        matrix_file = folder / "matrix.yaml"
        write_atomically(matrix_file, text)
        matrix = load_matrix(matrix_file)
        for side in sides:
            say(f"{side.name}: {side.asked} ({side.identity})")
            _prepare_images(side, matrix, matrix_file, request, turns)
        naming = {side.name for side in sides if turns.gpus and _knows_gpus(side, turns)}
        why_whole = _why_whole(matrix.cells, sides)
        say(f"cells run one after the other: {why_whole}" if why_whole else IN_TURN)
        in_turn = not why_whole
        yield SideBySide(folder, matrix_file, matrix.cells, sides, request, turns, naming, in_turn)


def _why_whole(cells: Sequence[Cell], sides: Sequence[Side]) -> str:
    """Why no cell trains in turn with those of the other sides; empty: those that can do."""
    if not any(cell.spec.can_take_turns for cell in cells):
        return "a program and a GPU take no turns"
    needed = len(sides) * max(cell.limits.memory_gib for cell in cells)
    free = this_room().free_gib
    if needed <= free:
        return ""
    return (
        f"to train in turn, {len(sides)} of them need {needed:g} GiB at once "
        f"(limits.memory_gib), and {free:.1f} are free"
    )


def same_gpus(request: Request, say: Say) -> tuple[Gpu, ...]:
    """Those of every cuda cell: all sides have the same. Empty: they have none.

    Raises:
        RequestError: where somebody computes on those that could be had.
        StoppedError: by Ctrl-C or SIGTERM, while one is waited for.
    """
    cells, stop = load_matrix(request.matrix).cells, Stop()
    before = request.gpus.on(this_machine())
    with heard(lambda number: stop.set("stopped", by_user=True)):
        machine = request.gpus.free_on(before, cells, 1, say, stop)
    if stop.is_set:
        raise StoppedError(GOES_ON)
    each = gpus_each(cells)
    if not before.gpus.groups(each):
        return ()
    if not machine.gpus.groups(each):
        raise RequestError(f"{next(filter(None, (skip_reason(cell, machine) for cell in cells)))}.")
    return machine.gpus.groups(each)[0]


def _knows_gpus(side: Side, turns: Turns) -> bool:
    """Whether its `run` passes over a GPU that somebody computes on, unless it is named."""
    return "--gpus" in turns.run(side, "run", "--help")[1]


def _default_folder(kind: str, text: str, sides: Sequence[Side]) -> Path:
    """One for these versions and this matrix, so that the same request finds its own again."""
    asked = "\0".join([text, *(side.identity for side in sides)])
    return Path("results") / f"{kind}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"


def _prepare_images(side: Side, matrix: Matrix, file: Path, request: Request, turns: Turns) -> None:
    """The image that a revision's own Dockerfile makes, built unless it is there."""
    if side.image or not isinstance(request.launcher, ContainerLauncher):
        return
    machine, cells = this_machine(), matrix.cells
    asks = matrix.requirements or matrix.image  # older versions know neither
    required = ("--matrix", str(file)) if asks else ()
    for device in sorted({cell.spec.device for cell in cells if not skip_reason(cell, machine)}):
        runtime = request.launcher.runtime
        code, said = turns.run(side, "image", device, "--runtime", runtime, *required)
        if code != 0:
            raise VersionError(
                f"{side.asked}: the image for {device} cells could not be built. The last lines "
                f"of `python -m bench image {device}` there:\n{_tail(said)}"
            )


def _ended(cell: Cell, results: Path) -> Row | None:
    """How a cell ended, found by its names: another version may make other identities.

    None: it has not, or was interrupted.
    """
    wanted = axis_values(cell)
    rows = read_runs(results / "runs.csv")
    mine = [row for row in rows if all(row[key] == wanted[key] for key in wanted)]
    groups = by_circumstances(mine)
    row = ending(groups[-1]) if groups else None
    return None if row is None or row["status"] == "interrupted" else row


def _tail(said: str) -> str:
    return "\n".join(f"  {line}" for line in said.strip().splitlines()[-8:])


def _told(row: Row) -> str:
    if row["status"] != "ok":
        return row["status"]
    step_ms = row["step_time_ms_p50"]
    return f"{float(step_ms):.2f} ms a step" if step_ms else "ok"
