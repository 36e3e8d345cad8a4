"""Damaged files: what is left out, how it is named and counted, and what still counts."""

import csv
import re
import sys

import pandas as pd
import pytest

from bench.cli.reports import report_after_run
from bench.errors import FolderError, RecordError
from bench.merge.coverage import notes, sentence
from bench.merge.merging import merge
from bench.merge.reading import Damage
from bench.records.columns import RUN_COLUMNS
from bench.records.folder import ResultsFolder
from bench.records.rows import write_table
from bench.records.tables import CURVE_COLUMNS
from bench.report.build import build_report
from tests.builders.results import Results, two_arms
from tests.builders.shared import bench


def spoil(folder: Results, file: str, line: int, by: bytes) -> None:
    """Put other bytes in place of a line, from 1, its line feed left as it is."""
    path = folder.path / file
    lines = path.read_bytes().split(b"\n")
    lines[line - 1] = by
    path.write_bytes(b"\n".join(lines))


def three(folder: Results) -> Results:
    """One arm with three seeds, all ok and with curves."""
    for seed in (1, 2, 3):
        folder.cell(seed=seed, val_loss_final=float(seed))
        folder.curve(folder.plan[-1]["run_id"], [(0, 0.0, 4.0), (100, 5.0, float(seed))])
    return folder


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ({"val_loss_final": "1,7"}, "val_loss_final is '1,7', not a number"),
        ({"perplexity": "much"}, "perplexity is 'much', not a number"),
        ({"steps": "100.5"}, "steps is '100.5', not a whole number"),
        ({"attempt": "x"}, "attempt is 'x', not a whole number"),
        ({"attempt": ""}, "attempt is empty"),
        ({"status": "fine"}, "status is 'fine'; known are ok, diverged,"),
        ({"tainted": "yes"}, "tainted is 'yes', not true or false"),
        ({"started_at": "2026-01-01 yesterday"}, "not a time with its zone"),
        ({"started_at": "2026-01-01T00:00:00"}, "not a time with its zone"),
    ],
)
def test_a_row_with_a_damaged_field_is_left_out_and_its_cell_open(new, field, why):
    folder = three(new())
    folder.runs[1] |= field
    merged = merge([folder.write()])
    (damage,) = merged.damage
    assert (damage.file, damage.line, damage.lines) == ("first/runs.csv", 3, 1)
    assert why in damage.why
    assert [cell.status for cell in merged.cells] == ["ok", "open", "ok"]
    (note,) = notes(merged)
    assert note.startswith(f"first/runs.csv: 1 damaged line left out, line 3 ({damage.why}).")
    assert "counts as open" in note


@pytest.mark.parametrize(
    ("by", "why"),
    [
        (b"1,2,3", f"3 fields under a header of {len(RUN_COLUMNS)}"),
        (b"", f"0 fields under a header of {len(RUN_COLUMNS)}"),
        (b"\xff\xfe,1", "'utf-8' codec can't decode byte 0xff"),
        (b'"open,1,2', "unexpected end of data"),
    ],
)
def test_a_damaged_line_takes_no_other_with_it(new, by, why):
    folder = three(new())
    folder.write()
    spoil(folder, "runs.csv", 2, by)
    merged = merge([folder.path])
    (damage,) = merged.damage
    assert (damage.file, damage.line, damage.lines) == ("first/runs.csv", 2, 1)
    assert why in damage.why
    assert [cell.status for cell in merged.cells] == ["open", "ok", "ok"]


def test_the_first_of_several_damaged_lines_is_told_and_all_are_counted(new):
    folder = three(new())
    folder.runs[0]["attempt"] = "one"
    folder.runs[2]["status"] = "fine"
    merged = merge([folder.write()])
    assert merged.damage == (
        Damage("first/runs.csv", 2, 2, "attempt is 'one', not a whole number"),
    )
    assert "2 damaged lines left out, the first is line 2 (" in notes(merged)[0]


def test_an_earlier_attempt_stands_where_the_last_is_damaged(new):
    folder = new()
    run_id = folder.planned()
    folder.ended(run_id, status="crashed", attempt=1)
    folder.ended(run_id, attempt=2, val_loss_final="1,7")
    assert [cell.status for cell in merge([folder.write()]).cells] == ["crashed"]


def test_a_cell_whose_plan_is_damaged_counts_by_its_row(new):
    folder = three(new())
    folder.plan[0]["seed"] = "first"
    merged = merge([folder.write()])
    assert merged.damage == (Damage("first/plan.csv", 2, 1, "seed is 'first', not a whole number"),)
    assert sorted(cell.seed for cell in merged.cells) == [1, 2, 3]  # the first has run all the same
    told, dropped = notes(merged)
    assert "A run without its line here counts only if it was made." in told
    assert "1 run had seeds that the plan no longer names" in dropped


