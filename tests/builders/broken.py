"""A copy of the program with one place of it broken, so that the real worker misbehaves.

`python -m bench` in the copy's folder is the copy on both sides of the border, in a container
too; the product itself knows nothing of it.
"""

import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from bench.launch.container import folder_label
from bench.launch.engine import Engine
from bench.records.rows import Row, read_table
from tests.builders.shared import ROOT

MATRIX = """\
name: broken
data: {{corpus: {corpus}}}
train: {{steps: {steps}, batch_size: 2, block_size: 8}}
eval: {{every: {steps}, train_windows: 4}}
matrix: {{model: [small], optimizer: [adamw], device: [cpu], seed: {seeds}}}
models:
  small: {{base: nanogpt, n_embd: 8, n_layer: 1, n_head: 2}}
limits: {limits}
"""

# Where a fault goes: a file, and how the line begins that it is put before.
AT_START = ("bench/worker/__main__.py", "from bench.worker.cell import")  # before torch: quick
AT_TRAINING = ("bench/worker/cell.py", "trainer.run(")
AFTER_STEP = ("bench/worker/training.py", "self.timer.steps_done(")  # of training: not of warm-up
AT_END = ("bench/worker/cell.py", "return 0 if status in")
BEFORE_A_CELL = ("bench/run/runner.py", "self.corpus.check_unchanged(")
AT_COMMIT = ("bench/records/rows.py", "self._append_line(line)")


# A fault leans on no import of the place it is put into, and leaves no name behind there.
PATH = '__import__("pathlib").Path'


def pause(folder: str) -> str:
    """Tell that one is there, and wait to be let go on."""
    return textwrap.dedent(f"""\
        {PATH}({folder}, "here").touch()
        while not {PATH}({folder}, "go").exists():
            __import__("time").sleep(0.02)
    """)


CRASH = "import os; os._exit(3)"  # at the start: a cell that ends in a moment
PAUSE = pause('__import__("sys").argv[1]')  # of a worker, in its cell's folder
PAUSE_BETWEEN = "if cell.spec.seed == 2:\n" + textwrap.indent(pause('""'), "    ")  # of a runner

# No part of code_sha256, and mounted into a container with the rest.
WHILE = 'if __import__("os").path.exists(__import__("bench").__path__[0] + "/broken"):\n'
PATIENCE_S = 300.0


class Broken:
    """A copy of the program in a folder, with a text, a matrix of one arm, and its results."""

    def __init__(self, folder: Path) -> None:
        self.root, self.results = folder / "copy", folder / "results"
        self.matrix = folder / "broken.yaml"
        self.text = folder / "text.txt"
        self.text.write_text("the quick brown fox jumps over the lazy dog\n" * 91)
        self.environment: dict[str, str] | None = None  # None: as it is
        self.runtimes: set[str] = set()
        self.runners: list[subprocess.Popen[str]] = []
        without = shutil.ignore_patterns("__pycache__", "wheels")
        for part in ("bench", "docker"):
            shutil.copytree(ROOT / part, self.root / part, ignore=without)
        (self.root / "docker" / "wheels").mkdir()
        for wheel in (ROOT / "docker" / "wheels").glob("*.whl"):  # part of the image's tag
            (self.root / "docker" / "wheels" / wheel.name).symlink_to(wheel.resolve())
        (self.root / "bench" / "broken").touch()
        self.ask()

    def ask(self, seeds: int = 1, steps: int = 4, **limits: float) -> None:
        """The matrix: a cell for each of the seeds 1, 2, ..."""
        content = MATRIX.format(
            corpus=self.text, steps=steps, seeds=list(range(1, seeds + 1)), limits=limits
        )
        self.matrix.write_text(content.replace("'", ""))

    def replace(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        assert path.read_text().count(old) == 1, f"{file} has not one {old!r}"
        path.write_text(path.read_text().replace(old, new))

    def insert(self, place: tuple[str, str], fault: str) -> None:
        """Statements before a line, of its indentation; they run until `mend`."""
        file, beginning = place
        lines = (self.root / file).read_text().splitlines(keepends=True)
        (line,) = (line for line in lines if line.lstrip().startswith(beginning))
        margin = line[: len(line) - len(line.lstrip())]
        block = WHILE + textwrap.indent(fault.rstrip() + "\n", "    ")
        self.replace(file, line, textwrap.indent(block, margin) + line)

    def mend(self) -> None:
        """From now on nothing that was inserted runs; the code stays the same."""
        (self.root / "bench" / "broken").unlink()

    def start(self, runtime: str, *options: str) -> "subprocess.Popen[str]":
        """`python -m bench run ...` of the copy."""
        self.runtimes.add(runtime)
        arguments = ["run", self.matrix, "--out", self.results, "--runtime", runtime, *options]
        runner = subprocess.Popen(
            [sys.executable, "-m", "bench", *map(str, arguments)],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.runners.append(runner)
        return runner

    def run(self, runtime: str, *options: str) -> tuple[int, str, str]:
        """(exit code, standard output, standard error)"""
        return ended(self.start(runtime, *options))

    def paused(self) -> Path:
        """The folder in which a pause has begun, once there is one."""
        return self.all_paused(1)[0]

    def all_paused(self, count: int) -> list[Path]:
        """The folders of so many pauses, once all have begun."""
        found: list[Path] = []

        def look() -> bool:
            assert self.runners[-1].poll() is None, self.runners[-1].communicate()
            here = [*self.results.glob("cells/*/here"), *self.root.glob("here")]
            found[:] = sorted(file.parent for file in here)
            return len(found) >= count

        wait_until(look)
        return found

    def rows(self) -> list[Row]:
        return read_table(self.results / "runs.csv")

    def log(self, row: Row) -> Path:
        return self.results / row["log_path"]

    def containers(self) -> list[str]:
        label = folder_label(self.results)
        engines = [Engine(runtime) for runtime in self.runtimes - {"local"}]
        return [name for engine in engines for name in engine.containers(label)]

    def left_running(self) -> list[str]:
        """Runners, workers and engine clients whose command line names the results."""
        processes = psutil.process_iter(["cmdline"])
        lines = [" ".join(process.info["cmdline"] or []) for process in processes]
        return [line for line in lines if str(self.results) in line] + self.containers()

    def close(self) -> None:
        """End what a failed test left. A test that went well has nothing running to end."""
        for runner in self.runners:
            if runner.poll() is None:
                runner.kill()
                runner.communicate()
        for runtime in self.runtimes - {"local"}:
            Engine(runtime).remove(*self.containers())


def ended(runner: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """(exit code, standard output, standard error)"""
    out, err = runner.communicate(timeout=PATIENCE_S)
    return runner.returncode, out, err


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
