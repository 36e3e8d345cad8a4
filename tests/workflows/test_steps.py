"""Which steps each workflow makes, in which order, and that none fails unheard.

`make` is a stand-in that notes its targets; test_whole.py and test_lent.py run the real ones.
"""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builders.shared import ROOT
from tests.builders.stand_in_make import StandInMake, target_of
from tests.builders.workflow import Event, Run, Runner, read

WORKFLOWS = {file.stem: read(file) for file in (ROOT / ".github" / "workflows").glob("*.yml")}
MEASURED = ["bench-cpu", "ci-ab", "ci-summary", "site"]
PUSH = Event()
BY_HAND = Event("workflow_dispatch")
FORK = Event(
    "pull_request",
    "refs/pull/7/merge",
    {"action": "opened", "pull_request": {"head": {"repo": {"fork": True}}}},
)
RUN_STEPS = [
    (name, job, number)
    for name, workflow in WORKFLOWS.items()
    for job in workflow["jobs"]
    for number, step in enumerate(workflow["jobs"][job]["steps"], start=1)
    if "run" in step
]


def run(
    workflow: Mapping[Any, Any],
    origin: Path,
    place: Path,
    event: Event = PUSH,
    broken: str = "none",
) -> tuple[Run, list[str]]:
    """The run, and the targets that it asked for."""
    make = StandInMake(place / "make", broken)
    ended = Runner(place / "runner", origin, event, around=make.around).run(workflow)
    return ended, make.asked()


def test_main_is_measured_and_published(small_origin: Path, tmp_path: Path) -> None:
    ended, asked = run(WORKFLOWS["bench"], small_origin, tmp_path)
    assert asked == MEASURED
    assert ended.jobs == {"bench": "success", "publish": "success"}
    assert (ended.site / "index.html").read_text() == "a page\n"
    assert (ended.artifact("results-cpu") / "cpu" / "runs.csv").exists()
    assert ended.page_url == "https://somebody.github.io/bench/"


@pytest.mark.parametrize("event", [FORK, Event(ref="refs/tags/v1.0.0"), BY_HAND])
def test_a_fork_a_tag_or_a_branch_is_measured_and_not_published(
    event: Event, small_origin: Path, tmp_path: Path
) -> None:
    """Without a variable, a secret or a token: the runner has none to give."""
    event = Event(event.name, "refs/heads/other", event.payload) if event == BY_HAND else event
    ended, asked = run(WORKFLOWS["bench"], small_origin, tmp_path, event)
    assert asked == MEASURED
    assert ended.jobs == {"bench": "success", "publish": "skipped"}
    assert not ended.site.exists()
    assert (ended.artifact("results-cpu") / "cpu" / "runs.csv").exists()


def test_the_site_of_before_and_the_repository_are_told_to_make(
    small_origin: Path, tmp_path: Path
) -> None:
    tell = {"run": 'echo "$SITE" "$REPOSITORY"'}
    workflow = WORKFLOWS["bench"] | {"jobs": {"tell": {"steps": [tell]}}}
    for variables, site in (({}, "https://somebody.github.io/bench"), ({"SITE": "x"}, "x")):
        runner = Runner(tmp_path, small_origin, FORK, variables)
        (told,) = runner.run(workflow).steps
        assert told.said == f"{site} https://github.com/somebody/bench\n"


def test_every_python_is_tested(small_origin: Path, tmp_path: Path) -> None:
    ended, asked = run(WORKFLOWS["test"], small_origin, tmp_path, FORK)
    assert ended.jobs == {"lint": "success", "test": "success", "slow": "skipped"}
    assert asked == ["actionlint", "lint", "test", "test", "test"]
    for python in ("3.11", "3.12", "3.13"):
        assert (ended.artifact(f"tests-{python}") / "tests.xml").exists()


def test_what_goes_to_main_has_the_slow_tests_as_well(small_origin: Path, tmp_path: Path) -> None:
    ended, asked = run(WORKFLOWS["test"], small_origin, tmp_path)
    assert ended.jobs["slow"] == "success"
    assert asked[-1] == "test-slow"


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (BY_HAND, "success"),
        (Event("pull_request", "refs/pull/7/merge", {"label": {"name": "bench-gpu"}}), "success"),
        (Event("pull_request", "refs/pull/7/merge", {"label": {"name": "other"}}), "skipped"),
    ],
)
def test_a_gpu_is_used_when_somebody_asked(
    event: Event, outcome: str, small_origin: Path, tmp_path: Path
) -> None:
    ended, asked = run(WORKFLOWS["bench-gpu"], small_origin, tmp_path, event)
    assert ended.jobs == {"bench": outcome}
    wanted = ["bench-gpu", "ci-ab", "ci-summary", "artifact"]
    assert asked == (wanted if outcome == "success" else [])
    assert ended.artifact("results-gpu").exists() is (outcome == "success")


