"""What `plan` prints: every cell, its limits, its state, and what it is expected to take."""

from collections.abc import Collection, Iterable, Iterator

from bench.matrix.expansion import Matrix
from bench.measure.machine import Machine
from bench.records.cells import Cell
from bench.records.rows import Row
from bench.records.tokenfiles import AnyCorpus
from bench.run.estimate import Estimate, estimate_arms
from bench.run.progress import duration
from bench.run.standing import skip_reason
from bench.statistics.text import aligned, counted

HEADER = ("run_id", "model", "optimizer", "device", "seed", "state", "time", "memory")


def describe(
    matrix: Matrix,
    corpus: AnyCorpus | None,
    rows: Iterable[Row],
    selected: Collection[str],
    done: Collection[str],
    machine: Machine,
) -> Iterator[str]:
    """The plan, line by line. `selected` and `done` are run_ids."""
    cells = matrix.cells
    if corpus is None:
        yield f"program  {program_line(matrix)}"
    else:
        yield f"corpus   {corpus.chosen}: {corpus.size}"
    limits = cells[0].limits
    cpus, timeout = counted(limits.cpus or 1, "CPU"), duration(limits.timeout_s)
    yield f"limits   {cpus}, {limits.memory_gib:g} GiB, {timeout} for each cell"
    gpus = machine.gpus
    if any(cell.spec.device == "cuda" for cell in cells) and (gpus.left_out or gpus.reason):
        yield f"GPUs     {len(gpus.gpus)}; {gpus.left_out or gpus.reason}"
    yield ""
    estimates = estimate_arms((cell.spec for cell in cells), corpus, rows)
    table: list[tuple[str, ...]] = [HEADER]
    open_s, unknown = 0.0, 0
    will_run = ("open", "after the trials")
    for cell in cells:
        state = _state(cell, selected, done, machine)
        expected = estimates[cell.spec.arm_id]
        if state in will_run:
            open_s += expected.wall_s or 0.0
            unknown += expected.wall_s is None
        table.append(_line(cell, state, expected))
    yield from aligned(table, left=range(HEADER.index("time")))
    yield ""
    count = len([run_id for run_id in done if run_id in selected])
    yield f"{len(cells)} cells, {len(selected)} selected, {count} of them done"
    unestimated = f", and {counted(unknown, 'cell')} without an estimate" if unknown else ""
    yield f"open cells, one after the other: {duration(open_s)}{unestimated}"
    yield "~ is computed, to within a factor of 3 or so; other figures were measured here"


def program_line(matrix: Matrix) -> str:
    """Which program, and what it is given: "nanoGPT, 7 files; data/tiny, 2 files, 2.1 MiB"."""
    program = [f"{code.name}, {counted(len(code.files), 'file')}" for code in matrix.codes]
    data = [
        f"data/{name}, {counted(len(each.files), 'file')}, {each.n_bytes / 2**20:,.1f} MiB"
        for name, each in matrix.data.items()
    ]
    return "; ".join([*program, *data])


def _state(cell: Cell, selected: Collection[str], done: Collection[str], machine: Machine) -> str:
    if cell.spec.run_id not in selected:
        return "not selected"
    if cell.waits:
        return "after the trials"
    if skip_reason(cell, machine):
        return f"{'too few GPUs' if machine.gpus.gpus else 'no GPU'}: will be skipped"
    return "done" if cell.spec.run_id in done else "open"


def _line(cell: Cell, state: str, expected: Estimate) -> tuple[str, ...]:
    spec, about = cell.spec, "~" if expected.basis == "rough" else ""
    time = about + duration(expected.wall_s)
    memory = f"{about}{expected.memory_mib:,.0f} MiB" if expected.memory_mib else "n/a"
    names = (spec.run_id, spec.model.name, spec.optimizer.name, spec.device, str(spec.seed))
    return (*names, state, time, memory)
