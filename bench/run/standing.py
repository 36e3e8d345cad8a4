"""Where a cell of a matrix stands: which of its rows count here, and whether it is done."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from bench.border.identity import code_sha256, program_code_sha256
from bench.launch.job import Environment
from bench.measure.gpus import kind_of
from bench.measure.machine import Machine
from bench.records.cells import Cell
from bench.records.columns import SETTLED
from bench.records.endings import by_circumstances, ending, kind_of_machine, limit_of
from bench.records.rows import Row


@dataclass(frozen=True)
class Policy:
    """Which rows count, as it was asked."""

    retry_failed: bool = False  # a cell is done by an ok row alone
    any_of_kind: bool = True  # rows of other machines count, where these compute alike
    accepted_code: frozenset[str] = frozenset()  # further code_sha256 that count as today's

    @property
    def codes(self) -> frozenset[str]:
        return self.accepted_code | {code_sha256(), program_code_sha256()}


@dataclass(frozen=True)
class Here:
    """This machine, with what its cells run in by device; a device is absent where that lacks."""

    machine: Machine
    environments: Mapping[str, Environment]
    policy: Policy
    attempts: Mapping[str, Sequence[Row]]  # run_id -> its rows, oldest first

    def row_of(self, cell: Cell) -> Row | None:
        """The row that tells how a cell stands.

        None: it is open, for no row is of this code, environment and kind of machine. A machine
        without its GPU tells how the cell ended elsewhere.
        """
        if skip_reason(cell, self.machine):
            groups = by_circumstances(self.attempts.get(cell.spec.run_id, []))
            return ending(groups[-1]) if groups else None
        return ending(self._counted(cell))

    def is_done(self, cell: Cell) -> bool:
        """Whether nothing is left to run of it."""
        if self.policy.retry_failed and not skip_reason(cell, self.machine):
            return any(row["status"] == "ok" for row in self._counted(cell))
        row = self.row_of(cell)
        return row is not None and row["status"] in SETTLED

    def _counted(self, cell: Cell) -> list[Row]:
        environment = self.environments.get(cell.spec.device)
        if environment is None:
            return []
        attempts = self.attempts.get(cell.spec.run_id, [])
        kinds = {kind_of(gpus) for gpus in self.machine.gpus.groups(cell.spec.gpus)}
        return [row for row in attempts if self._counts(row, environment, kinds)]

    def _counts(self, row: Row, environment: Environment, kinds: Set[str]) -> bool:
        return (
            row["code_sha256"] in self.policy.codes
            and row["env_id"] == environment.env_id
            and (row["device"] != "cuda" or row["gpu_name"] in kinds)
            and (row["host_id"] == self.machine.host_id or self._is_alike(row))
        )

    def _is_alike(self, row: Row) -> bool:
        """Whether a row is of another machine, whose losses are as good as this one's."""
        here = {"host_id": self.machine.host_id, "cpu_isa": self.machine.cpu_isa}
        return self.policy.any_of_kind and kind_of_machine(row) == kind_of_machine(row | here)


def limit_raised(cell: Cell, row: Row | None) -> bool:
    """Whether a cell ended by a limit that its matrix has raised since."""
    column = limit_of(row) if row else ""
    if row is None or not row.get(column):
        return False
    now: float = getattr(cell.limits, column.replace("_limit", ""))
    return now > float(row[column])


def skip_reason(cell: Cell, machine: Machine) -> str | None:
    """Why this machine cannot run a cell at all, with the remedy; None if it can."""
    each, here = cell.spec.gpus, machine.gpus
    if not each or here.groups(each):
        return None
    remedy = f"{here.remedy[0].upper()}{here.remedy[1:]}"
    on_cpu = "give the matrix device cpu and choose --only device=cpu"  # it may have cuda alone
    if not here.gpus:
        return f"no GPU here: {here.reason}. {remedy}, or {on_cpu}"
    most = max(count for count in range(1, each) if here.groups(count))
    why = f" ({here.reason or here.left_out})" if here.reason or here.left_out else ""
    if not here.reason:
        remedy = f"Run where nvidia-smi lists {each} of one kind"
    return (
        f"asks for {each} whole GPUs of one kind, and this machine has {most}{why}. {remedy}, "
        f"lower program.gpus, or {on_cpu}"
    )
