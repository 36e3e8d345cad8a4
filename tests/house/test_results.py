"""Published results: their reports follow from their CSVs, and their READMEs quote them rightly."""

import math
import re
import shutil
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.records.columns import TIMINGS
from bench.records.rows import Row, read_table
from bench.report.build import build_report
from tests.builders.shared import ROOT
from tests.report.published import LEAST_UNDISTURBED

PUBLISHED = [path.parent for path in sorted((ROOT / "results").glob("*/README.md"))]


@pytest.fixture(params=PUBLISHED, ids=lambda path: path.name)
def results(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.param
    return folder


def test_there_are_published_results() -> None:
    assert PUBLISHED


@pytest.mark.slow
def test_the_report_follows_from_the_csvs(results: Path, tmp_path: Path) -> None:
    copy = tmp_path / results.name
    shutil.copytree(results, copy, ignore=shutil.ignore_patterns("report"))
    build_report(folders(copy), copy / "report")
    for name in ("summary.csv", "report.md", "index.html"):
        assert said(copy / "report" / name) == said(results / "report" / name)


def said(file: Path) -> str:
    """A file's text; without what is packed in it, which another zlib packs otherwise."""
    return re.sub(r"(base64,|id=\"plotly\">)[\w+/=]+", r"\1", file.read_text(encoding="utf-8"))


def folders(results: Path) -> list[Path]:
    """Where its rows are: itself, or folders in it that have a report together."""
    return sorted(
        table.parent for table in (*results.glob("runs.csv"), *results.glob("*/runs.csv"))
    )


def test_the_readmes_figures_are_those_of_the_csvs(results: Path) -> None:
    """A table line starts with an arm; what the heading names is computed, as it is shown.

    Where there are several folders of rows, the heading begins with `arm in FOLDER`.
    """
    places = {f"arm in {folder.name}": arms_of(folder) for folder in folders(results)}
    if len(places) == 1:
        places = {"arm": arms_of(results)}
    arms: dict[str, list[Row]] = {}
    lines = (results / "README.md").read_text().splitlines()
    heading: list[str] = []
    checked = 0
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in places:
            arms = places[cells[0]]
            heading = [re.sub("`(.*?)`", r"\1", cell) for cell in cells]
        elif cells[0] in arms:
            for column, shown in zip(heading[1:], cells[1:], strict=True):
                if not column.endswith(" reported"):
                    checked += 1
                    assert shown == computed(column, arms[cells[0]], like=shown), (line, column)
    assert checked >= 4 * sum(map(len, places.values()))


def arms_of(folder: Path) -> dict[str, list[Row]]:
    """The rows of each arm that ended well, by its name in a table."""
    arms: dict[str, list[Row]] = defaultdict(list)
    for row in ok_rows(folder):
        arms[f"{row['model']} + {row['optimizer']}"].append(row)
    return arms


def computed(column: str, rows: Sequence[Row], like: str) -> str:
    """A cell of such a table: a mean over the rows with as many decimals as `like` has.

    A time is of undisturbed rows, if they are enough.
    """
    quiet = [row for row in rows if row["tainted"] != "true"]
    if column == "undisturbed seeds":
        return ", ".join(sorted(row["seed"] for row in quiet))
    if column in TIMINGS and len(quiet) < LEAST_UNDISTURBED:
        return "too few"
    if column == "test perplexity":
        figures = [math.exp(float(row["test_loss_final"])) for row in rows]
    else:
        figures = [float(row[column]) for row in (quiet if column in TIMINGS else rows)]
    return f"{statistics.fmean(figures):,.{len(like.partition('.')[2])}f}"


def ok_rows(results: Path) -> list[Row]:
    """Of trials no figure is quoted: they only tell which settings were taken."""
    rows = read_table(results / "runs.csv")
    return [row for row in rows if row["status"] == "ok" and row.get("part") != "trial"]


def test_nothing_of_the_machine_but_its_hash_is_published(results: Path) -> None:
    for file in results.rglob("*"):
        if file.suffix in (".csv", ".json", ".md", ".html", ".yaml", ".log"):
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"(?<![\w/.])/(home|root|work|Users|tmp)/", text), file
