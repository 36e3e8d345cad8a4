"""One bundle -> what a site tells of it: when, of what, how its runs ended, its figures by arm."""

import datetime
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.border.identity import SCHEMA_VERSION
from bench.errors import BenchError, BundleError
from bench.merge.arms import Arm
from bench.merge.coverage import damage_note, sentence
from bench.merge.merging import EndedCell, Merged, merge
from bench.merge.sections import Section, failures, make_sections, tried
from bench.records.columns import TIMINGS
from bench.records.kinds import TIME, Column
from bench.records.rows import Row
from bench.report.archive import unpack
from bench.report.bundle import VERSION
from bench.report.verify import folders_of, top_of
from bench.statistics.contrast import BySeed

# Of each arm: its loss, these, and the memory that counts on its device.
TIMES = ("step_time_ms_p50", "tokens_per_s")
FIGURES = 1 + len(TIMES) + 1

Run = tuple[str, ...]  # what no two attempts share
RUN = ("run_id", "host_id", "attempt", "started_at")


@dataclass(frozen=True)
class BundleMetric:
    """One metric of one arm in one bundle."""

    name: str
    column: Column
    by_seed: BySeed
    mean: float | None  # None: no seed has a figure
    decides: bool  # False: every seed was disturbed, so that it is shown and compared with nothing


@dataclass(frozen=True)
class BundleArm:
    """One arm on one machine in one bundle."""

    series: str  # the same in all bundles whose figures may be compared
    arm_id: str
    label: str  # "model + optimizer, device"
    host_id: str
    gpu_name: str
    is_paired: bool  # whether runs of one seed are a pair
    metrics: tuple[BundleMetric, ...]  # FIGURES of them, the loss first

    @property
    def machine(self) -> tuple[str, str]:
        return self.host_id, self.gpu_name


@dataclass(frozen=True)
class BundleFacts:
    """All that a site tells of one bundle."""

    top: str  # the folder in it: NAME of results/NAME
    home: Path  # where it is unpacked
    size: int  # bytes of its files there
    first: datetime.datetime  # when its first run started, UTC
    last: datetime.datetime
    commits: tuple[str, ...]  # of the working trees that it ran from, the latest first
    dirty: bool  # whether tracked files differed from a commit
    version: str  # of the program that made it
    coverage: str  # for example "37 of 40 runs ok, 3 crashed"
    ok: int
    selected: int
    hosts: Mapping[str, str]  # host_id -> its processor
    gpus: tuple[str, ...]
    arms: tuple[BundleArm, ...]
    labels: Mapping[str, str]  # series -> label
    ends: Mapping[str, Mapping[int, str]]  # series -> seed -> how it ended
    runs: frozenset[Run]


def read_bundle(file: Path, place: Path) -> BundleFacts:
    """Unpack a bundle into `place` and read it.

    Raises:
        BundleError: with the file's name, for one that is damaged or that a newer version made.
    """
    place.mkdir(parents=True)
    try:
        found = unpack(file, place)
        if wrong := [*found.wrong, *found.damage]:
            raise BundleError(wrong[0])
        home = place / (top_of(found.sha256) or "unknown")
        folders, wrong = folders_of(home)
        if wrong or not home.is_dir():
            raise BundleError(wrong[0] if wrong else "it has no NAME/SHA256SUMS")
        merged = merge(folders)
        _check(merged)
        return _facts(merged, home)
    except BenchError as error:
        told = str(error).replace(f"{place}/", "")
        raise BundleError(
            f"{file.name} cannot be read: {told} Publish with the version of this program that "
            "made it, or take the file away."
        ) from error


def _check(merged: Merged) -> None:
    if merged.damage:
        raise BundleError(damage_note(merged.damage[0]))
    versions = {int(row.get("schema_version") or 0) for row in _rows(merged)}
    if newer := [version for version in versions if version > SCHEMA_VERSION]:
        raise BundleError(
            f"its rows have schema_version {max(newer)}, and this program reads {SCHEMA_VERSION}."
        )
    if not any(row.get("started_at") for row in _rows(merged)):
        raise BundleError("none of its rows tells when it ran (started_at), its place in time.")


