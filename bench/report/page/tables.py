"""The tables of a section, and those of the whole report."""

from collections.abc import Callable

from bench.merge import curves, same_network
from bench.merge.coverage import sentence
from bench.merge.curves import Cost, at_equal_cost
from bench.merge.disturbed import MARK, REASONS, full_note, is_disturbed, short_note
from bench.merge.merging import EndedCell, Merged
from bench.merge.sections import Arm, Section
from bench.records.columns import COLUMNS, SHOWN, TIMINGS, memory_columns
from bench.report.page.content import Field, Heading, Table, table
from bench.statistics.spread import Spread
from bench.statistics.text import (
    NOT_AVAILABLE,
    of_count,
    of_loss,
    of_measure,
    sentences,
    write,
    write_spread,
)

Link = Callable[[EndedCell], Field]  # a cell by its run, with links to what is known of it

GIGA = 1e9  # FLOPs are shown in billions

SPREAD_NOTE = (
    "mean ± sample standard deviation over seeds; of repeats of a seed the earliest counts. The "
    "interval is Student's, of one arm's mean by itself: the claim's are those to compare by. "
    "n/a: unknown, or a deviation or an interval of fewer than two seeds."
)
COST_NOTE = (
    "Training FLOPs: tokens × FLOPs / token + steps × optimizer FLOPs / step. "
    "param_efficiency is the original's own figure, perplexity / millions of parameters: it "
    "rewards a worse perplexity. What to look at instead is the loss at equal time, tokens and "
    "FLOPs, in the table above."
)
EQUAL_NOTE = (
    "Validation loss (nats per token, mean ± standard deviation over seeds) where the cheapest "
    "seed of all arms ends; linear between evaluations."
)

CELLS_NOTE = f"{MARK}: something from outside disturbed this timing; the next table says what."
DISTURBED_NOTE = (
    "A percentage is a share of the training phase. Losses and memory of these cells count as "
    "those of any other."
)


def cell_columns(section: Section) -> list[str]:
    """What a section's table of cells shows, in order."""
    test = ("test_loss_final",) if section.values("test_loss_final") else ()
    losses = ("val_loss_final", *test, "val_loss_best", "train_loss_final", "perplexity")
    times = ("train_time_s", "step_time_ms_p50", "tokens_per_s", "infer_time_ms_p50")
    return [*losses, *times, *memory_columns(section.key.device), "wall_time_s"]


def arm_columns(section: Section) -> list[str]:
    """What its summary shows: the main figures."""
    left_out = ("train_loss_final", "tokens_per_s", "wall_time_s")
    return [name for name in cell_columns(section) if name not in left_out]


def summary_table(section: Section) -> Table:
    """One row an arm."""
    columns = arm_columns(section)
    network = same_network.note(section.arms)
    marks = {same_network.COLUMN: f" {same_network.MARK}"} if network else {}
    headings = [
        Heading("arm"),
        Heading("coverage"),
        Heading("attempts"),
        Heading("parameters", number=True),
        Heading("95 % interval of the final loss", number=True),
        *(Heading(SHOWN[name].heading + marks.get(name, ""), number=True) for name in columns),
    ]
    rows = [
        [
            arm.label,
            coverage(arm),
            attempts(arm),
            write(arm.constant("n_params"), of_count),
            _interval(arm.spread("val_loss_final")),
            *(_spread_of(arm, name) for name in columns),
        ]
        for arm in section.arms
    ]
    note = sentences(SPREAD_NOTE, full_note(section.timing), network)
    return table("Summary by arm", headings, rows, note)


def _interval(spread: Spread) -> str:
    if spread.interval is None:
        return NOT_AVAILABLE
    return f"{write(spread.interval.low, of_loss)} to {write(spread.interval.high, of_loss)}"


def coverage(arm: Arm) -> str:
    """For example "2 of 3 seeds, 1 diverged, times of 1"."""
    ended = "".join(f", {count} {status}" for status, count in sorted(arm.not_ok.items()))
    timed = f", times of {arm.n_seeds_timing}" if arm.n_seeds_timing < arm.n_seeds else ""
    return f"{arm.n_seeds} of {len(arm.seeds)} seeds{ended}{timed}"


