"""Which GPUs the cells of a run get: those that were asked for, and that nobody computes on."""

import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.errors import RequestError
from bench.launch.job import Stop
from bench.measure.gpus import Gpu, Gpus, with_uuid
from bench.measure.listed import Use, who_computes
from bench.measure.machine import Machine
from bench.records.cells import Cell
from bench.run.lanes import gpus_each, make_slots
from bench.statistics.text import counted

IDLE, ALL = "idle", "all"
POLL_S = 2.0  # between two looks at GPUs that are waited for

Say = Callable[[str], None]


@dataclass(frozen=True)
class GpuRequest:
    """What --gpus and --wait-for-gpu say."""

    asked: str = IDLE  # or ALL, or numbers and UUIDs with commas
    wait: bool = False

    def on(self, machine: Machine) -> Machine:
        """The machine with the GPUs that are named, in that order; with all where none is.

        Raises:
            RequestError: with everything that is wrong with the names, and what there is.
        """
        return replace(machine, gpus=self._among(machine.gpus))

    def free_on(
        self, machine: Machine, cells: Sequence[Cell], jobs: int | None, say: Say, stop: Stop
    ) -> Machine:
        """The machine with the GPUs on which these cells may be launched now.

        `machine`: what `on` gave. If asked to, it waits until those of `jobs` cells are idle, of 1
        where that is None. Of GPUs that were named, or are all asked for, none is passed over
        because somebody computes there; waiting is then for each of them. A GPU whose processes
        NVML does not list counts as idle.

        Raises:
            RequestError: for `jobs` that this machine has no room for; it is not waited for.
        """
        each = gpus_each(cells)
        if not machine.gpus.groups(each):
            return machine
        if jobs is not None:
            make_slots(jobs, cells, machine)
        return replace(machine, gpus=self._free(machine.gpus, jobs or 1, each, say, stop))

    def _among(self, gpus: Gpus) -> Gpus:
        if self.asked in (IDLE, ALL):
            return gpus
        if not gpus.gpus:
            raise RequestError(
                f"--gpus {self.asked}: there is no GPU for it: {gpus.reason}. "
                f"{gpus.remedy[0].upper()}{gpus.remedy[1:]}."
            )
        named: list[Gpu] = []
        wrong: list[str] = []
        for entry in (entry.strip() for entry in self.asked.split(",")):
            fitting = _fitting(entry, gpus)
            if why := _why_not(entry, fitting, named, gpus):
                wrong.append(why)
            else:
                named += fitting
        if wrong:
            here = ", ".join(f"{number} {whole}" for number, whole in enumerate(gpus.every))
            raise RequestError(
                f"--gpus {self.asked}: {'; '.join(wrong)}. Here are: {here}. "
                f"Write numbers or UUIDs of these, {IDLE} or {ALL}."
            )
        return replace(gpus, gpus=tuple(named), left_out=f"--gpus {self.asked}")

    def _free(self, gpus: Gpus, jobs: int, each: int, say: Say, stop: Stop) -> Gpus:
        take_busy = self.asked != IDLE
        if self.wait:
            wanted = (len(gpus.gpus), 1) if take_busy else (jobs, each)
            _wait_for(*wanted, gpus, say, stop)
        uses = who_computes(gpus.gpus)
        for use in uses:
            if use.processes is None:
                say(f"{use.gpu}: whether somebody computes on it is not known: {use.why}")
        busy = [use for use in uses if use.users]
        if busy and take_busy:
            say(f"{_told(busy)}, and taken all the same: --gpus {self.asked}")
            return gpus
        return _without(gpus, busy, say) if busy else gpus


def _fitting(entry: str, gpus: Gpus) -> list[Gpu]:
    if not (entry.isdecimal() and entry.isascii()):
        return with_uuid(entry, gpus.every)
    return [whole.gpu for whole in gpus.every[int(entry) : int(entry) + 1]]


def _why_not(entry: str, fitting: Sequence[Gpu], named: Sequence[Gpu], gpus: Gpus) -> str:
    """What is wrong with an entry; empty if nothing is."""
    if not fitting:
        return f"there is no GPU {entry or '(empty)'}"
    if len(fitting) > 1:
        return f"the UUIDs of {len(fitting)} GPUs begin with {entry}"
    (gpu,) = fitting
    if gpu in named:
        return f"{gpu} comes twice"
    if gpu in gpus.gpus:
        return ""
    for whole in gpus.every:
        if whole.gpu == gpu and whole.instances is not None:
            return f"{gpu} is in MIG mode, and a cell gets an instance; {whole.mig_remedy}"
    return f"{entry}: {gpus.left_out}"


def _wait_for(jobs: int, each: int, gpus: Gpus, say: Say, stop: Stop) -> None:
    """Until nobody computes on those of so many cells, or `stop` is set; a line when users change.

    `each`: how many GPUs a cell gets, all of one kind.
    """
    told = ""
    while not stop.is_set:
        busy = [use for use in who_computes(gpus.gpus) if use.users]
        if len(replace(gpus, gpus=_idle(gpus, busy)).groups(each)) >= jobs:
            return
        if told != _told(busy):
            told = _told(busy)
            say(f"waiting for {counted(jobs * each, 'idle GPU')} of {len(gpus.gpus)}: {told}")
        select.select([stop], [], [], POLL_S)


def _idle(gpus: Gpus, busy: Sequence[Use]) -> tuple[Gpu, ...]:
    return tuple(gpu for gpu in gpus.gpus if gpu not in [use.gpu for use in busy])


def _told(busy: Sequence[Use]) -> str:
    return "; ".join(map(str, busy))


def _without(gpus: Gpus, busy: Sequence[Use], say: Say) -> Gpus:
    """All but the busy ones, and a line that tells who computes there.

    The reason tells no more than on which: it is part of a row, and the same in the next run.
    """
    told = _told(busy)
    say(f"passed over: {told}")
    uuids, them = ",".join(use.gpu.uuid for use in busy), "it" if len(busy) == 1 else "them"
    return replace(
        gpus,
        gpus=_idle(gpus, busy),
        reason=f"in use: {', '.join(str(use.gpu) for use in busy)}",
        remedy=f"--wait-for-gpu waits, --gpus {uuids} takes {them} all the same",
        left_out="; ".join(filter(None, (gpus.left_out, told))),
    )
