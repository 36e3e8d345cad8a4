"""The report: what it counts, what it averages, what it keeps apart, and how it is written."""

import base64
import csv
import math
import shutil
import subprocess
import sys

import pytest

from bench.errors import FolderError
from bench.merge.coverage import notes, sentence
from bench.merge.curves import (
    OPENING,
    at_equal_cost,
    band_over_seconds,
    flops,
    seconds,
    seed_lines,
    steps,
    visible_range,
)
from bench.merge.merging import merge
from bench.merge.sections import make_sections
from bench.records.columns import RUN_COLUMNS
from bench.records.rows import write_table
from bench.report.build import build_report
from bench.report.page.markdown import escape
from bench.report.plots.gallery import NAMES
from bench.statistics.text import of_loss, of_measure, write, write_spread
from tests.builders.results import LATER, Results, sections_of, two_arms
from tests.builders.tags import Tags

# These folders have no cells' own files, from which the other pictures are drawn.
# Of the others, each has tests with what it needs: raw files, trials, or experts.
LEFT = ("step_times", "gpu_over_time", "sensitivity", "experts")
PICTURES = [name for name in NAMES if name not in LEFT]
FILES = {
    "index.html",
    "report.md",
    "summary.csv",
    "runs.parquet",
    *(f"{name}.{suffix}" for name in PICTURES for suffix in ("png", "svg")),
}


def statuses(*folders: Results) -> str:
    return sentence(cell.status for cell in merge([each.write() for each in folders]).cells)


# --- coverage: every planned cell, whatever became of it


def test_coverage_counts_selected_cells_by_their_end(new):
    folder = new()
    folder.cell(seed=1)
    folder.cell(seed=2, status="diverged")
    folder.cell(seed=3, status="skipped")
    folder.planned(seed=4)
    folder.planned(seed=5, selected=False)
    assert statuses(folder) == "1 of 4 runs ok, 1 diverged, 1 skipped, 1 open"


def test_the_first_ok_attempt_is_the_one_by_number_not_by_text(new):
    folder = new()
    run_id = folder.planned()
    folder.ended(run_id, attempt=10, val_loss_final=9.0)
    folder.ended(run_id, attempt=9, val_loss_final=1.5)
    folder.curve(run_id, [(0, 0.0, 4.0), (100, 5.0, 1.5)], attempt=9)
    folder.curve(run_id, [(0, 0.0, 9.0), (50, 5.0, 9.0)], attempt=10)
    merged = merge([folder.write()])
    (cell,) = merged.cells
    assert (cell.ok, cell.number("val_loss_final")) == (True, 1.5)
    assert cell.curve.val_loss.tolist() == [4.0, 1.5]
    assert (merged.sources[0].attempts, merged.sources[0].superseded) == (2, 1)


def test_rows_that_the_plan_does_not_name_are_told_but_not_summarised(new):
    folder = new()
    folder.cell(seed=1, val_loss_final=1.0)
    folder.ended(folder.planned(optimizer="muon"), val_loss_final=9.0)
    folder.plan.pop()
    merged = merge([folder.write()])
    cells, arms = notes(merged)
    assert "1 run that plan.csv no longer names" in cells
    assert "1 configuration ran that the plan no longer names" in arms
    (section,) = make_sections(merged)
    assert section.arms[0].spread("val_loss_final").mean == 1.0
    assert sentence(cell.status for cell in merged.cells) == "1 of 1 runs ok"


def test_a_tainted_row_is_told(new):
    folder = new()
    folder.cell(tainted=True, taint_reasons="another process on its CPU")
    merged = merge([folder.write()])
    (note,) = notes(merged)
    assert "1 run (another process on its CPU)" in note


# --- statistics