def attempts(arm: Arm) -> str:
    """For example "7: 5 ok, 2 diverged"."""
    told = ", ".join(f"{count} {status}" for status, count in arm.attempts.most_common())
    return f"{arm.attempts.total()}: {told}" if told else "0"


def _spread_of(arm: Arm, column: str) -> str:
    spread = arm.spread(column)
    # A figure that some seeds lack has an n of its own.
    seeds = arm.n_seeds_timing if column in TIMINGS else arm.n_seeds
    fewer = f" (n = {spread.n})" if 0 < spread.n < seeds else ""
    mark = arm.timing.mark(column) if spread.n else ""
    return write_spread(spread.mean, spread.sd, SHOWN[column].decimals) + mark + fewer


def cost_table(section: Section) -> Table:
    """What an arm costs, with the original's efficiency beside it."""
    constants = ("n_params", "n_params_active", "flops_per_token", "optimizer_flops_per_step")
    figures = ("perplexity", "param_efficiency")
    headings = [
        Heading("arm"),
        *(Heading(SHOWN[name].heading, number=True) for name in constants),
        Heading("training FLOPs (10⁹)", number=True),
        *(Heading(SHOWN[name].heading, number=True) for name in figures),
    ]
    rows = [
        [
            arm.label,
            *(SHOWN[name].write(arm.constant(name)) for name in constants),
            _training_flops(arm),
            *(_spread_of(arm, name) for name in figures),
        ]
        for arm in section.arms
    ]
    return table("Size, work and the original's efficiency", headings, rows, COST_NOTE)


def _training_flops(arm: Arm) -> str:
    names = ("tokens", "flops_per_token", "steps", "optimizer_flops_per_step")
    tokens, per_token, steps, per_step = (arm.constant(name) for name in names)
    if tokens is None or per_token is None or steps is None or per_step is None:
        return NOT_AVAILABLE
    return write((tokens * per_token + steps * per_step) / GIGA, of_measure)


def equal_cost_table(section: Section) -> Table:
    """The loss of every arm at the same tokens, seconds and operations."""
    costs: list[tuple[str, Cost, float]] = [
        ("at {} tokens", curves.tokens, 1),
        ("after {} s of training", curves.seconds, 1),
        ("after {} × 10⁹ FLOPs", curves.flops, GIGA),
    ]
    headings, losses = [Heading("arm")], []
    for words, cost, unit in costs:
        equal = at_equal_cost(section.arms, cost)
        decimals = of_count if cost is curves.tokens else of_measure
        amount = write(None if equal.cost is None else equal.cost / unit, decimals)
        mark = MARK if cost is curves.seconds and not section.timing.clean else ""
        headings.append(Heading(words.format(amount + mark), number=True))
        losses.append([write_spread(loss.mean, loss.sd, of_loss) for loss in equal.losses])
    rows = [[arm.label, *at_costs] for arm, *at_costs in zip(section.arms, *losses, strict=True)]
    note = sentences(EQUAL_NOTE, short_note(section.timing))
    return table("Loss at equal cost", headings, rows, note)


def cells_table(section: Section, merged: Merged, link: Link) -> Table:
    """One row a cell, arm by arm."""
    columns = cell_columns(section)
    several = len(merged.sources) > 1
    headings = [
        *_named_headings(several),
        *(Heading(SHOWN[name].heading, number=True) for name in columns),
        Heading("cell"),
    ]
    rows: list[list[str | Field]] = []
    for arm in section.arms:
        for cell in sorted(arm.cells, key=lambda cell: cell.seed):
            figures = [_figure_of(cell, name) for name in columns]
            rows.append([*_named(cell, merged, arm.label), *figures, link(cell)])
    marked = any(is_disturbed(cell) for cell in section.cells)
    return table("Cells", headings, rows, CELLS_NOTE if marked else "")


def _figure_of(cell: EndedCell, column: str) -> str:
    value = cell.number(column)
    disturbed = value is not None and column in TIMINGS and is_disturbed(cell)
    return SHOWN[column].write(value) + (MARK if disturbed else "")


