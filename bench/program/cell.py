"""One cell of a program: laid out, run, read; result.json and the files beside it."""

import importlib.metadata
import os
import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.border.identity import SCHEMA_VERSION, program_code_sha256
from bench.border.program import Program
from bench.border.surroundings import CHANGING, TOLD, compiler_environment
from bench.program.child import Child
from bench.program.figures import CURVE, STEPS, Figures
from bench.program.listening import Listening
from bench.program.output import OutputLog
from bench.program.patience import SlowPatternError
from bench.program.reading import OutputReader
from bench.program.runs import OutputRuns
from bench.program.verdict import Ended, verdict
from bench.program.workspace import Workspace, WorkspaceError
from bench.worker.protocol import Speaker, write_csv, write_json

STDERR = 2
HOW = ("status", "reason", "stage")


@dataclass
class ProgramCell:
    """A program, and what is needed to run it once."""

    folder: Path
    spec: Mapping[str, Any]
    program: Program  # filled
    workspace: Workspace
    child: Child
    say: Speaker
    printed: OutputLog = field(default_factory=lambda: OutputLog(STDERR))

    @cached_property
    def reader(self) -> OutputReader:
        return OutputReader(self.program.read, self.program.metrics)

    @cached_property
    def listening(self) -> Listening:
        return Listening(self.child, self.reader, self.printed, self.say)

    def start(self) -> None:
        """
        Raises:
            WorkspaceError: if its folder cannot be laid out as asked, or it does not start.
        """
        self.say(stage="start")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        own = str(Path(sys.executable).parent)
        environment["PATH"] = os.pathsep.join([own, environment.get("PATH", os.defpath)])
        try:
            self.workspace.lay_out(self.program)
        except OSError as error:
            raise WorkspaceError(f"its folder cannot be laid out: {error}") from error
        if self.child.stopped:
            return
        try:
            environment |= self.program.environment
            self.child.start(self.program.command, environment, self.workspace.folder)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in an argument
            raise WorkspaceError(f"{self.program.command[0]} cannot be started: {error}") from error

    def run(self, started: float) -> int:
        """To its end, whatever that is. Returns the exit code: 0 for ok and diverged, else 1."""
        runs = OutputRuns(self.program, started)
        ended = self._end_of(runs)
        finished = self.child.exited or started
        results = self._results(runs.figures, ended, finished)
        failed = [each for each in results if each["status"] != "ok"]
        whole = {**results[0], **{key: (failed or results)[0][key] for key in HOW}}
        whole["row"] = {**whole["row"], **_use()}
        write_json(self.folder / "env.json", self._environment())
        write_json(
            self.folder / "result.json",
            {
                "schema_version": SCHEMA_VERSION,
                "run_id": self.spec["run_id"],
                "code_sha256": program_code_sha256(),
                "started": started,
                "finished": finished,
                "context_window": None,
                **{key: whole[key] for key in (*HOW, "spans", "row")},
                **({"trials": results} if self.program.trials else {}),
            },
        )
        self.workspace.clean_up()
        return 0 if whole["status"] in ("ok", "diverged") else 1

    def _end_of(self, runs: OutputRuns) -> Ended:
        fault = ""
        try:
            self.start()
            if self.child.process is not None:
                for line, record, at in self.listening.until_end():
                    runs.add(line, record, at)
            self.workspace.check_data()
        except (WorkspaceError, SlowPatternError) as error:
            fault = str(error)
            self.child.kill()
        self.printed.close()
        code = self.child.process.wait() if self.child.process else 0
        cut = self.listening.splitter.cut
        return Ended(code, self.printed.text, self.child.stopped, fault, cut)

    def _results(
        self, runs: Sequence[Figures], ended: Ended, finished: float
    ) -> list[dict[str, Any]]:
        """Of each run, and its files. Those before the last have ended well: another began."""
        results = []
        for number, figures in enumerate(runs, start=1):
            last = number == len(runs)
            end = ended if last else ended._replace(code=0, interrupted=False)
            status, reason = verdict(end, figures, self.program, self.reader)
            row = figures.row(status == "ok")
            results.append(
                {
                    "begin": figures.begin,
                    "end": finished if last else runs[number].begin,
                    "status": status,
                    "reason": reason,
                    "stage": None if status == "ok" else self.listening.stage,
                    "spans": figures.clock.spans,
                    "row": row | _python(),
                }
            )
            suffix = "" if number == 1 else f"-{number}"
            write_csv(self.folder / f"curve{suffix}.csv", CURVE, figures.curve_rows())
            write_csv(self.folder / f"steps{suffix}.csv", STEPS, figures.steps.rows())
        return results

    def _environment(self) -> dict[str, Any]:
        """For env.json: enough to tell why two machines differ, and what was read how often."""
        told = (*TOLD, *CHANGING)
        variables = {name: value for name, value in os.environ.items() if name.startswith(told)}
        for name in ("PYTHONPATH", *compiler_environment(Path())):  # where they lie changes nothing
            variables.pop(name, None)
        return {
            **_python(),
            "platform": platform.platform(),
            "affinity": sorted(os.sched_getaffinity(0)),
            "variables": dict(sorted({**variables, **self.program.environment}.items())),
            "command": list(self.program.command),
            "lines": self.reader.lines,
            "lines_cut": self.listening.splitter.cut,
            "matched": {use.what: use.lines for use, _ in self.reader.uses},
            "refused": self.reader.refused,
        }


def _python() -> dict[str, str | None]:
    """Of our own interpreter, which a command that begins with `python` runs as well."""
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = None
    return {"python_version": platform.python_version(), "torch_version": torch}


def _use() -> dict[str, float | int]:
    """What the program's processes had of the machine, in all; the peak is of the largest one."""
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu_time_s": use.ru_utime + use.ru_stime,
        "context_switches_voluntary": use.ru_nvcsw,
        "context_switches_involuntary": use.ru_nivcsw,
        "host_rss_peak_mib": use.ru_maxrss / 1024,  # from KiB
    }
