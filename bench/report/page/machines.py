"""What a section of several machines says of each, and of all together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.merge.arms import Arm
from bench.merge.digits import digits_of
from bench.merge.sections import Section
from bench.report.family import TIME, Family
from bench.report.machines import LEAST_MACHINES, on_each, over_machines
from bench.report.page.answer import write_interval, write_mean
from bench.report.page.content import Columns, Heading, Table, number, table
from bench.report.titles import short
from bench.report.words import percent
from bench.statistics.contrast import Contrast
from bench.statistics.interval import CONFIDENCE
from bench.statistics.text import (
    NOT_AVAILABLE,
    counted,
    of_measure,
    sentences,
    write_signed,
    write_spread,
)

POOLED = (
    "These runs are of {machines}{kind}. Losses are compared over all of them; times, memory and "
    "energy on each by itself."
)
NOTE = (
    "Mean ± sample standard deviation over the seeds of one machine. Times of two machines are in "
    "no mean together, and make no pair. The change is that of geometric means over pairs on one "
    "machine."
)
OVER = (
    "Over all: each machine's mean is one value; the {level} interval is Student's, over machines, "
    "of one configuration by itself."
)
FEW = f"An interval over machines needs {LEAST_MACHINES}."


def machine_notes(section: Section) -> Iterator[str]:
    """For readers of the answer; nothing where all is of one machine."""
    if not section.machines:
        return
    kind = " of one kind" if len(section.values("host_cpu_model")) == 1 else ""
    yield POOLED.format(machines=counted(len(section.machines), "machine"), kind=kind)
    found = digits_of(section)
    if found is None:
        yield (
            "No run was made on two of them: whether they give the same digits is not known here."
        )
    elif found.equal == found.runs:
        what = counted(found.runs, "run")
        yield f"{what} ended ok on two machines or more, with the same loss to the last digit."
    else:
        yield (
            f"{counted(found.runs, 'run')} ended ok on two machines or more: {found.equal} with "
            "the same loss to the last digit; the largest difference is "
            f"{write_signed(found.largest, of_measure).lstrip('+')} nats per token."
        )


@dataclass(frozen=True)
class _OnMachine:
    """An arm on one machine, or over all."""

    arm: Arm
    machine: str
    here: Arm | None  # None: over all
    contrast: Contrast | None  # of training time, to the baseline


def machine_tables(section: Section, family: Family | None) -> list[Table]:
    """Times and memory of every arm on every machine; none where all is of one machine."""
    if not section.machines:
        return []
    baseline = section.arms[0] if family is None or family.fixed else family.baseline
    shown = [TIME, "step_time_ms_p50", *section.memory]
    lines = [line for arm in section.arms for line in _lines(section, arm, baseline)]
    of = section.setup.columns
    columns: Columns[_OnMachine] = [
        (Heading("configuration"), lambda line: line.arm.label),
        (Heading("machine"), lambda line: line.machine),
        (number("seeds"), lambda line: str(line.here.n_seeds_timing) if line.here else ""),
        *((number(of[name].heading), _spread_of(section, name)) for name in shown),
        (number(f"change of training time from {baseline.label}"), _change),
    ]
    over = OVER.format(level=percent(CONFIDENCE))
    note = sentences(NOTE, over if len(section.machines) >= LEAST_MACHINES else FEW)
    return [table("Machine by machine", lines, columns, note)]


def _lines(section: Section, arm: Arm, baseline: Arm) -> Iterator[_OnMachine]:
    others = arm.label != baseline.label
    each = on_each(section, arm, baseline, TIME, CONFIDENCE) if others else {}
    for host, here in section.machines.items():
        mine = next(there for there in here.arms if there.label == arm.label)
        yield _OnMachine(arm, _named(section, host), mine, each.get(host))
    if others and len(section.machines) >= LEAST_MACHINES:
        found = over_machines(section, arm, baseline, TIME, CONFIDENCE)
        yield _OnMachine(arm, f"over {counted(found.contrast.n, 'machine')}", None, found.contrast)


def _named(section: Section, host: str) -> str:
    """A machine; with its processor where these differ."""
    models = section.machines[host].values("host_cpu_model")
    differ = len(section.values("host_cpu_model")) > 1
    name = short(host) or NOT_AVAILABLE
    return f"{name} ({', '.join(models)})" if differ and models else name


def _spread_of(section: Section, name: str) -> Callable[[_OnMachine], str]:
    column = section.setup.columns[name]

    def told(line: _OnMachine) -> str:
        if line.here is None:
            return ""
        spread = line.here.spread(name)
        mark = line.here.timing.mark(name) if spread.n else ""
        return write_spread(spread.mean, spread.sd, column.decimals) + mark

    return told


def _change(line: _OnMachine) -> str:
    if line.contrast is None or line.contrast.mean is None:
        return ""
    told = write_mean(line.contrast, of_measure)
    if line.here is not None or line.contrast.interval is None:
        return told
    return f"{told} ({write_interval(line.contrast, of_measure)})"