N = len(CURVE_COLUMNS)
UNREAD = b"," * (N - 8)  # columns that the report does not read


@pytest.mark.parametrize(
    ("by", "why"),
    [
        (b"gpt/adamw/cpu#1,host1,1,0.5,0,0.0,,4.0" + UNREAD, "step is '0.5', not a whole number"),
        (b"gpt/adamw/cpu#1,host1,1,,0,0.0,,4.0" + UNREAD, "step is '', not a whole number"),
        (b"gpt/adamw/cpu#1,host1,1,0,0,0.0,,much" + UNREAD, "val_loss is 'much', not a number"),
        (b"gpt/adamw/cpu#1,host1", f"2 fields under a header of {N}"),
        (b"", f"0 fields under a header of {N}"),
        (b"\xff", "'utf-8' codec can't decode"),
    ],
)
def test_a_damaged_evaluation_is_left_out_of_its_curve(new, by, why):
    folder = three(new())
    folder.write()
    spoil(folder, "curves.csv", 2, by)
    merged = merge([folder.path])
    (damage,) = merged.damage
    assert (damage.file, damage.line, damage.lines) == ("first/curves.csv", 2, 1)
    assert why in damage.why
    assert [cell.curve.steps.tolist() for cell in merged.cells] == [[100], [0, 100], [0, 100]]
    assert [cell.status for cell in merged.cells] == ["ok"] * 3
    assert "Curves lack these evaluations." in notes(merged)[0]


def test_curves_without_their_header_are_none_and_are_named(new):
    folder = three(new())
    folder.write()
    spoil(folder, "curves.csv", 1, b"run_id,host_id,attempt,tokens,val_loss")
    merged = merge([folder.path])
    (damage,) = merged.damage
    assert damage.why == "lacks the columns step; no curve of it is shown"
    assert notes(merged) == [f"first/curves.csv is damaged: {damage.why}."]
    assert not any(cell.curve for cell in merged.cells)
    assert sentence(cell.status for cell in merged.cells) == "3 of 3 runs ok"


@pytest.mark.parametrize("file", ["runs.csv", "plan.csv"])
@pytest.mark.parametrize("header", [b"run_id,seed", b"\xff\xfe", b'"run_id'])
def test_a_folder_without_a_header_is_left_out_if_another_remains(new, file, header):
    folder, other = three(new("a")), three(new("b"))
    folder.write(), other.write()
    spoil(folder, file, 1, header)
    merged = merge([folder.path, other.path])
    (damage,) = merged.damage
    assert (damage.file, damage.line, damage.lines) == (f"a/{file}", 0, 0)
    assert [source.name for source in merged.sources] == ["b"]
    assert [cell.source for cell in merged.cells] == [0, 0, 0]
    (note,) = notes(merged)
    assert note.startswith(f"a/{file} is damaged: ")
    assert note.endswith("; the whole folder is left out.")
    with pytest.raises(RecordError, match=rf"{re.escape(file)} .*Restore its header line"):
        merge([folder.path])


def test_a_folder_that_is_none_is_refused_beside_others(new, tmp_path):
    with pytest.raises(FolderError, match="no results folder"):
        merge([three(new()).write(), tmp_path / "typo"])


def test_a_line_that_a_crash_cut_off_is_no_damage(new):
    folder = three(new())
    folder.write()
    for file in ("plan.csv", "runs.csv", "curves.csv"):
        with (folder.path / file).open("ab") as lines:
            lines.write(b"gpt/adamw/cpu#3,host1,1,200,0,9.0,,1")  # of curves.csv nearly whole
    merged = merge([folder.path])
    assert (merged.damage, sentence(cell.status for cell in merged.cells)) == (
        (),
        "3 of 3 runs ok",
    )
    assert [len(cell.curve) for cell in merged.cells] == [2, 2, 2]


def test_what_excel_has_saved_reads_the_same(new):
    folder = three(new())
    folder.write()
    before = merge([folder.path])
    for file in ("plan.csv", "runs.csv", "curves.csv"):
        path = folder.path / file
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    merged = merge([folder.path])
    assert merged.damage == ()
    assert [cell.row for cell in merged.cells] == [cell.row for cell in before.cells]
    assert [cell.curve.val_loss.tolist() for cell in merged.cells] == [[4, 1], [4, 2], [4, 3]]


