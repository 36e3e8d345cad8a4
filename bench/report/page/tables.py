"""The tables of a section, and those of the whole report."""

from collections.abc import Callable, Sequence
from operator import itemgetter

from bench.merge import curves, same_network
from bench.merge.arms import Arm
from bench.merge.coverage import sentence
from bench.merge.curves import Cost, at_equal_cost
from bench.merge.disturbed import MARK, REASONS, full_note, is_disturbed
from bench.merge.merging import EndedCell, Merged
from bench.merge.sections import Section
from bench.merge.source import Source
from bench.records.columns import SHOWN, TIMINGS
from bench.records.kinds import Column
from bench.records.programs import OURS
from bench.report.machines import is_of_machines
from bench.report.page.content import Columns, Field, Heading, Table, number, table
from bench.report.titles import short
from bench.report.words import metric_words, times_words
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
    "Mean ± sample standard deviation over seeds; of repeats of a seed the earliest counts. The "
    "interval is Student's, of one configuration's mean by itself: compare configurations by the "
    "intervals of their differences, further up. n/a: unknown, or a deviation or an interval of "
    "fewer than two seeds."
)
STUDIES_NOTE = "Of what was tuned in several studies, both are over the studies' means."
COST_NOTE = (
    "Training FLOPs: tokens × FLOPs / token + steps × optimizer FLOPs / step. "
    "param_efficiency is the original's own figure, perplexity / millions of parameters: it "
    "rewards a worse perplexity. What to look at instead is the loss at equal time, tokens and "
    "FLOPs, in the table above."
)
EQUAL_NOTE = (
    "Validation loss ({unit}mean ± standard deviation over seeds) at the cost at which "
    "the cheapest of all runs ends; between two evaluations it is interpolated."
)
NO_COST = "Costs that the program does not tell of its evaluations are left out."
SOURCES_NOTE = (
    "A run with several attempts counts once. If any attempt diverged or crashed, no later one "
    "makes that good. One beyond a limit counts as ok if an attempt with a raised limit ended ok, "
    "one that the machine failed if any later attempt did."
)
NOT_OK = "Runs that are not ok"
CELLS_NOTE = f"{MARK}: something from outside disturbed this timing; the next table says what."
DISTURBED_NOTE = (
    "A percentage is a share of the training phase. Losses and memory of these runs count as "
    "those of any other."
)


def cell_columns(section: Section) -> list[str]:
    """What a section's table of cells shows, in order; of a program what it has printed."""
    test = ("test_loss_final",) if section.values("test_loss_final") else ()
    losses = ("val_loss_final", *test, "val_loss_best", "train_loss_final", "perplexity")
    times = ("train_time_s", "step_time_ms_p50", "tokens_per_s", "infer_time_ms_p50")
    found = [*losses, *times, *section.memory, "wall_time_s"]
    if not section.setup.program:
        return found
    return [name for name in (*section.setup.declared, *found) if section.values(name)]


def arm_columns(section: Section) -> list[str]:
    """What its summary shows: the main figures."""
    left_out = ("train_loss_final", "tokens_per_s", "wall_time_s")
    found = [name for name in cell_columns(section) if name not in left_out]
    return [name for name in found if not is_of_machines(section, name)]


def knows_sizes(section: Section) -> bool:
    """Whether a column of parameters has anything to say: few programs print them."""
    return not section.setup.program or bool(section.values("n_params"))