@pytest.mark.parametrize(("name", "job", "number"), RUN_STEPS)
def test_a_broken_step_fails_its_job_and_is_named(
    name: str, job: str, number: int, small_origin: Path, tmp_path: Path
) -> None:
    command = WORKFLOWS[name]["jobs"][job]["steps"][number - 1]["run"]
    target = target_of(command)
    event = BY_HAND if name == "bench-gpu" else PUSH
    ended, _ = run(WORKFLOWS[name], small_origin, tmp_path, event, broken=target)
    assert ended.jobs[job] == "failure"
    assert ended.failed
    for place in ended.failed:
        assert place.startswith(job)
        assert place.endswith(f"step {number}: {command}")
    if name != "test":  # what was measured is kept, whichever step failed
        assert list(ended.artifact(f"results-{'gpu' if 'gpu' in name else 'cpu'}").iterdir())
    assert not ended.site.exists()


def test_an_upload_of_what_is_not_there_fails_and_is_named(
    small_origin: Path, tmp_path: Path
) -> None:
    workflow = yaml.safe_load(yaml.safe_dump(WORKFLOWS["bench"]))
    (upload,) = (
        step
        for step in workflow["jobs"]["bench"]["steps"]
        if step.get("uses", "").startswith("actions/upload-artifact@")
    )
    upload["with"]["path"] = upload["with"]["path"].replace("results/", "result/")
    ended, _ = run(workflow, small_origin, tmp_path)
    assert ended.failed == [f"bench, step 8: {upload['uses']}"]
    assert ended.jobs == {"bench": "failure", "publish": "skipped"}


# --- elsewhere than on GitHub ---

GITLAB: dict[str, Any] = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())
RESERVED = {"stages", "default", "workflow", "variables"}
GITLAB_JOBS = {name: job for name, job in GITLAB.items() if name not in RESERVED}


def measure(origin: Path, place: Path, broken: str = "none") -> tuple[int, str, list[str]]:
    """(exit code, what it said, the targets) of the shell recipe."""
    make = StandInMake(place / "make", broken)
    answer = subprocess.run(
        [str(origin / ".ci" / "measure")],
        cwd=place,
        env=make.around,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.returncode, answer.stderr, make.asked()


def test_the_shell_recipe_makes_what_the_workflow_makes(small_origin: Path, tmp_path: Path) -> None:
    """As docs/artifacts.md has it."""
    page = (ROOT / "docs" / "artifacts.md").read_text()
    recipe = page.partition("<!-- anywhere:")[2].partition("```bash\n")[2].partition("```")[0]
    make = StandInMake(tmp_path / "make")
    around = make.around | {"REPOSITORY": str(small_origin)}
    subprocess.run(["bash", "-euc", recipe], cwd=tmp_path, env=around, check=True)
    assert make.asked() == MEASURED
    assert (tmp_path / "bench" / "build" / "site" / "index.html").exists()


@pytest.mark.parametrize("target", MEASURED)
def test_a_step_of_the_shell_recipe_that_fails_is_named_at_the_end(
    target: str, small_origin: Path, tmp_path: Path
) -> None:
    code, said, asked = measure(small_origin, tmp_path, broken=target)
    assert code == 1
    assert said.splitlines()[-1].startswith("failed: make ")
    assert target in said.splitlines()[-1]
    assert asked == [it for it in MEASURED if target != "bench-cpu" or it != "ci-ab"]


def test_gitlab_makes_what_the_workflows_make(small_origin: Path, tmp_path: Path) -> None:
    """Its jobs in the order of their stages, one clone each, artifacts handed on to `needs`."""
    make = StandInMake(tmp_path / "make")
    jobs = sorted(GITLAB_JOBS.items(), key=lambda item: GITLAB["stages"].index(item[1]["stage"]))
    for name, job in jobs:
        clone = tmp_path / name
        subprocess.run(["git", "clone", "--quiet", str(small_origin), str(clone)], check=True)
        for needed in job.get("needs", []):
            shutil.copytree(tmp_path / needed / "build", clone / "build")
        subprocess.run(
            ["bash", "-eo", "pipefail", "-c", "\n".join(job["script"])],
            cwd=clone,
            env=make.around,
            check=True,
            capture_output=True,
        )
        for path in job.get("artifacts", {}).get("paths", []):
            assert (clone / path).exists(), path
    assert make.asked() == ["actionlint", "lint", "test", *MEASURED]
    assert (tmp_path / "pages" / "public" / "index.html").read_text() == "a page\n"


def test_gitlab_shows_junit_keeps_what_failed_and_publishes_the_default_branch_alone() -> None:
    bench, pages = GITLAB_JOBS["bench"], GITLAB_JOBS["pages"]
    assert GITLAB_JOBS["test"]["artifacts"]["reports"] == {"junit": "build/tests.xml"}
    assert bench["artifacts"]["reports"] == {"junit": "results/ab/compare.xml"}
    assert bench["artifacts"]["when"] == GITLAB_JOBS["test"]["artifacts"]["when"] == "always"
    assert pages["needs"] == ["bench"]
    assert pages["rules"] == [{"if": "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"}]
    assert pages["artifacts"]["paths"] == ["public/"]
    assert GITLAB["variables"]["GIT_DEPTH"] == "0", "no tags, no last release"
    assert GITLAB["variables"]["RUNTIME"] == WORKFLOWS["bench"]["env"]["RUNTIME"]
    assert {"SITE", "REPOSITORY"} <= bench["variables"].keys()
    assert all("timeout" in job for job in GITLAB_JOBS.values())
