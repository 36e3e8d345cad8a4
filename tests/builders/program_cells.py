"""Programs as cells: small scripts in plain Python, run as a launcher runs them."""

import contextlib
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

from bench.border.options import EvalOptions, TrainOptions
from bench.border.program import BASE, GivenValues, Program
from bench.border.spec import CorpusRef, Model, Optimizer, RunSpec
from bench.launch.variables import local_environment

LOSS = r"loss (?P<loss>\S+)"
STEP = r"step (?P<step>\S+)"
STEP_LOSS = rf"{STEP} {LOSS}"
VAL = r"val (?P<val_loss>\S+)"


@dataclass
class Ran:
    """What a cell left behind."""

    folder: Path
    code: int
    events: list[dict[str, Any]]
    log: bytes
    rss_mib: float  # the most of what runs and reads the program
    cpu_s: float  # of all processes

    @property
    def result(self) -> dict[str, Any]:
        return json.loads((self.folder / "result.json").read_text())

    @property
    def row(self) -> dict[str, Any]:
        return self.result["row"]

    @property
    def end(self) -> tuple[str, str | None]:
        return self.result["status"], self.result["reason"]

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.folder / name).open() as file:
            return list(csv.DictReader(file))


@dataclass
class ProgramRun:
    """A cell of a script, not started yet."""

    place: Path
    script: str
    read: tuple[str, ...] = (STEP_LOSS, VAL)
    seed: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Path] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)  # fields of Program
    main: str = "main.py"  # where the script lies in the folder of code

    @property
    def folder(self) -> Path:
        return self.place / "cell"

    @property
    def code(self) -> Path:
        return self.place / "code"

    @property
    def file(self) -> Path:
        return self.code / self.main

    def start(
        self, check_s: float | None = None, argv: Sequence[str] = ()
    ) -> "subprocess.Popen[bytes]":
        """`argv`: of another call of Python, which runs it."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(dedent(self.script))
        self.folder.mkdir()
        (self.folder / "spec.json").write_text(self._spec().to_json())
        if check_s is not None:
            (self.folder / "check.json").write_text(json.dumps({"seconds": check_s}))
        named = [f"{name}={path}" for name, path in self.data.items()]
        own = ["-P", "-m", "bench.program", str(self.folder), str(self.code), *named]
        with (self.place / "log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, *(argv or own)],
                env=local_environment(1),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def finish(self, process: "subprocess.Popen[bytes]") -> Ran:
        assert process.stdout is not None
        assert process.stdin is not None
        rss_mib = 0.0
        # Not ru_maxrss, which the tests' own memory leaks into.
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            rss_mib = max(rss_mib, rss_peak_mib(process.pid))
            time.sleep(0.02)
        with process.stdout, process.stdin:
            said = process.stdout.read().decode()
        _, status, use = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        events = [json.loads(line) for line in said.splitlines() if line]
        log = (self.place / "log").read_bytes()
        cpu_s = use.ru_utime + use.ru_stime
        return Ran(self.folder, process.returncode, events, log, rss_mib, cpu_s)

    def run(self, check_s: float | None = None) -> Ran:
        return self.finish(self.start(check_s))

    def _spec(self) -> RunSpec:
        asked = {"command": ("python", self.file.name), "read": self.read, **self.asked}
        return RunSpec(
            model=Model("small", BASE, GivenValues(self.settings)),
            optimizer=Optimizer("plain", BASE, GivenValues()),
            device="cpu",
            seed=self.seed,
            train=TrainOptions(),
            eval=EvalOptions(),
            corpus=CorpusRef("", ""),
            program=Program("prog", "0" * 64, **asked),
        )


def rss_peak_mib(pid: int) -> float:
    """Peak resident memory of a process so far; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0
