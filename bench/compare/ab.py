"""Two versions on one machine, cell beside cell: what drifts falls on both alike."""

import hashlib
import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.border.atomic import write_atomically
from bench.compare.sides import Side, check_same, prepared
from bench.errors import RequestError, StoppedError, VersionError
from bench.launch.container import ContainerLauncher
from bench.launch.job import Launcher, Stop
from bench.matrix.expansion import Matrix, load_matrix
from bench.matrix.forms import AXES
from bench.matrix.scalars import TEXT
from bench.matrix.schema import PROGRAM
from bench.matrix.selection import axis_values
from bench.matrix.yamlfile import read_yaml
from bench.measure.gpus import Gpu
from bench.measure.machine import this_machine
from bench.measure.visible import VARIABLE
from bench.records.cells import Cell
from bench.records.corpora import BUILT_IN, DEFAULT_FILE
from bench.records.endings import by_circumstances, ending
from bench.records.rows import Row, read_runs
from bench.run.gpus import GpuRequest
from bench.run.lanes import gpus_each
from bench.run.progress import duration, name
from bench.run.signals import heard
from bench.run.standing import skip_reason

Say = Callable[[str], None]
MOST_PAIRS = 10_000
STOPPED = 130
LISTEN_S = 1.0
GOES_ON = "interrupted; the same command goes on where it stopped."


