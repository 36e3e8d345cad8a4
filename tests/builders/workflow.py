"""Runs a workflow of GitHub's here: its `run` steps as they are, actions by what they promise.

Between the steps lies what a runner has: a clone made by `checkout`, GITHUB_* variables and files,
outputs, a job's summary, artifacts, a cache and, at the end, the site.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from tests.builders.actions import ACTIONS, ActionError, Desk, hash_files
from tests.builders.expressions import Loose, Scope, formatted

FILES = ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")
# Of the machine around: what finds programs and packages, and nothing that a Makefile would take.
KEPT = re.compile(
    r"PATH|LANG|TMPDIR|DOCKER_HOST|PIP_\w+|SSL_\w+|(https?|no|all)_proxy", re.IGNORECASE
)
# What is known here of a job and of a step; anything else would mean something, and be passed over.
JOB_KEYS = {"if", "needs", "runs-on", "timeout-minutes", "strategy", "permissions", "concurrency"}
JOB_KEYS |= {"environment", "env", "steps"}
STEP_KEYS = {"id", "name", "if", "uses", "with", "run", "env"}
SUCCESS, FAILURE, SKIPPED = "success", "failure", "skipped"
DEFAULT_TIMEOUT_MINUTES = 360  # GitHub's
SUMMARY_BYTES = 2**20  # more is refused


@dataclass(frozen=True)
class Event:
    """What a workflow was started by."""

    name: str = "push"
    ref: str = "refs/heads/main"
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Step:
    """One that has ended, or was passed over."""

    job: str
    number: int  # from 1
    title: str  # its `run` or `uses`, or its name
    outcome: str
    said: str = ""

    @property
    def place(self) -> str:
        return f"{self.job}, step {self.number}: {self.title}"


@dataclass
class Run:
    """A workflow that has ended."""

    place: Path
    jobs: dict[str, str] = field(default_factory=dict)  # success, failure or skipped
    steps: list[Step] = field(default_factory=list)
    summary: str = ""
    page_url: str = ""

    @property
    def failed(self) -> list[str]:
        return [step.place for step in self.steps if step.outcome == FAILURE]

    @property
    def told(self) -> str:
        """What every step said, under its title."""
        return "\n".join(f"--- {step.place} ({step.outcome})\n{step.said}" for step in self.steps)

    def artifact(self, name: str) -> Path:
        return self.place / "artifacts" / name

    @property
    def site(self) -> Path:
        """What would be published."""
        return self.place / "site"


@dataclass
class Runner:
    """A machine anew for each job, on the disk at `place`; `origin` is the repository."""

    place: Path
    origin: Path
    event: Event = Event()
    variables: Mapping[str, str] = field(default_factory=dict)  # of the repository's settings
    around: Mapping[str, str] = field(default_factory=dict)  # goes before what a workflow sets
    furnish: Callable[[Path], None] = lambda workspace: None  # after checkout: what a machine has

    def run(self, workflow: Mapping[Any, Any]) -> Run:
        run = Run(self.place)
        shutil.rmtree(self.place / "jobs", ignore_errors=True)
        shutil.rmtree(self.place / "artifacts", ignore_errors=True)
        for name, job in workflow["jobs"].items():
            needs = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
            ready = all(run.jobs[need] == SUCCESS for need in needs)
            for matrix in _combinations(job):
                one = Job(self, workflow, name, job, matrix, run)
                if not (ready and one.scope().holds(job.get("if", "success()"))):
                    run.jobs[name] = SKIPPED
                    continue
                one.run_steps()
                if run.jobs.get(name) != FAILURE:  # of a matrix, one is enough
                    run.jobs[name] = FAILURE if one.failed else SUCCESS
        return run

    def github(self, workflow: str, job: str) -> dict[str, Any]:
        sha = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=self.origin, text=True)
        repository = {"repository": {"name": "bench", "full_name": "somebody/bench"}}
        return {
            "event_name": self.event.name,
            "event": Loose(**{**repository, **self.event.payload}),
            "ref": self.event.ref,
            "ref_name": self.event.ref.split("/", 2)[-1],
            "sha": sha.strip(),
            "workflow": workflow,
            "job": job,
            "repository": "somebody/bench",
            "repository_owner": "somebody",
            "server_url": "https://github.com",
        }


def read(file: Path) -> dict[Any, Any]:
    """A workflow; `on` is the key True, as YAML 1.1 has it."""
    workflow: dict[Any, Any] = yaml.safe_load(file.read_text())
    return workflow


def _combinations(job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    axes = job.get("strategy", {}).get("matrix", {})
    for values in product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


class Job:
    """One job on one combination of its matrix."""

    def __init__(
        self,
        runner: Runner,
        workflow: Mapping[Any, Any],
        name: str,
        job: Mapping[str, Any],
        matrix: Mapping[str, Any],
        run: Run,
    ) -> None:
        for keys, known in ((job, JOB_KEYS), *((step, STEP_KEYS) for step in job["steps"])):
            assert set(keys) <= known, f"{name}: {set(keys) - known} is not known here"
        self.runner, self.workflow, self.job, self.run = runner, workflow, job, run
        self.github = runner.github(str(workflow["name"]), name)
        self.name = " ".join([name, *map(str, matrix.values())])
        self.matrix = matrix
        self.desk = Desk(
            job,
            place=runner.place / "jobs" / self.name.replace(" ", "-"),
            server=runner.place,
            origin=runner.origin,
            commit=self.github["sha"],
            furnish=runner.furnish,
        )
        self.failed = False
        self.outputs: dict[str, dict[str, Any]] = {}
        self.variables: dict[str, str] = {}  # by GITHUB_ENV

    def run_steps(self) -> None:
        for number, step in enumerate(self.job["steps"], start=1):
            title = step.get("name") or step.get("run") or step["uses"]
            ended = Step(self.name, number, title, SKIPPED)
            self.run.steps.append(ended)
            if not self.scope().holds(step.get("if", "success()")):
                continue
            if "run" in step:
                code, ended.said = self.execute(number, step)
            else:
                code, ended.said = self.act(step)
            ended.outcome = FAILURE if code else SUCCESS
            self.failed = self.failed or code != 0
        if not self.failed:
            for last in self.desk.at_end:
                last()
        if url := self.job.get("environment", {}).get("url"):
            self.run.page_url = str(self.scope().filled(url))

    def scope(self, env: Mapping[str, str] | None = None) -> Scope:
        contexts = {
            "github": self.github,
            "vars": Loose(self.runner.variables),
            "matrix": self.matrix,
            "runner": {"os": "Linux", "arch": "X64"},
            "steps": {name: {"outputs": Loose(found)} for name, found in self.outputs.items()},
            "env": env or {},
        }
        functions: dict[str, Callable[..., Any]] = {
            "success": lambda: not self.failed,
            "failure": lambda: self.failed,
            "cancelled": lambda: False,
            "format": formatted,
            "hashFiles": lambda *names: hash_files(self.desk.workspace, names),
        }
        return Scope(contexts, functions)

    def environment(self, step: Mapping[str, Any]) -> dict[str, str]:
        """Of one step: what is around, what GitHub sets, then the workflow's, widest first."""
        inherited = {key: value for key, value in os.environ.items() if KEPT.fullmatch(key)}
        inherited |= self.runner.around
        set_here: dict[str, str] = {}
        for level in (self.workflow, self.job, step):
            scope = self.scope(set_here)
            set_here |= {key: str(scope.filled(it)) for key, it in level.get("env", {}).items()}
        return {
            **inherited,
            "CI": "true",
            "HOME": str(self.desk.home),
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(self.desk.workspace),
            "RUNNER_TEMP": str(self.desk.temporary),
            **{
                f"GITHUB_{key.upper()}": str(self.github[key])
                for key in ("ref", "sha", "event_name")
            },
            **set_here,
            **self.variables,
            **self.runner.around,
            "PATH": os.pathsep.join([*reversed(self.desk.path), inherited["PATH"]]),
        }

    def execute(self, number: int, step: Mapping[str, Any]) -> tuple[int, str]:
        """(exit code, what it said) of a `run` step, by the shell where none is named."""
        environment = self.environment(step)
        files = {name: self.desk.temporary / f"{name.lower()}-{number}" for name in FILES}
        for file in files.values():
            file.touch()
        script = self.desk.temporary / f"step-{number}.sh"
        script.write_text(str(self.scope(environment).filled(step["run"])) + "\n")
        log = self.desk.temporary / f"step-{number}.log"
        with log.open("w") as said:
            process = subprocess.Popen(
                ["bash", "-e", str(script)],
                cwd=self.desk.workspace,
                env=environment | {name: str(file) for name, file in files.items()},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(60 * self.job.get("timeout-minutes", DEFAULT_TIMEOUT_MINUTES))
            finally:
                if process.poll() is None:  # too long, or these tests are stopped
                    os.killpg(process.pid, signal.SIGKILL)
        self.take_over(step, files)
        return code, log.read_text(errors="replace")

    def take_over(self, step: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """What a step left in its GITHUB_* files."""
        if "id" in step:
            self.outputs[step["id"]] = _assigned(files["GITHUB_OUTPUT"])
        self.variables |= _assigned(files["GITHUB_ENV"])
        self.desk.path += files["GITHUB_PATH"].read_text().splitlines()
        summary = files["GITHUB_STEP_SUMMARY"]
        assert summary.stat().st_size <= SUMMARY_BYTES, f"{step['run']}: the summary is too large"
        self.run.summary += summary.read_text()

    def act(self, step: Mapping[str, Any]) -> tuple[int, str]:
        action = step["uses"].partition("@")[0]
        given = {
            key: self.scope(self.environment(step)).filled(value)
            for key, value in step.get("with", {}).items()
        }
        try:
            found = ACTIONS[action](self.desk, given)
        except ActionError as error:
            return 1, f"{action}: {error}"
        if "id" in step:
            self.outputs[step["id"]] = found
        return 0, ""


def _assigned(file: Path) -> dict[str, str]:
    """NAME=VALUE lines; a value of several lines has another form, which none of ours uses."""
    lines = file.read_text().splitlines()
    assert all(re.match(r"[\w-]+=", line) for line in lines), f"cannot be read: {lines}"
    return dict(line.split("=", 1) for line in lines)