def test_mean_and_deviation_by_hand(new):
    folder = new()
    for seed, loss in ((1, 1.0), (2, 2.0), (3, 4.0)):
        folder.cell(seed=seed, val_loss_final=loss)
    folder.write()
    build_report([folder.path], folder.path / "report")
    with (folder.path / "report" / "summary.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["model"], row["optimizer"], row["n_seeds"], row["n_ok"]) == ("gpt", "adamw", *"33")
    assert float(row["val_loss_final_mean"]) == pytest.approx(7 / 3)
    # deviations -4/3, -1/3, 5/3: squares sum to 42/9, over n - 1 = 2
    assert float(row["val_loss_final_sd"]) == pytest.approx(math.sqrt(42 / 9 / 2))
    assert (row["steps"], row["n_params"]) == ("100", "2000000")
    assert (row["gpu_energy_j_mean"], row["gpu_energy_j_n"]) == ("", "0")


@pytest.mark.parametrize("turn", [1, -1])
def test_of_repeats_of_a_seed_the_earliest_counts(new, turn):
    first, second = new("a"), new("b")
    first.cell(seed=1, val_loss_final=2.0)
    first.cell(seed=2, val_loss_final=4.0)
    second.cell(seed=1, val_loss_final=1.0, **LATER)
    (section,) = sections_of(*[first, second][::turn])
    (arm,) = section.arms
    spread = arm.spread("val_loss_final")
    assert spread.by_seed == {1: 2.0, 2: 4.0}
    assert (spread.mean, spread.sd) == (3.0, pytest.approx(math.sqrt(2)))
    assert (arm.n_seeds, len(arm.ok), arm.cells_planned, len(arm.seeds)) == (2, 3, 3, 2)


def test_one_seed_has_no_deviation(new):
    folder = new()
    folder.cell()
    (section,) = sections_of(folder)
    spread = section.arms[0].spread("val_loss_final")
    assert (spread.mean, spread.sd) == (2.0, None)
    assert write_spread(spread.mean, spread.sd, of_loss) == "2.0000 ± n/a"


def test_unknown_is_left_out_and_not_zero(new):
    folder = new()
    folder.cell(seed=1, infer_time_ms_p50=None)
    folder.cell(seed=2, infer_time_ms_p50=3.0, perplexity=math.inf)
    (section,) = sections_of(folder)
    arm = section.arms[0]
    assert (arm.spread("infer_time_ms_p50").mean, arm.spread("infer_time_ms_p50").n) == (3.0, 1)
    assert arm.spread("perplexity").by_seed == {1: 7.389}
    assert arm.spread("gpu_energy_j").mean is None


# --- curves


def test_seconds_are_interpolated_up_to_the_shortest_seed(new):
    folder = new()
    for seed, end in ((1, 4.0), (2, 8.0), (3, 8.0)):
        folder.cell(seed=seed)
        folder.curve(folder.plan[-1]["run_id"], [(0, 0.0, 4.0), (100, end, 2.0)])
    (section,) = sections_of(folder)
    lines = list(seed_lines(section.arms[0], seconds).values())
    band = band_over_seconds(lines)
    assert (band.x[0], band.x[-1]) == (0.0, 4.0)
    assert band.mean[-1] == pytest.approx(8 / 3)  # 2.0 at its end, 3.0 half-way
    assert band.sd[-1] == pytest.approx(math.sqrt(1 / 3))
    two = band_over_seconds(lines[:2])
    assert two.mean[-1] == pytest.approx(2.5)
    assert two.sd is None, "times of two seeds have no deviation to draw"


def test_the_untrained_loss_does_not_set_the_range(new):
    (section,) = sections_of(two_arms(new()))
    seeds = [line for arm in section.arms for line in seed_lines(arm, steps).values()]
    low, high = visible_range(seeds, [])
    first_late = max(line.y[math.ceil(OPENING * (len(line.y) - 1))] for line in seeds)
    assert high == first_late < seeds[0].y[0] - 0.5
    assert low == min(line.y.min() for line in seeds)


def test_equal_cost_by_hand(new):
    folder = new()
    for optimizer, time, work in (("adamw", 4.0, 0), ("muon", 8.0, 100)):
        run_id = folder.planned(optimizer=optimizer)
        folder.ended(run_id, optimizer_flops_per_step=work)
        folder.curve(run_id, [(0, 0.0, 4.0), (100, time, 2.0)])
    (section,) = sections_of(folder)
    at_time = at_equal_cost(section.arms, seconds)
    assert (at_time.cost, [loss.mean for loss in at_time.losses]) == (4.0, [2.0, 3.0])
    at_work = at_equal_cost(section.arms, flops)  # 10,000 for the tokens; muon 10,000 more
    assert (at_work.cost, [loss.mean for loss in at_work.losses]) == (10_000, [2.0, 3.0])


# --- the files


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A report over two folders: ok, diverged and skipped cells, hostile names."""
    root = tmp_path_factory.mktemp("results")
    first, second = two_arms(Results(root / "first")), two_arms(Results(root / "second"))
    run_id = first.planned(model="<script>alert(1)</script>", optimizer="a|b")
    first.ended(run_id, status="diverged", reason="not finite at | step 4", stage="train")
    first.cell(seed=9, status="skipped", reason="no GPU here", env_id="", log_path=None)
    for row in second.runs:
        row["env_id"] = "sha256:env2"
    (root / "first" / "cells" / "1").mkdir(parents=True)
    (root / "first" / "cells" / "1" / "worker.log").write_text("here")
    paths = [first.write(), second.write()]
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    out = root / "deep" / "report"
    coverage = build_report(paths, out).coverage
    assert before == {file: file.read_bytes() for file in before}
    return out, paths, coverage


def test_all_files_are_there_and_no_other(built):
    out, paths, coverage = built
    further = {f"{name}-2.{suffix}" for name in PICTURES for suffix in ("png", "svg")}
    assert {file.name for file in out.iterdir()} == FILES | further
    assert coverage == "8 of 10 runs ok, 1 diverged, 1 skipped"
    assert {file.name for file in paths[0].iterdir()} == {
        "plan.csv",
        "runs.csv",
        "curves.csv",
        "cells",
    }


def test_the_page_says_coverage_first_and_why_cells_are_not_ok(built):
    page = (built[0] / "index.html").read_text()
    text = Tags(page).text
    assert text.index("8 of 10 runs ok") < text.index("not finite at | step 4")
    assert "no GPU here" in text
    assert "2 of 3 seeds, 1 skipped" in text
    assert "rewards a worse perplexity" in text
    report = (built[0] / "report.md").read_text()
    assert report.index("8 of 10 runs ok") < report.index("not finite at \\| step 4")
    assert "2 of 3 seeds, 1 skipped" in report


def test_names_are_escaped(built):
    page = (built[0] / "index.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    report = (built[0] / "report.md").read_text()
    assert "&lt;script&gt;" in report
    assert "<script>" not in report
    assert "a\\|b" in report


def test_every_table_row_of_the_markdown_has_the_columns_of_its_head(built):
    columns = None
    for line in (built[0] / "report.md").read_text().splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        count = line.replace("\\|", "").count("|")
        columns = columns or count
        assert count == columns, line


def test_pictures_on_the_page_are_there_and_described(built):
    images = [a for tag, a in Tags((built[0] / "index.html").read_text()).tags if tag == "img"]
    assert len(images) == 2 * len(PICTURES)
    files = {file.read_bytes() for file in built[0].glob("*.png")}
    for image in images:
        head, _, content = image["src"].partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(content) in files
        assert "gpt + muon" in image["alt"]


def test_nothing_names_the_machines_folders(built):
    for file in built[0].iterdir():
        assert str(built[0].parent.parent).encode() not in file.read_bytes()


@pytest.mark.slow
def test_log_is_a_link_only_where_the_page_may_follow_it(built):
    out, paths, _ = built
    far = [a.get("href") or "" for tag, a in Tags((out / "index.html").read_text()).tags]
    assert not [href for href in far if href.endswith("worker.log")]
    near = paths[0] / "report"
    build_report(paths[:1], near)
    page = (near / "index.html").read_text()
    links = {a["href"] for tag, a in Tags(page).tags if tag == "a" and a["href"][0] != "#"}
    shutil.rmtree(near)
    assert links == {"../cells/1/worker.log"}


def test_unknown_figures_say_so(new):
    folder = new()
    folder.cell(infer_time_ms_p50=None)
    folder.write()
    (folder.path / "curves.csv").unlink()
    build_report([folder.path], folder.path / "report")
    report = (folder.path / "report" / "report.md").read_text()
    lines = report.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| configuration | coverage"))
    head, _, row = (line.strip("| ").split(" | ") for line in lines[start : start + 3])
    found = dict(zip(head, row, strict=True))
    assert found["infer. p50 (ms)"] == "n/a"
    assert found["val. loss, final"] == "2.0000 ± n/a"
    assert found["parameters"] == "2,000,000"
    assert (folder.path / "report" / "comparison_graph.png").stat().st_size > 0
    assert not (folder.path / "report" / "loss_steps.png").exists()


def test_no_result_at_all_is_still_a_whole_report(new):
    folder = new()
    folder.cell(status="skipped", reason="no GPU here")
    folder.planned(seed=2)
    out = folder.write() / "report"
    out.mkdir()
    (out / "loss_steps-2.png").write_text("of an earlier report")
    (out / "mine.png").write_text("not the report's")
    assert build_report([folder.path], out).coverage == "0 of 2 runs ok, 1 skipped, 1 open"
    assert {file.name for file in out.iterdir()} == {
        "index.html",
        "report.md",
        "summary.csv",
        "runs.parquet",
        "mine.png",
    }
    page = (out / "index.html").read_text()
    assert "no GPU here" in page
    assert "not run yet" in page
    assert "<img" not in page


@pytest.mark.slow
def test_the_same_rows_give_the_same_files(new):
    folder = two_arms(new())
    folder.write()
    outs = [folder.path.parent / name for name in ("one", "two")]
    for out in outs:
        build_report([folder.path], out)
    assert all((outs[0] / name).read_bytes() == (outs[1] / name).read_bytes() for name in FILES)


# --- what is refused


def test_a_folder_that_is_none(tmp_path, new):
    with pytest.raises(FolderError, match=r"no results folder: it has no plan\.csv"):
        build_report([tmp_path / "nowhere"], tmp_path / "out")
    folder = new()
    folder.write()
    (folder.path / "runs.csv").unlink()
    with pytest.raises(FolderError, match=r"no runs\.csv.*bench run MATRIX"):
        build_report([folder.path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_older_folder_may_lack_columns(new):
    folder = new()
    folder.cell()
    folder.write()
    fewer = [name for name in RUN_COLUMNS if name not in ("perplexity", "gpu_name", "n_params")]
    write_table(folder.path / "runs.csv", fewer, folder.runs)
    (section,) = make_sections(merge([folder.path]))
    assert section.arms[0].spread("val_loss_final").mean == 2.0
    assert section.arms[0].spread("perplexity").mean is None


def test_a_target_that_cannot_be_written(new):
    folder = new()
    folder.cell()
    folder.write()
    with pytest.raises(FolderError, match="cannot be written"):
        build_report([folder.path], folder.path / "runs.csv" / "report")


def test_neither_torch_nor_pyplot_is_imported():
    code = (
        "import sys, bench.report.build; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


# --- digits


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.34, "12.3"), (0.001234, "0.00123"), (1234.5, "1,234"), (0.0, "0"), (None, "n/a")],
)
def test_measures_have_three_significant_digits(value, text):
    assert write(value, of_measure) == text


def test_a_deviation_has_the_decimals_of_its_mean():
    assert write_spread(12.34, 0.567, of_measure) == "12.3 ± 0.6"
    assert write_spread(375.2, 0.2, of_measure) == "375 ± <1"
    assert write_spread(375.2, 0.0, of_measure) == "375 ± 0"
    assert write_spread(None, None, of_measure) == "n/a"


def test_markdown_escapes_its_own_signs():
    assert escape("a|b <i> *x* [y](z) `c` & $") == (
        "a\\|b &lt;i&gt; \\*x\\* \\[y\\](z) \\`c\\` &amp; \\$"
    )
