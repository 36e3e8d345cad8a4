"""Bundles by the dozen, for the tests of the site: real rows, and a stand-in for their report."""

import hashlib
import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench import __version__
from bench.report.archive import pack
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
# What was planted: arm, column, from which bundle on, and how much.
LOSS = ("nanokimi", "truemuon"), "val_loss_final", 20, 0.03
TIME = ("nanogpt", "adamw"), "step_time_ms_p50", 33, 1.15
MEMORY = ("nanokimi", "adamw"), "host_rss_peak_mib", 41, 1.10
ELSEWHERE = (8, 9, 26)  # bundles from another machine, which is faster
REPORT = "<!doctype html><title>A report</title><p>In place of a report.</p>"


def commit(number: int) -> str:
    return hashlib.sha1(f"commit {number}".encode()).hexdigest()


def made_up(place: Path, count=50, planted=(LOSS, TIME, MEMORY), elsewhere=ELSEWHERE) -> list[Path]:
    """So many bundles, a day apart, each of another commit; the same whenever it is called."""
    return [made_up_bundle(place, number, planted, elsewhere) for number in range(count)]


def made_up_bundle(place: Path, number: int, planted=(), elsewhere=()) -> Path:
    """Losses of a seed vary by 0.005 from commit to commit, times by 2 % a bundle and 1 % a seed."""
    noise = random.Random(f"bundle {number}")
    folder = place / f"{number:02}" / "cpu"
    folder.parent.mkdir(parents=True)
    results = Results(folder)
    away = number in elsewhere
    for arm, (loss, step_ms, memory) in ARMS.items():
        slower = math.exp(noise.gauss(0, 0.02)) * (0.7 if away else 1)
        for seed in SEEDS:
            of_seed = random.Random(f"{arm} {seed}").gauss(0, 0.005)
            figures = {
                "val_loss_final": loss + of_seed + noise.gauss(0, 0.005),
                "step_time_ms_p50": step_ms * slower * math.exp(noise.gauss(0, 0.01)),
                "host_rss_peak_mib": memory * math.exp(noise.gauss(0, 0.002)),
            }
            for which, column, since, amount in planted:
                if which == arm and number >= since:
                    added = column == "val_loss_final"
                    figures[column] = figures[column] + amount if added else figures[column] * amount
            figures["train_time_s"] = figures["step_time_ms_p50"] * STEPS / 1000 * 1.02
            figures["tokens_per_s"] = TOKENS / figures["train_time_s"]
            started = BEGAN + timedelta(days=number, minutes=len(results.runs))
            where = {"host_id": "another" if away else "host1"}
            about = {"git_commit": commit(number), "git_dirty": "false", **where}
            about |= {"code_sha256": f"code{number}", "started_at": started.isoformat()}
            results.ended(results.planned(*arm, seed=seed), **figures, **about)
    return packed(results, place / f"{number:02}.tar.gz")


def packed(results: Results, file: Path) -> Path:
    """A bundle of them: all that a real one has but environment, cells and a real report."""
    results.write()
    (results.path / "matrix.yaml").write_text("name: cpu\n")
    top = results.path.name
    members = {path.name: path.read_bytes() for path in sorted(results.path.glob("*.*"))}
    members |= {"report/index.html": REPORT.encode()}
    members |= {"environment/bench-version.txt": f"{__version__}\n".encode()}
    sums = (f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members.items())
    members["SHA256SUMS"] = "".join(sums).encode()
    file.write_bytes(pack((f"{top}/{name}", data) for name, data in members.items()))
    return file