def disturbed_tables(section: Section, merged: Merged) -> list[Table]:
    """What disturbed which cells, and whether their timings count all the same; none: no table."""
    rows = [
        [
            *_named(cell, merged, arm.label),
            f"used, marked {MARK}" if cell.ok and section.timing.uses(cell) else "left out",
            cell.text(REASONS) or NOT_AVAILABLE,
        ]
        for arm in section.arms
        for cell in sorted(arm.cells, key=lambda cell: cell.seed)
        if is_disturbed(cell)
    ]
    if not rows:
        return []
    headings = [
        *_named_headings(len(merged.sources) > 1),
        Heading("in timing statistics"),
        Heading("reason"),
    ]
    return [table("Disturbed from outside", headings, rows, DISTURBED_NOTE)]


def not_ok_table(merged: Merged, link: Link) -> Table | None:
    """Every planned cell that did not end ok, and why; None if all did."""
    cells = [cell for cell in merged.counted if not cell.ok]
    if not cells:
        return None
    headings = [
        *_named_headings(len(merged.sources) > 1),
        Heading("stage"),
        Heading("reason"),
        Heading("cell"),
    ]
    rows: list[list[str | Field]] = [
        [
            *_named(cell, merged),
            cell.text("stage") or NOT_AVAILABLE,
            cell.text("reason") or ("not run yet" if cell.row is None else NOT_AVAILABLE),
            link(cell),
        ]
        for cell in cells
    ]
    return table("Cells that are not ok", headings, rows)


def not_ok_by_arm(merged: Merged) -> Table | None:
    """The same where there are too many cells to name: how many of each arm, with one reason."""
    groups: dict[tuple[str, ...], list[EndedCell]] = {}
    for cell in merged.counted:
        if not cell.ok:
            arm = (merged.sources[cell.source].name, cell.model, cell.optimizer, cell.device)
            groups.setdefault((*arm, cell.status, cell.text("stage")), []).append(cell)
    if not groups:
        return None
    headings = [
        *(Heading(name) for name in ("folder", "model", "optimizer", "device", "status", "stage")),
        Heading("cells", number=True),
        Heading("reason"),
    ]
    rows = [
        [*names, stage or NOT_AVAILABLE, str(len(cells)), _first_reason(cells)]
        for (*names, stage), cells in groups.items()
    ]
    return table("Cells that are not ok", headings, rows, "The reason is that of the first one.")


def _first_reason(cells: list[EndedCell]) -> str:
    return cells[0].text("reason") or NOT_AVAILABLE


def _named_headings(several_folders: bool) -> list[Heading]:
    folder = [Heading("folder")] if several_folders else []
    names = [Heading(name) for name in ("model", "optimizer", "device")]
    return [*folder, *names, Heading("seed", number=True), Heading("status")]


def _named(cell: EndedCell, merged: Merged, label: str = "") -> list[str]:
    """A cell's names; with the digits of its arm where its label has them."""
    folder = [merged.sources[cell.source].name] if len(merged.sources) > 1 else []
    digits = label.removeprefix(f"{cell.model} + {cell.optimizer}")
    names = [cell.model, cell.optimizer + digits, cell.device]
    return [*folder, *names, str(cell.seed), cell.status]


def sources_table(merged: Merged) -> Table:
    """Where the rows come from, and how many attempts they took."""
    headings = [
        Heading("folder"),
        Heading("matrix"),
        Heading("coverage"),
        Heading("attempts", number=True),
        Heading("superseded", number=True),
    ]
    rows = []
    for index, source in enumerate(merged.sources):
        statuses = [cell.status for cell in merged.counted if cell.source == index]
        rows.append(
            [
                source.name,
                ", ".join(source.matrices) or NOT_AVAILABLE,
                sentence(statuses),
                str(source.attempts),
                str(source.superseded),
            ]
        )
    note = (
        "A cell with several attempts counts once. One that diverged or crashed is never made good "
        "by another; one beyond a limit is by one with a raised limit, one that the machine failed "
        "by any."
    )
    return table("Where the rows come from", headings, rows, note)


def definitions_table() -> Table:
    """Each column of runs.csv, with the heading under which the tables show it."""
    headings = [Heading("column"), Heading("shown as"), Heading("meaning")]
    rows = [[name, column.heading, column.meaning] for name, column in COLUMNS.items()]
    return table("Definitions of the columns", headings, rows)