@dataclass
class Turns:
    """Runs one command at a time, and passes a signal on to it."""

    gpus: tuple[Gpu, ...] = ()  # of each cuda cell of both sides
    child: subprocess.Popen[str] | None = None
    stopped_by: int | None = None  # the signal

    @property
    def uuids(self) -> str:
        return ",".join(gpu.uuid for gpu in self.gpus)

    def run(self, side: Side, *arguments: str) -> tuple[int, str]:
        """(exit code, what it printed) of one of a side's commands."""
        if self.stopped_by:
            raise StoppedError(GOES_ON)
        with subprocess.Popen(
            side.command(*arguments),
            cwd=side.root,
            env=side.environment() | ({VARIABLE: self.uuids} if self.gpus else {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # it hears of Ctrl-C once, from us
        ) as self.child:
            said = self._listen(self.child)
            code = self.child.returncode
        if self.stopped_by or code == STOPPED:
            raise StoppedError(GOES_ON)
        return code, said

    def _listen(self, child: subprocess.Popen[str]) -> str:
        """What it prints until it ends.

        Python hears of a signal that comes just before a blocking wait only after it; so does the
        child. A second one does no harm.
        """
        while True:
            try:
                return child.communicate(timeout=LISTEN_S)[0]
            except subprocess.TimeoutExpired:
                if self.stopped_by:
                    child.send_signal(self.stopped_by)

    def pass_on(self, number: int) -> None:
        self.stopped_by = number
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(number)


@dataclass(frozen=True)
class Request:
    """What `ab` was asked, besides the two versions."""

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
    text = pinned(request.matrix, request.n_pairs)
    turns = Turns(same_gpus(request, say))
    with heard(turns.pass_on), prepared(base, head, request.launcher) as sides:
        folder = (request.out or _default_folder(text, sides)).absolute()
        check_same(folder, sides)
        matrix_file = folder / "matrix.yaml"
        write_atomically(matrix_file, text)
        matrix = load_matrix(matrix_file)
        for side in sides:
            say(f"{side.name}: {side.asked} ({side.identity})")
            _prepare_images(side, matrix, matrix_file, request, turns)
        naming = {side.name for side in sides if turns.gpus and _knows_gpus(side, turns)}
        _run_all(matrix.cells, sides, _Runs(folder, matrix_file, request, turns, naming), say)
    return folder


def same_gpus(request: Request, say: Say) -> tuple[Gpu, ...]:
    """Those of every cuda cell: both sides have the same. Empty: they have none.

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


def pinned(matrix: Path, n_pairs: int | None) -> str:
    """A matrix as YAML that means the same wherever it is read: both sides read it elsewhere.

    Raises:
        MatrixError: with every mistake in it, or if the corpus cannot be used.
        RequestError: for a number of pairs that cannot be.
    """
    asked = load_matrix(matrix)
    content: dict[str, Any] = read_yaml(matrix).data
    if PROGRAM in content:
        _pin_program(content[PROGRAM], asked.folder)
    else:
        content["data"] = {**(content.get("data") or {}), "corpus": _pinned_corpus(asked)}
    for section in ("tune", "claim"):  # two versions are compared, on the matrix's own cells
        content.pop(section, None)
    for key in ("models", "optimizers"):
        for variant in (content.get(key) or {}).values():
            if "path" in variant and PROGRAM not in content:
                variant["path"] = _absolute(asked.folder, variant["path"])
    if n_pairs is not None:
        if not 1 <= n_pairs <= MOST_PAIRS:
            raise RequestError(f"--pairs {n_pairs}: give a number from 1 to {MOST_PAIRS:,}.")
        content |= _with_seeds(asked, content.get("exclude") or [], n_pairs)
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _pin_program(program: dict[str, Any], folder: Path) -> None:
    program["path"] = _absolute(folder, program["path"])
    data = program.get("data") or {}
    program["data"] = {name: _absolute(folder, path) for name, path in data.items()}


def _pinned_corpus(asked: Matrix) -> str:
    if asked.corpus is None:
        return str(Path(DEFAULT_FILE).absolute()) if Path(DEFAULT_FILE).is_file() else "pydoc"
    if asked.corpus in BUILT_IN:
        return asked.corpus
    asked.find_corpus()  # or it is told here, before an image is built
    return _absolute(asked.folder, asked.corpus)


def _absolute(folder: Path, asked: str) -> str:
    return str((folder / os.path.expanduser(asked)).absolute())


class _Dumper(yaml.SafeDumper):
    """Text in quotes: whichever version reads it, 1e3 and 08 of a name stay text."""


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar(TEXT, text, style='"'))


def _with_seeds(
    asked: Matrix, exclude: Sequence[Mapping[str, Any]], n_pairs: int
) -> dict[str, Any]:
    """The sections that say which cells there are: all arms of a matrix, with the seeds 1 to n.

    An arm that `include` gives a single seed is one of them. What `exclude` says of single seeds
    holds for those that are still there.

    Raises:
        RequestError: if it leaves no cell.
    """
    named: dict[str, tuple[str, str, str]] = {}  # the first name of an arm that has two
    for cell in asked.cells:
        if not cell.tried:
            named.setdefault(cell.spec.arm_id, cell.place[:3])
    arms, seeds = list(named.values()), range(1, n_pairs + 1)
    at_seeds = [
        rule
        for rule in exclude
        if rule.get("seed") in seeds and any(_matches(rule, arm) for arm in arms)
    ]
    cells = itertools.product(arms, seeds)
    if all(any(_matches(rule, (*arm, seed)) for rule in at_seeds) for arm, seed in cells):
        raise RequestError(
            f"--pairs {n_pairs}: the matrix excludes every cell of these seeds. Give more pairs."
        )
    axes = [list(dict.fromkeys(names)) for names in zip(*arms, strict=True)]
    others = [arm for arm in itertools.product(*axes) if arm not in arms]
    return {
        "matrix": dict(zip(AXES, (*axes, list(seeds)), strict=True)),
        "exclude": [dict(zip(AXES[:3], arm, strict=True)) for arm in others] + at_seeds,
        "include": [],
    }


def _matches(rule: Mapping[str, Any], names: Sequence[object]) -> bool:
    """Whether a rule of `exclude` is about a cell or, without its seed, about cells of an arm."""
    given = dict(zip(AXES, names, strict=False))
    return all(rule.get(axis) in (None, name) for axis, name in given.items())


def _default_folder(text: str, sides: Sequence[Side]) -> Path:
    """One for each pair of versions and matrix, so that the same request finds its own again."""
    asked = "\0".join([text, *(side.identity for side in sides)])
    return Path("results") / f"ab-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"


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


def in_turn(cells: Sequence[Cell]) -> Iterator[tuple[Cell, bool]]:
    """Each cell, and whether HEAD is first: in turn within each arm, and from arm to arm.

    Whoever runs second may find caches warm and a processor hot.
    """
    head_first: dict[str, bool] = {}  # by arm, in its latest cell
    for cell in cells:
        arm = cell.spec.arm_id
        before = head_first.get(arm, len(head_first) % 2 == 0)
        head_first[arm] = not before
        yield cell, head_first[arm]


@dataclass(frozen=True)
class _Runs:
    """Where and how single cells run."""

    folder: Path
    matrix: Path
    request: Request
    turns: Turns
    naming: Set[str]  # the sides that must be told their GPUs, or might pass over one

    def cell(self, side: Side, cell: Cell) -> Row:
        """Bring one cell of one side to its row; a cell that has one is passed over."""
        chosen = [f"--only={key}={value}" for key, value in axis_values(cell).items()]
        python = self.request.worker_python
        code, said = self.turns.run(
            side,
            *("run", str(self.matrix), "--out", str(self.folder / side.name), *chosen),
            *("--runtime", self.request.launcher.runtime),
            *(["--worker-python", str(Path(python).absolute())] if python else []),
            *(["--gpus", self.turns.uuids] if side.name in self.naming else []),
        )
        row = _row_of(cell, self.folder / side.name)
        if row is None or row["status"] == "interrupted":
            raise VersionError(
                f"{side.name} ({side.asked}) could not run {name(cell)}: `run` ended with "
                f"exit code {code}. Is the version too old for this matrix or these options? Its "
                "last lines:\n"
                f"{_tail(said)}"
            )
        return row


def _row_of(cell: Cell, results: Path) -> Row | None:
    """How a cell ended, found by its names: another version may make other identities."""
    wanted = axis_values(cell)
    rows = read_runs(results / "runs.csv")
    mine = [row for row in rows if all(row[key] == wanted[key] for key in wanted)]
    groups = by_circumstances(mine)
    return ending(groups[-1]) if groups else None


def _tail(said: str) -> str:
    return "\n".join(f"  {line}" for line in said.strip().splitlines()[-8:])


def _run_all(cells: Sequence[Cell], sides: Sequence[Side], runs: _Runs, say: Say) -> None:
    begun = time.monotonic()
    for count, (cell, head_first) in enumerate(in_turn(cells), start=1):
        order = reversed(sides) if head_first else sides
        rows = {side.name: runs.cell(side, cell) for side in order}
        left_s = (time.monotonic() - begun) / count * (len(cells) - count)
        left = f"   [{duration(left_s)} left]" if count < len(cells) else ""
        told = ", ".join(f"{side.name} {_told(rows[side.name])}" for side in sides)
        say(f"{count}/{len(cells)} {name(cell)}: {told}{left}")


def _told(row: Row) -> str:
    if row["status"] != "ok":
        return row["status"]
    step_ms = row["step_time_ms_p50"]
    return f"{float(step_ms):.2f} ms a step" if step_ms else "ok"