def test_rows_of_other_versions_merge(new):
    older, newer = three(new("older")), new("newer")
    newer.cell(seed=4, val_loss_final=4.0)
    older.write(), newer.write()
    fewer = [name for name in RUN_COLUMNS if name not in ("perplexity", "started_at")]
    write_table(older.path / "runs.csv", fewer, older.runs)
    more = [{**row, "carbon_g": 7} for row in newer.runs]
    write_table(newer.path / "runs.csv", [*RUN_COLUMNS, "carbon_g"], more)
    merged = merge([older.path, newer.path])
    assert merged.damage == ()
    assert [cell.number("perplexity") for cell in merged.cells] == [None, None, None, 7.389]
    assert [cell.text("carbon_g") for cell in merged.cells] == ["", "", "", "7"]


@pytest.mark.slow
def test_the_report_and_the_commands_tell_of_damage(new):
    folder = two_arms(new())
    folder.runs[0]["val_loss_final"] = "1,7"
    folder.curves[3]["step"] = "x"
    out = folder.write() / "report"
    built = build_report([folder.path], out)
    assert (built.coverage, built.damaged) == ("3 of 4 runs ok, 1 open", 2)
    page = (out / "index.html").read_text()
    assert "first/runs.csv: 1 damaged line left out, line 2" in page
    assert "first/curves.csv: 1 damaged line left out, line 5" in page
    told = bench("report", folder.path)
    assert told.returncode == 1
    assert "2 files are damaged" in told.stderr
    assert "3 of 4 runs ok, 1 open" in told.stdout
    assert report_after_run(ResultsFolder(folder.path), 0) == 1


@pytest.mark.slow
def test_without_damage_the_exit_code_is_0(new):
    folder = two_arms(new())
    told = bench("report", folder.write())
    assert (told.returncode, told.stderr) == (0, "")
    assert report_after_run(ResultsFolder(folder.path), 0) == 0
    assert report_after_run(ResultsFolder(folder.path), 1) == 1


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["1e300", repr(sys.float_info.max), "1e51"])
def test_figures_beyond_all_bounds_count_as_the_bound_and_are_told(new, loss):
    """Their arm is the worst by far, and no seed of it is missing."""
    folder = two_arms(new(), seeds=range(1, 6))
    huge = {"val_loss_final": loss, "train_loss_final": loss, "perplexity": loss}
    for row in folder.runs:
        if row["optimizer"] == "muon":
            row |= huge
    for row in folder.curves[len(folder.curves) // 2 :]:
        row |= {"val_loss": loss, "train_loss": loss}
    matrix = "claim: {baseline: {model: gpt, optimizer: adamw}, metric: val_loss_final, margin: 1}"
    (folder.write() / "matrix.yaml").write_text(f"name: tiny\n{matrix}\n")
    out = folder.path / "report"
    assert build_report([folder.path], out).coverage == "10 of 10 runs ok"
    report = (out / "report.md").read_text()
    told = "Figures beyond 1e+50 count as 1e+50 here, in 5 runs: "
    assert told + "perplexity, train_loss_final, val_loss_final." in unescaped(report)
    assert "gpt + muon | 1.000e+50 ± 0.0000" in unescaped(report)
    assert max(map(len, report.split())) < 200, "a number is written in full"
    with (out / "summary.csv").open() as rows:
        means = {row["optimizer"]: row["val_loss_final_mean"] for row in csv.DictReader(rows)}
    assert means == {"adamw": "2.03", "muon": "1e+50"}
    frame = pd.read_parquet(out / "runs.parquet")
    assert frame["val_loss_final"].max() == float(loss), "the rows themselves are as they were"


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_row_without_its_attempt_is_named_by_the_commands(command, tiny_matrix, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    row = {"run_id": "a", "status": "ok", "attempt": ""}
    write_table(out / "runs.csv", RUN_COLUMNS, [row])
    local = ("--runtime", "local", "--worker-python", sys.executable)
    answer = bench(command, tiny_matrix, "--out", out, *local)
    assert answer.returncode == 2
    assert f"error: {out / 'runs.csv'}:2: attempt is '', not a whole number." in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.slow
def test_two_versions_with_figures_beyond_all_bounds_are_compared(new):
    base, head = two_arms(new("base"), seeds=range(1, 6)), two_arms(new("head"), seeds=range(1, 6))
    for row in head.runs:
        row["val_loss_final"] = "1e300"
    answer = bench("compare", base.write(), head.write(), "--fail-on", "val_loss_final>1")
    assert (answer.returncode, answer.stderr) == (1, "")
    assert "+1.000e+50" in answer.stdout


def unescaped(markdown: str) -> str:
    return markdown.replace("\\", "")
