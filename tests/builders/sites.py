"""Bundles by the dozen, for the tests of the site: real rows, and a stand-in for their report."""

import hashlib
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench import __version__
from bench.records.columns import COLUMNS
from bench.report.archive import pack
from bench.report.site.facts import BundleArm, BundleFacts, BundleMetric
from tests.builders.results import Results

BEGAN = datetime(2026, 10, 10, 4, 0, tzinfo=UTC)
# Of each arm: final loss, ms a step, MiB.
ARMS = {
    ("nanogpt", "adamw"): (1.7285, 12.0, 391.0),
    ("nanogpt", "truemuon"): (1.7010, 16.5, 396.0),
    ("nanokimi", "adamw"): (1.7150, 21.0, 402.0),
    ("nanokimi", "truemuon"): (1.6756, 27.0, 407.0),
}
SEEDS = range(1, 9)
TOKENS, STEPS = 153_600, 300
LOSS, TIME, RATE, MEMORY = (
    *("val_loss_final", "step_time_ms_p50", "tokens_per_s"),
    "host_rss_peak_mib",
)
# What is planted: an arm, a column, from which bundle on, and how much more.
REGRESSIONS = (
    (("nanokimi", "truemuon"), LOSS, 20, 0.03),
    (("nanogpt", "adamw"), TIME, 33, 1.15),
    (("nanokimi", "adamw"), MEMORY, 41, 1.10),
)
ELSEWHERE = (8, 9, 26)  # bundles from another machine, which is faster
REPORT = "<!doctype html><title>A report</title><p>In place of a report.</p>"


def commit(number: int) -> str:
    return hashlib.sha1(f"commit {number}".encode()).hexdigest()


def noisy(number: int, planted=(), away=False, seeds=SEEDS) -> Iterator[tuple]:
    """(arm, seed, figures) of a bundle, the same whenever it is called.

    A seed's loss varies by 0.005 from commit to commit, times by 2 % a bundle and 1 % a seed.
    """
    noise = random.Random(f"bundle {number}")
    for arm, (loss, step_ms, memory) in ARMS.items():
        slower = math.exp(noise.gauss(0, 0.02)) * (0.7 if away else 1)
        for seed in seeds:
            of_seed = random.Random(f"{arm} {seed}").gauss(0, 0.005)
            figures = {
                LOSS: loss + of_seed + noise.gauss(0, 0.005),
                TIME: step_ms * slower * math.exp(noise.gauss(0, 0.01)),
                MEMORY: memory * math.exp(noise.gauss(0, 0.002)),
            }
            for which, column, since, amount in planted:
                if which == arm and number >= since:
                    figures[column] += amount if column == LOSS else (amount - 1) * figures[column]
            figures[RATE] = TOKENS / (figures[TIME] / 1000 * STEPS)
            yield arm, seed, figures


def results_of(folder: Path, number: int, planted=(), away=False, **fields) -> Results:
    """A results folder whose rows are of one day and commit."""
    results = Results(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for arm, seed, figures in noisy(number, planted, away):
        started = BEGAN + timedelta(days=number, minutes=len(results.runs))
        about = {"git_commit": commit(number), "git_dirty": "false"}
        about |= {"host_id": "another" if away else "host1", "code_sha256": f"code{number}"}
        about |= {"started_at": started.isoformat()}
        results.ended(results.planned(*arm, seed=seed), **figures | about | fields)
    return results


def shelve(shelf: Path, results: Results, number: int) -> Path:
    """A bundle of them in a site's folder of bundles, by the name that it has there."""
    last = datetime.fromisoformat(max(str(row["started_at"]) for row in results.runs))
    shelf.mkdir(parents=True, exist_ok=True)
    return packed(results, shelf / f"{last:%Y%m%dT%H%MZ}-{commit(number)[:7]}-cpu.tar.gz")


def packed(results: Results, file: Path) -> Path:
    """All that a real bundle has but environment, cells and a report of its figures."""
    results.write()
    (results.path / "matrix.yaml").write_text("name: cpu\n")
    return packed_folder(results.path, file)


def packed_folder(folder: Path, file: Path) -> Path:
    """The same of a results folder that is there."""
    tables = sorted(path for path in folder.glob("*.*") if path.is_file())
    members = {path.name: path.read_bytes() for path in tables}
    members["report/index.html"] = REPORT.encode()
    members["environment/bench-version.txt"] = f"{__version__}\n".encode()
    sums = (f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members.items())
    members["SHA256SUMS"] = "".join(sums).encode()
    file.write_bytes(pack((f"{folder.name}/{name}", data) for name, data in members.items()))
    return file


def made_up(out: Path, work: Path, count=50, planted=REGRESSIONS, elsewhere=ELSEWHERE) -> None:
    """Bundles of so many days in `out`, from which a site can be made."""
    for number in range(count):
        folder = work / str(number) / "cpu"
        results = results_of(folder, number, planted, number in elsewhere)
        shelve(out / "bundles", results, number)


def facts_of(number: int, figures: dict[str, dict[str, dict[int, float]]], **fields) -> BundleFacts:
    """A bundle as it is read: figures are arm -> column -> seed -> figure."""
    when = BEGAN + timedelta(days=number)
    about = {"top": "cpu", "home": Path(), "size": 0, "first": when, "last": when}
    about |= {"commits": (commit(number),), "dirty": False, "version": "1", "coverage": "all ok"}
    about |= {"ok": 1, "selected": 1, "hosts": {"host1": "A processor"}, "gpus": ()}
    about |= {"labels": {arm: arm for arm in figures}, "runs": frozenset({(str(number),)})}
    seeds = {
        arm: {seed for of in columns.values() for seed in of} for arm, columns in figures.items()
    }
    about["ends"] = {arm: dict.fromkeys(found, "ok") for arm, found in seeds.items()}
    machine = {"host_id": fields.pop("host_id", "host1"), "gpu_name": fields.pop("gpu_name", "")}
    decides = fields.pop("decides", True)
    is_paired = fields.pop("is_paired", True)
    about["arms"] = tuple(
        BundleArm(
            *(arm, arm, arm, *machine.values(), is_paired),
            tuple(
                _metric(name, columns.get(name, {}), decides or name in (LOSS, MEMORY))
                for name in (LOSS, TIME, RATE, MEMORY)
            ),
        )
        for arm, columns in figures.items()
    )
    return BundleFacts(**about | fields)


def _metric(name: str, by_seed: dict[int, float], decides: bool) -> BundleMetric:
    mean = math.fsum(by_seed.values()) / len(by_seed) if by_seed else None
    return BundleMetric(name, COLUMNS[name], by_seed, mean, decides)


def noisy_facts(number: int, planted=(), salt="", seeds=SEEDS, **fields) -> BundleFacts:
    figures: dict[str, dict[str, dict[int, float]]] = {}
    for arm, seed, found in noisy(f"{salt}{number}" if salt else number, planted, seeds=seeds):
        for column, figure in found.items():
            figures.setdefault(" + ".join(arm), {}).setdefault(column, {})[seed] = figure
    return facts_of(number, figures, **fields)