def summary_table(section: Section, claimed: str = "") -> Table:
    """One row an arm; with what is claimed of them, also where no other table shows that."""
    shown = arm_columns(section)
    if claimed not in (*shown, "") and (section.values(claimed) or claimed in section.claimed):
        shown.append(claimed)
    network = same_network.note(section.arms)
    marks = {same_network.COLUMN: f" {same_network.MARK}"} if network else {}
    of = section.setup.columns
    main, is_ours = section.main_metric, not section.setup.program
    columns: Columns[Arm] = [
        (Heading("configuration"), lambda arm: arm.label),
        (Heading("coverage"), coverage),
        (Heading("attempts"), attempts),
        *(
            [(number("parameters"), lambda arm: write(arm.constant("n_params"), of_count))]
            if knows_sizes(section)
            else []
        ),
        (
            number(f"95 % interval of {'the final loss' if is_ours else of[main].heading}"),
            lambda arm: _interval(arm, main),
        ),
        *(
            (number(_heading(section, name) + marks.get(name, "")), _spread_of(name, of[name]))
            for name in shown
        ),
    ]
    times = "" if is_ours else f"{times_words(section)}."
    studies = STUDIES_NOTE if any(arm.unit == "study" for arm in section.arms) else ""
    note = sentences(SPREAD_NOTE, studies, times, full_note(section.timing), network)
    return table("Summary by configuration", section.arms, columns, note)


def _heading(section: Section, name: str) -> str:
    return section.setup.columns[name].heading or metric_words(section.setup, name)


def _interval(arm: Arm, metric: str) -> str:
    interval = arm.spread(metric).interval
    if interval is None:
        return NOT_AVAILABLE
    return f"{write(interval.low, of_loss)} to {write(interval.high, of_loss)}"


def coverage(arm: Arm) -> str:
    """For example "2 of 3 seeds, 1 diverged, times of 1"."""
    ended = "".join(f", {count} {status}" for status, count in sorted(arm.not_ok.items()))
    timed = f", times of {arm.n_seeds_timing}" if arm.n_seeds_timing < arm.n_seeds else ""
    return f"{arm.n_seeds} of {len(arm.seeds)} seeds{ended}{timed}"


def attempts(arm: Arm) -> str:
    """For example "7: 5 ok, 2 diverged"."""
    told = ", ".join(f"{count} {status}" for status, count in arm.attempts.most_common())
    return f"{arm.attempts.total()}: {told}" if told else "0"


def _spread_of(name: str, column: Column) -> Callable[[Arm], str]:
    """A column's mean ± deviation, with an n of its own where some seeds of an arm lack it."""

    def told(arm: Arm) -> str:
        spread = arm.spread(name)
        seeds = arm.n_seeds_timing if name in TIMINGS else arm.n_seeds
        fewer = f" (n = {spread.n})" if 0 < spread.n < seeds else ""
        mark = arm.timing.mark(name) if spread.n else ""
        return write_spread(spread.mean, spread.sd, column.decimals) + mark + fewer

    return told


def cost_table(section: Section) -> Table:
    """What an arm costs, with the original's efficiency beside it."""
    sizes = ("n_params", "n_params_active", "flops_per_token", "optimizer_flops_per_step")
    passes = "passes_per_step"  # of interest where an optimizer makes more than one
    several = (
        [passes] if any(arm.spread(passes).mean not in (None, 1) for arm in section.arms) else []
    )
    columns: Columns[Arm] = [
        (Heading("configuration"), lambda arm: arm.label),
        *((number(SHOWN[name].heading), _constant(name)) for name in sizes),
        *((number(SHOWN[name].heading), _spread_of(name, SHOWN[name])) for name in several),
        (number("training FLOPs (10⁹)"), _training_flops),
        *(
            (number(SHOWN[name].heading), _spread_of(name, SHOWN[name]))
            for name in ("perplexity", "param_efficiency")
        ),
    ]
    caption = "Size, work and the original's efficiency"
    return table(caption, section.arms, columns, COST_NOTE)


def _constant(name: str) -> Callable[[Arm], str]:
    return lambda arm: SHOWN[name].write(arm.constant(name))


def _training_flops(arm: Arm) -> str:
    tokens, steps, each = arm.constant("tokens"), arm.constant("steps"), curves.flops_of(arm)
    if tokens is None or steps is None or each is None:
        return NOT_AVAILABLE
    return write((tokens * each[0] + steps * each[1]) / GIGA, of_measure)


