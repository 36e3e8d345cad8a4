"""Kill the runner or a worker at a random moment, resume, compare with an undisturbed run.

    python -m tests.run.chaos [--rounds N] [--runtime NAME] [--jobs N] [--seed N]

Each round has a results folder and a seed of its own, which its line names: `--rounds 1 --seed
THAT` plays it again, as far as the machine keeps the same time. Counted, and 0 in a good program:

lost     cells without an ok row or with other losses than the undisturbed run's, and committed
         rows that vanished
double   cells with two ok rows, or with two rows of one attempt
half     rows, tables and results that are not whole
untrue   rows and exit codes that do not say what happened
left     processes, containers and checkpoints still there when nothing should be

Cells keep checkpoints: some rounds go on from one, and must end with the same curve.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from bench.errors import BenchError, EngineError, RecordError
from bench.launch import container
from bench.launch.choose import RUNTIMES, choose_launcher
from bench.launch.engine import Engine
from bench.records.columns import RUN_COLUMNS
from bench.records.folder import ResultsFolder
from bench.records.rows import Row, as_line, read_table
from bench.statistics.text import counted
from tests.builders.shared import ROOT

KINDS = ("lost", "double", "half", "untrue", "left")

GONE_WITHIN_S = 20.0  # a worker has this long to notice that its runner is gone
OUTLIVES_S = 1.0  # a result so long after its runner died comes from a worker that went on
RUN_WITHIN_S = 180.0  # a run takes some seconds; one that takes this long hangs
LATEST = 1.1  # the latest moment, in undisturbed runs: some kills must come while a run closes
TWICE = 0.25  # of the rounds have their resumed run struck as well
RESUMES = 3  # runs that a round may need to be complete
TRIES = 20  # moments that a round may need to hit something; most hit at once

MATRIX = """\
name: chaos
train: {steps: 1200, batch_size: 2, block_size: 8}
eval: {every: 300, train_windows: 4}
matrix:
  model: [small]
  optimizer: [adamw, truemuon]
  device: [cpu]
  seed: [1]
models:
  small: {base: nanogpt, n_embd: 8, n_layer: 1, n_head: 2}
limits: {memory_gib: 1, checkpoint_every: 50 steps}
"""

Finding = tuple[str, str]  # one of KINDS, and what it is
Measured = tuple[object, ...]  # of a cell, what is the same each time: its losses, as text
Reference = dict[str, Measured]  # run_id -> what the undisturbed run measured


# --- What a results folder says ------------------------------------------------------------------


def committed_lines(results: Path) -> set[bytes]:
    """The complete rows of runs.csv, as bytes."""
    runs = ResultsFolder(results).runs
    return set(runs.read_bytes().split(b"\n")[1:-1]) if runs.exists() else set()


def read_runs(results: Path) -> tuple[list[Row], list[Finding]]:
    """The whole rows of runs.csv, and what is not whole: read here, not by what is under test."""
    runs = ResultsFolder(results).runs
    *lines, rest = runs.read_bytes().split(b"\n") if runs.exists() else [b""]
    rows, halves = list[Row](), list[Finding]()
    if rest:
        halves.append(("half", f"runs.csv ends in the middle of a line: {rest[-40:]!r}"))
    if lines[:1] != [as_line(RUN_COLUMNS).encode().rstrip()]:
        halves.append(("half", "runs.csv has no header, or a damaged one"))
    for line in lines[1:]:
        try:
            fields = next(csv.reader([line.decode()], strict=True), [])
        except (UnicodeDecodeError, csv.Error):
            fields = []
        if len(fields) == len(RUN_COLUMNS):
            rows.append(dict(zip(RUN_COLUMNS, fields, strict=True)))
        else:
            halves.append(("half", f"a row of {len(fields)} fields: {line[:40]!r}"))
    return rows, halves


def read_whole(path: Path) -> tuple[list[Row], list[Finding]]:
    """The rows of a table that is written as a whole, and whether it is not whole."""
    try:
        if not path.read_bytes().endswith(b"\n"):
            return [], [("half", f"{path.name} ends in the middle of a line")]
        return read_table(path), []
    except (OSError, RecordError) as error:
        return [], [("half", str(error))]


def measured(row: Row, curves: list[Row]) -> Measured:
    curve = [
        (point["step"], point["train_loss"], point["val_loss"])
        for point in curves
        if (point["run_id"], point["attempt"]) == (row["run_id"], row["attempt"])
    ]
    return row["train_loss_final"], row["val_loss_final"], *curve


def reference_of(results: Path) -> Reference:
    rows, curves = read_table(results / "runs.csv"), read_table(results / "curves.csv")
    return {row["run_id"]: measured(row, curves) for row in rows}


def damage(results: Path, reference: Reference) -> list[Finding]:
    """Everything that tells a finished folder from that of an undisturbed run."""
    folder = ResultsFolder(results)
    rows, found = read_runs(results)
    plan, plan_halves = read_whole(folder.plan)
    curves, curve_halves = read_whole(folder.curves)
    found += plan_halves + curve_halves
    if not plan_halves and sorted(row["run_id"] for row in plan) != sorted(reference):
        found.append(("half", "plan.csv has other cells"))
    # A row glued to a torn one may have all its columns, and a name that is none.
    found += [
        ("half", f"a row of no cell: {row['run_id']}")
        for row in rows
        if row["run_id"] not in reference
    ]
    for result in sorted(folder.cells.glob("*/result.json")):
        try:
            json.loads(result.read_text())
        except ValueError as error:
            found.append(("half", f"{result}: {error}"))
    for run_id, wanted in reference.items():
        attempts = [row for row in rows if row["run_id"] == run_id]
        ok = [row for row in attempts if row["status"] == "ok"]
        if not ok:
            found.append(("lost", f"cell {run_id} has no ok row"))
        elif any(measured(row, curves) != wanted for row in ok):
            found.append(("lost", f"cell {run_id} has other losses"))
        if len(ok) > 1 or len({row["attempt"] for row in attempts}) < len(attempts):
            found.append(("double", f"cell {run_id} has a row too many"))
    return found


# --- What runs for a results folder --------------------------------------------------------------


def processes_of(results: Path) -> list[str]:
    """Runners, workers and engine clients that name the folder."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []  # none of a zombie
        if any(str(results) in word for word in words):
            found.append(f"process {process.info['pid']}: {' '.join(words)[:80]}")
    return found