def _rows(merged: Merged) -> Iterator[Row]:
    return (row for cell in merged.cells for row in cell.attempts)


def _facts(merged: Merged, home: Path) -> BundleFacts:
    rows = sorted(_rows(merged), key=lambda row: row.get("started_at", ""))
    times = [TIME.read(at) for row in rows if (at := row.get("started_at"))]
    statuses = [cell.status for cell in merged.counted]
    latest = reversed(rows)
    arms = tuple(_arms(merged))
    return BundleFacts(
        top=home.name,
        home=home,
        size=sum(path.stat().st_size for path in home.rglob("*") if path.is_file()),
        first=min(times),
        last=max(times),
        commits=tuple(dict.fromkeys(at for row in latest if (at := row.get("git_commit")))),
        dirty=any(row.get("git_dirty") == "true" for row in rows),
        version=(home / VERSION).read_text("utf-8").strip() if (home / VERSION).is_file() else "",
        coverage=sentence(statuses),
        ok=statuses.count("ok"),
        selected=len(statuses),
        hosts={row["host_id"]: row.get("host_cpu_model", "") for row in rows if row["host_id"]},
        gpus=tuple(sorted({gpu for row in rows if (gpu := row.get("gpu_name", ""))})),
        arms=arms,
        labels={series_of(cell): label_of(cell) for cell in merged.cells if cell.part != "trial"},
        ends=_ends(merged),
        runs=frozenset(tuple(row.get(name, "") for name in RUN) for row in rows),
    )


def series_of(cell: EndedCell) -> str:
    """What stays the same while the code changes: the arm_id, which is all that was asked for.

    But for the arms of a program, whose code is in it: these go by their names, as in a comparison.
    """
    if not (program := cell.setup.program):
        return cell.arm_id
    read = {key: program.get(key) for key in ("metrics", "seeds")}
    return f"{label_of(cell)} {json.dumps(read, sort_keys=True)}"


def label_of(cell: EndedCell) -> str:
    return ", ".join(filter(None, (f"{cell.model} + {cell.optimizer}", cell.device)))


def _arms(merged: Merged) -> Iterator[BundleArm]:
    """Each arm of each section, as far as it ended ok, without what later attempts replaced.

    Of a section of several machines the losses are of all, and each has times of its own.
    """
    for section in make_sections(merged):
        yield from _of_section(section)
        for here in section.machines.values():
            for arm in _of_section(here):
                loss, *others = arm.metrics
                nothing = replace(loss, by_seed={}, mean=None)
                yield replace(arm, metrics=(nothing, *others))


def _of_section(section: Section) -> Iterator[BundleArm]:
    for arm in section.arms:
        cells = [cell for cell in arm.ok if not cell.earlier]
        is_twin = arm.untuned and any(cell.twin for cell in arm.cells)  # told already
        if cells and not is_twin:
            yield _arm(section, arm, cells[0])


def _arm(section: Section, arm: Arm, cell: EndedCell) -> BundleArm:
    names = section.main_metric, *TIMES, section.memory[0]
    return BundleArm(
        series=series_of(cell),
        arm_id=arm.arm_id,
        label=label_of(cell),
        host_id=" ".join(section.timing.hosts),
        gpu_name=section.key.gpu_name,
        is_paired=section.setup.is_paired,
        metrics=tuple(_metric(section, arm, name) for name in names),
    )


def _metric(section: Section, arm: Arm, name: str) -> BundleMetric:
    spread = arm.spread(name)
    decides = section.timing.clean or name not in TIMINGS
    return BundleMetric(name, section.setup.columns[name], spread.by_seed, spread.mean, decides)


def _ends(merged: Merged) -> dict[str, dict[int, str]]:
    """A failure among its attempts is how a seed ended, whatever came later."""
    shown = [cell for cell in merged.counted if cell.part != "trial"]
    failed = failures(shown)
    found: dict[str, dict[int, str]] = {}
    for cell in shown:
        status = failed.get(tried(cell), cell.status) if cell.row else cell.status
        found.setdefault(series_of(cell), {})[cell.seed] = status
    return found