def equal_cost_tables(section: Section) -> list[Table]:
    """The loss of every arm at the same tokens, seconds and operations; none if none is known."""
    costs: list[tuple[str, Cost, float]] = [
        ("at {} tokens", curves.tokens, 1),
        ("after {} s of training", curves.seconds, 1),
        ("after {} × 10⁹ FLOPs", curves.flops, GIGA),
    ]
    rows: list[list[str]] = [[arm.label] for arm in section.arms]
    headings = [Heading("configuration")]
    unknown = ""
    for words, cost, unit in costs:
        equal = at_equal_cost(section.arms, cost)
        if cost is curves.seconds and is_of_machines(section, "train_time_s"):
            continue
        if equal.cost is None and section.setup.program:
            unknown = NO_COST
            continue
        decimals = of_count if cost is curves.tokens else of_measure
        amount = write(None if equal.cost is None else equal.cost / unit, decimals)
        mark = MARK if cost is curves.seconds and not section.timing.clean else ""
        headings.append(number(words.format(amount + mark)))
        for row, loss in zip(rows, equal.losses, strict=True):
            row.append(write_spread(loss.mean, loss.sd, of_loss))
    if len(headings) == 1:
        return []
    columns = [(heading, itemgetter(place)) for place, heading in enumerate(headings)]
    of_loss_is = section.setup.columns["val_loss_final"].unit
    note = EQUAL_NOTE.format(unit=f"{of_loss_is}, " if of_loss_is else "")
    return [table("Loss at equal cost", rows, columns, sentences(note, unknown))]


def cells_table(section: Section, merged: Merged, link: Link) -> Table:
    """One row a cell, arm by arm."""
    shown, of = cell_columns(section), section.setup.columns
    columns: Columns[tuple[EndedCell, str]] = [
        *_names(merged),
        *(
            [(Heading("machine"), lambda each: short(each[0].text("host_id")))]
            if section.machines
            else []
        ),
        *((number(of[name].heading), _figure_of(name, of[name])) for name in shown),
        (Heading("run"), lambda each: link(each[0])),
    ]
    marked = any(is_disturbed(cell) for cell in section.cells)
    return table("Runs", _by_arm(section), columns, CELLS_NOTE if marked else "")


def _by_arm(section: Section) -> list[tuple[EndedCell, str]]:
    """Each cell with its arm's label, by arm and seed."""
    return [
        (cell, arm.label)
        for arm in section.arms
        for cell in sorted(arm.cells, key=lambda cell: cell.seed)
    ]


def _figure_of(name: str, column: Column) -> Callable[[tuple[EndedCell, str]], str]:
    def told(each: tuple[EndedCell, str]) -> str:
        value = each[0].number(name)
        disturbed = value is not None and name in TIMINGS and is_disturbed(each[0])
        return column.write(value) + (MARK if disturbed else "")

    return told


def disturbed_tables(section: Section, merged: Merged) -> list[Table]:
    """What disturbed which cells, and whether their timings count all the same; none: no table."""
    rows = [each for each in _by_arm(section) if is_disturbed(each[0])]

    def used(each: tuple[EndedCell, str]) -> str:
        timing = section.machines.get(each[0].text("host_id"), section).timing
        return f"used, marked {MARK}" if each[0].ok and timing.uses(each[0]) else "left out"

    columns: Columns[tuple[EndedCell, str]] = [
        *_names(merged),
        (Heading("in timing statistics"), used),
        (Heading("reason"), lambda each: each[0].text(REASONS) or NOT_AVAILABLE),
    ]
    return [table("Disturbed from outside", rows, columns, DISTURBED_NOTE)] if rows else []