def running_containers(results: Path, runtime: str) -> list[str]:
    """By name; a stopped one is no runner's business until the next start."""
    label = f"label={container.folder_label(results)}"
    return Engine(runtime).command("ps", "--filter", label, "--format", "{{.Names}}").split()


def left_running(results: Path, runtime: str) -> list[str]:
    """Processes and containers of a folder that run; there should be none."""
    if runtime == "local":
        return processes_of(results)
    return processes_of(results) + running_containers(results, runtime)


def wait_until_gone(results: Path, runtime: str) -> list[str]:
    """What is still running after GONE_WITHIN_S."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while (left := left_running(results, runtime)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def workers_of(
    runner: "subprocess.Popen[bytes]", results: Path, runtime: str
) -> Iterator[tuple[str, Callable[[], object]]]:
    """The workers that run now: (the attempt's folder name, what sends it SIGKILL)."""
    if runtime != "local":
        for name in running_containers(results, runtime):
            kill = partial(Engine(runtime).command, "kill", "--signal", "KILL", name)
            yield name.split("-", 2)[2], kill
        return
    for child in psutil.Process(runner.pid).children(recursive=True):
        words = child.cmdline()
        if "bench.worker" in words:
            yield Path(words[words.index("bench.worker") + 1]).name, child.kill


def kill_worker(
    runner: "subprocess.Popen[bytes]", results: Path, runtime: str
) -> tuple[str, float] | None:
    """Kill the worker that runs, or the next that comes: (its attempt, when); None if none came."""
    while runner.poll() is None:
        # It may end, or not have begun, between our look and our blow.
        with contextlib.suppress(EngineError, psutil.NoSuchProcess):
            for attempt, kill in workers_of(runner, results, runtime):
                kill()
                return attempt, time.monotonic()
        time.sleep(0.02)
    return None


# --- Rounds --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arena:
    """A small matrix, where its cells run, and what an undisturbed run of it gave."""

    folder: Path
    runtime: str  # docker, podman or local
    reference: Reference
    undisturbed_s: float
    jobs: int = 1  # cells at once

    @classmethod
    def open(cls, folder: Path, runtime: str, jobs: int = 1) -> "Arena":
        """Write the matrix and its text, and run it once.

        Raises:
            RuntimeError: if even that run fails; with its output.
        """
        text = folder / "text.txt"
        text.write_text("the quick brown fox jumps over the lazy dog\n" * 91)
        (folder / "chaos.yaml").write_text(MATRIX + f"data: {{corpus: {text}}}\n")
        arena, results = cls(folder, runtime, {}, 0.0, jobs), folder / "undisturbed"
        began = time.monotonic()
        with arena.start(results) as runner:
            code = runner.wait()
        if code != 0:
            said = results.with_suffix(".log").read_text()
            raise RuntimeError(f"the undisturbed run ends with exit code {code}: {said}")
        return cls(folder, runtime, reference_of(results), time.monotonic() - began, jobs)

    def start(self, results: Path, *more: str) -> "subprocess.Popen[bytes]":
        """`bench run`, as somebody types it; what it prints goes to a log beside the folder."""
        arguments = ["run", str(self.folder / "chaos.yaml"), "--out", str(results), *more]
        arguments += ["--runtime", self.runtime, "--jobs", str(self.jobs)]
        with results.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "bench", *arguments],
                cwd=ROOT,
                env={**os.environ, "BENCH_CACHE": str(self.folder / "cache")},
                stdout=log,
                stderr=log,
            )


