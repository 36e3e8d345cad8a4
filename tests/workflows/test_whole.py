"""`bench.yml` whole, from an empty clone to what it publishes: real targets, small matrices.

It sets up its .venv by itself, as on an empty machine; cells run in containers where an engine
answers.
"""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.launch.engine import Engine
from bench.records.rows import read_table
from tests.builders.clones import RELEASE, git, link_wheels
from tests.builders.containers import ENGINES, with_image
from tests.builders.shared import ROOT, bench
from tests.builders.sites import made_up
from tests.builders.visits import Visit
from tests.builders.workflow import Run, Runner, read

pytestmark = pytest.mark.slow
pytest_plugins = "tests.builders.browser"

BENCH = read(ROOT / ".github" / "workflows" / "bench.yml")
TOLD_CHARACTERS = 4000
EARLIER = 3  # bundles
# A rule that a machine which is busy with other tests does not decide.
RULE = {"FAIL_ON": "val_loss_final>0.1"}


@pytest.fixture(scope="module")
def runtime() -> str:
    """The first engine that answers, with the CPU image; else cells are local processes."""
    for name in ENGINES:
        if Engine(name).why_not() is None:
            return with_image(name).name
    return "local"


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that is published already, with made-up bundles."""
    place = tmp_path_factory.mktemp("earlier")
    made_up(place / "site", place / "work", count=EARLIER)
    made = bench("site", place / "site")
    assert made.returncode == 0, made.stderr
    return place / "site"


@pytest.fixture(scope="module")
def published(
    origin: Path, runtime: str, earlier: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Main was pushed, and all went well."""
    place = tmp_path_factory.mktemp("bench")
    around = {"RUNTIME": runtime, **RULE}
    variables = {"SITE": str(earlier)}
    runner = Runner(place, origin, variables=variables, around=around, furnish=link_wheels)
    ended = runner.run(BENCH)
    assert not ended.failed, ended.told[-TOLD_CHARACTERS:]
    return ended


def test_every_cell_ran_where_it_should(published: Run, runtime: str) -> None:
    folder = published.artifact("results-cpu")
    for place, count in (("cpu", 4), ("ab/base", 2), ("ab/head", 2)):
        found = read_table(folder / place / "runs.csv")
        assert [row["status"] for row in found] == ["ok"] * count
        kind = {row["runtime"] for row in found}
        assert kind == {runtime}
        assert len({row["image_id"] for row in found}) == 1
        assert all(row["image_id"] for row in found) is (runtime != "local")


def test_this_commit_was_compared_with_the_release(published: Run) -> None:
    ab = published.artifact("results-cpu") / "ab"
    assert RELEASE in published.told
    suite = ElementTree.parse(ab / "compare.xml").getroot()
    cases = list(suite.iter("testcase"))
    assert cases
    assert not [case for case in cases if case.find("failure") is not None]
    annotations = (ab / "annotations.txt").read_text()
    assert annotations.startswith("::")
    assert annotations in published.told, "GitHub reads them where a step prints"


def test_the_summary_has_the_report_and_the_comparison(published: Run) -> None:
    report = published.artifact("results-cpu") / "cpu" / "report" / "report.md"
    compared = published.artifact("results-cpu") / "ab" / "compare.md"
    assert report.read_text().splitlines()[0] in published.summary
    assert compared.read_text() in published.summary


def test_the_bundles_of_the_artifact_and_of_the_site_are_verified(
    published: Run, earlier: Path
) -> None:
    (kept,) = published.artifact("results-cpu").glob("*.tar.gz")
    before = {file.name for file in (earlier / "bundles").iterdir()}
    assert len(before) == EARLIER
    (new,) = (file for file in (published.site / "bundles").iterdir() if file.name not in before)
    assert before < {file.name for file in (published.site / "bundles").iterdir()}
    assert kept.read_bytes() == new.read_bytes()
    answer = bench("verify", new)
    assert answer.returncode == 0, answer.stdout


def test_the_site_opens_from_the_disk_and_leads_to_the_report(
    published: Run, origin: Path, browser: Any
) -> None:
    visit = Visit(browser, published.site / "index.html")
    commit = git(origin, "rev-parse", "HEAD").strip()
    assert visit.page.locator(
        f"a[href='https://github.com/somebody/bench/commit/{commit}']"
    ).count()
    visit.page.locator(f"a[href*='{commit[:7]}-cpu/report/']").first.click()
    assert "nanogpt + sgd" in visit.page.content()
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    visit.context.close()