def not_ok_table(merged: Merged, link: Link) -> Table | None:
    """Every planned cell that did not end ok, and why; None if all did."""
    rows = [(cell, "") for cell in merged.counted if not cell.ok]

    def reason(each: tuple[EndedCell, str]) -> str:
        not_run = each[0].row is None
        return each[0].text("reason") or ("not run yet" if not_run else NOT_AVAILABLE)

    columns: Columns[tuple[EndedCell, str]] = [
        *_names(merged),
        (Heading("stage"), lambda each: each[0].text("stage") or NOT_AVAILABLE),
        (Heading("reason"), reason),
        (Heading("run"), lambda each: link(each[0])),
    ]
    return table(NOT_OK, rows, columns) if rows else None


def not_ok_by_arm(merged: Merged) -> Table | None:
    """The same where there are too many cells to name: how many of each arm, with one reason."""
    groups: dict[tuple[str, ...], list[EndedCell]] = {}
    for cell in merged.counted:
        if not cell.ok:
            arm = (merged.sources[cell.source].name, cell.model, cell.optimizer, cell.device)
            stage = cell.text("stage") or NOT_AVAILABLE
            groups.setdefault((*arm, cell.status, stage), []).append(cell)
    if not groups:
        return None
    names = ("folder", "model", "optimizer", "device", "status", "stage")
    rows = [
        [*group, str(len(cells)), cells[0].text("reason") or NOT_AVAILABLE]
        for group, cells in groups.items()
    ]
    headings = [*map(Heading, names), number("runs"), Heading("reason")]
    columns = [(heading, itemgetter(place)) for place, heading in enumerate(headings)]
    return table(NOT_OK, rows, columns, "The reason is that of the first one.")


def _names(merged: Merged) -> Columns[tuple[EndedCell, str]]:
    """A cell's names and how it ended; with the digits of its arm where its label has them."""

    def optimizer(each: tuple[EndedCell, str]) -> str:
        cell, label = each
        return cell.optimizer + label.removeprefix(f"{cell.model} + {cell.optimizer}")

    folder: Columns[tuple[EndedCell, str]] = [
        (Heading("folder"), lambda each: merged.sources[each[0].source].name)
    ]
    return [
        *(folder if len(merged.sources) > 1 else ()),
        (Heading("model"), lambda each: each[0].model),
        (Heading("optimizer"), optimizer),
        (Heading("device"), lambda each: each[0].device),
        (number("seed"), lambda each: str(each[0].seed)),
        (Heading("status"), lambda each: each[0].status),
    ]


def sources_table(merged: Merged) -> Table:
    """Where the rows come from, and how many attempts they took."""
    statuses: dict[int, list[str]] = {index: [] for index in range(len(merged.sources))}
    for cell in merged.counted:
        statuses[cell.source].append(cell.status)
    columns: Columns[tuple[int, Source]] = [
        (Heading("folder"), lambda each: each[1].name),
        (Heading("matrix"), lambda each: ", ".join(each[1].matrices) or NOT_AVAILABLE),
        (Heading("coverage"), lambda each: sentence(statuses[each[0]])),
        (number("attempts"), lambda each: str(each[1].attempts)),
        (number("superseded"), lambda each: str(each[1].superseded)),
    ]
    return table("Where the rows come from", enumerate(merged.sources), columns, SOURCES_NOTE)


def definitions_table(sections: Sequence[Section] = ()) -> Table:
    """Each column of runs.csv, and what programs declare, with the heading that tables have.

    What a column means of a program alone is said where there is nothing else.
    """
    setups = [section.setup for section in sections]
    own = [OURS] if not setups or not all(setup.program for setup in setups) else []
    defined = {k: v for setup in (*setups, *own) for k, v in setup.columns.items()}
    columns: Columns[tuple[str, Column]] = [
        (Heading("column"), lambda each: each[0]),
        (Heading("shown as"), lambda each: each[1].heading),
        (Heading("meaning"), lambda each: each[1].meaning),
    ]
    return table("Definitions of the columns", defined.items(), columns)