@dataclass
class Round:
    """One results folder: struck, resumed, compared."""

    arena: Arena
    results: Path
    draw: random.Random
    killed: list[str] = field(default_factory=list)  # "runner" or "worker" each
    story: list[str] = field(default_factory=list)
    found: list[Finding] = field(default_factory=list)
    committed: set[bytes] = field(default_factory=set)
    missed: int = 0  # moments that found nothing to hit
    went_on: int = 0  # cells that ended ok from a checkpoint

    def play(self) -> bool:
        """False if its moment came when there was nothing to hit."""
        if not self.strike():
            return False
        if self.draw.random() < TWICE:
            self.strike("--retry-failed")
        self.resume()
        self.found += damage(self.results, self.arena.reference)
        self.look_at_checkpoints()
        self.look_at_holders()
        return True

    def strike(self, *more: str) -> bool:
        """Start a run and kill it, or its worker, at a random moment; False if nothing was hit."""
        victim = self.draw.choice(("runner", "worker"))
        moment_s = self.draw.uniform(0, LATEST * self.arena.undisturbed_s)
        with self.arena.start(self.results, *more) as runner:
            began = time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                runner.wait(moment_s)
            self.look()
            blow = self.hit_runner if victim == "runner" else self.hit_worker
            what = blow(runner, began)
        self.look()
        if what is None:
            self.missed += 1
            return False
        self.killed.append(victim)
        self.story.append(what)
        return True

    def look(self) -> None:
        """A row that was there once stays, byte for byte."""
        now = committed_lines(self.results)
        vanished = self.committed - now
        self.found += [("lost", f"a committed row vanished: {line[:40]!r}") for line in vanished]
        self.committed = now

    def look_at_checkpoints(self) -> None:
        """All are gone, and a cell that went on from one says so, and that its times are none."""
        left = ResultsFolder(self.results).cells.glob("*/checkpoints")
        self.found += [("left", f"checkpoints of {place.parent.name}") for place in left]
        rows, _ = read_runs(self.results)
        resumed = [row for row in rows if row["resumed"] not in ("", "0")]
        self.went_on += sum(row["status"] == "ok" for row in resumed)
        self.found += [
            ("untrue", f"{row['run_id']} went on from {row['resumed_from']}, and is undisturbed")
            for row in resumed
            if row["status"] == "ok" and row["tainted"] != "true"
        ]

    def look_at_holders(self) -> None:
        """Nobody holds the folder any more, and no row is on its way to runs.csv."""
        left = self.results.glob(".holder/*/*")
        self.found += [("left", f"{path.relative_to(self.results)}") for path in left]

    def hit_runner(self, runner: "subprocess.Popen[bytes]", began: float) -> str | None:
        """What was hit, in words; None if the runner had ended."""
        after_s = time.monotonic() - began
        if runner.poll() is not None:
            return None
        runner.send_signal(signal.SIGKILL)
        died = time.time()  # as files are stamped
        if runner.wait() != -signal.SIGKILL:
            return None  # it ended in that moment
        self.expect_nothing_left()
        self.expect_no_result_after(died + OUTLIVES_S)
        attempts = len(list(ResultsFolder(self.results).cells.glob("*-*")))
        rows = len(committed_lines(self.results))
        return f"runner killed after {after_s:.2f} s (attempts {attempts}, rows {rows})"

    def hit_worker(self, runner: "subprocess.Popen[bytes]", began: float) -> str | None:
        """What was hit, in words; None if there was no worker any more, or it had just ended."""
        hit = kill_worker(runner, self.results, self.arena.runtime)
        if hit is None:
            return None
        attempt, at = hit
        self.let_end(runner)
        self.expect_nothing_left()
        rows, _ = read_runs(self.results)
        of_victim = [row for row in rows if f"{row['run_id']}-{row['attempt']}" == attempt]
        if [row["status"] for row in of_victim] == ["ok"]:
            return None  # a process that is ending takes the signal and ends as it would have
        self.expect_the_truth(attempt, of_victim, rows, runner.returncode)
        stage = of_victim[0]["stage"] if of_victim else "stage unknown"
        return f"worker killed after {at - began:.2f} s ({stage})"

    def expect_the_truth(
        self, attempt: str, of_victim: list[Row], rows: list[Row], code: int
    ) -> None:
        """After a worker's death the runner goes on: one cell crashed, all others ok, exit 1."""
        ends = [(row["status"], row["reason"]) for row in of_victim]
        if len(ends) != 1 or ends[0][0] != "crashed" or "SIGKILL" not in ends[0][1]:
            self.found.append(("untrue", f"{attempt} was killed, and its rows say {ends}"))
        ok = {row["run_id"] for row in rows if row["status"] == "ok"}
        for run_id in self.arena.reference.keys() - ok:
            if run_id != attempt.rpartition("-")[0]:
                self.found.append(("untrue", f"cell {run_id} did not run after {attempt} died"))
        if code != (0 if ok >= self.arena.reference.keys() else 1):
            self.found.append(("untrue", f"exit code {code} with {len(ok)} runs ok"))

    def expect_nothing_left(self) -> None:
        left = wait_until_gone(self.results, self.arena.runtime)
        self.found += [("left", what) for what in left]

    def expect_no_result_after(self, moment: float) -> None:
        """These cells are so short that an orphan may be gone, its work done, before it is seen."""
        for result in ResultsFolder(self.results).cells.glob("*/result.json"):
            if result.stat().st_mtime > moment:
                self.found.append(("left", f"{result.parent.name} went on without its runner"))

    def let_end(self, runner: "subprocess.Popen[bytes]") -> int:
        """The exit code of a run that ends by itself."""
        try:
            return runner.wait(RUN_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.found.append(("left", f"the runner did not end within {RUN_WITHIN_S:g} s"))
            runner.kill()
            return runner.wait()

    def resume(self) -> None:
        """Run again until all is done, as somebody would."""
        for _ in range(RESUMES):
            with self.arena.start(self.results, "--retry-failed") as runner:
                code = self.let_end(runner)
            self.look()
            if code == 0:
                break
        else:
            self.found.append(("untrue", f"exit code {code} after {RESUMES} resumed runs"))
        self.expect_nothing_left()
        if self.arena.runtime != "local":  # after a whole run, not even a stopped one
            stopped = Engine(self.arena.runtime).containers(container.folder_label(self.results))
            self.found += [("left", f"container {name}") for name in stopped]


@dataclass
class Chaos:
    """Rounds in one arena, and what they came to."""

    arena: Arena
    say: Callable[[str], object] = print
    rounds: int = 0
    missed: int = 0  # moments that found nothing to hit
    went_on: int = 0  # cells that ended ok from a checkpoint
    killed: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)  # by kind

    def play(self, rounds: int, seed: int) -> None:
        for number in range(rounds):
            self.play_round(seed + number)
        self.say(self.summary())

    def play_round(self, seed: int) -> None:
        """One round; where its moment finds nothing to hit, again in a new folder."""
        draw, found = random.Random(seed), list[Finding]()
        for attempt in range(TRIES):
            results = self.arena.folder / f"seed-{seed}-try-{attempt:02}"
            one = Round(self.arena, results, draw)
            hit = one.play()
            found += one.found
            self.killed.update(one.killed)
            self.missed += one.missed
            self.went_on += one.went_on
            if hit:
                break
        else:
            found.append(("untrue", f"nothing could be hit at {TRIES} moments"))
        self.rounds += 1
        self.counts.update(kind for kind, _ in found)
        self.say(f"round {self.rounds}, seed {seed}: {', then '.join(one.story)}{_outcome(found)}")

    def summary(self) -> str:
        counts = ", ".join(f"{self.counts[kind]} {kind}" for kind in KINDS)
        return (
            f"chaos: {self.rounds} rounds, {self.killed['runner']} runners and "
            f"{self.killed['worker']} workers killed, {counts} running; "
            f"{counted(self.went_on, 'cell')} went on from a checkpoint "
            f"({self.missed} more moments found nothing to hit)"
        )


def _outcome(found: list[Finding]) -> str:
    return "".join(f"\n  {kind}: {what}" for kind, what in found) or "; whole after the resume"


def main() -> int:
    options = argparse.ArgumentParser(description="kill runs at random moments, resume, compare")
    options.add_argument("--rounds", type=int, default=50)
    options.add_argument("--runtime", choices=RUNTIMES, default="auto")
    options.add_argument("--jobs", type=int, default=1, help="cells at once")
    options.add_argument("--seed", type=int, help="of the first round; the next has the next")
    asked = options.parse_args()
    seed = random.randrange(1_000_000) if asked.seed is None else asked.seed
    folder = Path(tempfile.mkdtemp(prefix="bench-chaos-")).resolve()
    try:
        launcher, why = choose_launcher(asked.runtime, None)
        arena = Arena.open(folder, launcher.runtime, asked.jobs)
    except (BenchError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        shutil.rmtree(folder)
        return 2
    print(f"runtime: {why}; an undisturbed run takes {arena.undisturbed_s:.1f} s; seed {seed}")
    chaos = Chaos(arena, say=lambda line: print(line, flush=True))
    chaos.play(asked.rounds, seed)
    if chaos.counts.total():
        print(f"the folders and logs of all rounds are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
