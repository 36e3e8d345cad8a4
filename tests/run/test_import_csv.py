"""Runs of a CSV that somebody else wrote: read right, or refused with line, column and remedy."""

import contextlib
import csv
import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import FolderError, ForeignError
from bench.merge.merging import merge
from bench.merge.sections import make_sections
from bench.records.rows import read_table
from bench.run.imported.request import CsvRequest
from bench.run.imported.results import Foreign
from tests.builders.results import Results, two_arms
from tests.builders.shared import bench

STEADY = settings(max_examples=60, deadline=None, derandomize=True, database=None)
COLUMNS = {"model": "arch", "optimizer": "opt", "seed": "seed"}
HEADER = "arch,opt,seed,loss\n"
ONE = HEADER + "gpt,adamw,1,2.5\n"


def asked(**changes: Any) -> CsvRequest:
    """What `import` is asked to make of ONE, or otherwise."""
    told: dict[str, Any] = {"columns": COLUMNS, "fixed": [], "metrics": ["val_loss=loss"]}
    told |= {"better": [], "steps": "", "baseline": "", "margin": None, "name": ""}
    return CsvRequest(**told | changes)


def read(folder: Path, text: str | bytes, **changes: Any) -> Foreign:
    file = folder / "runs.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return asked(**changes).read(file)[0]


def only(foreign: Foreign) -> dict[str, Any]:
    """The columns of its one run."""
    (run,) = foreign.runs.values()
    return dict(run.columns)


def mistakes(folder: Path, text: str | bytes, **changes: Any) -> list[tuple[int, str, str]]:
    with pytest.raises(ForeignError) as refused:
        read(folder, text, **changes)
    return [(each.line, each.where, each.what) for each in refused.value.mistakes]


@pytest.mark.slow
def test_a_run_that_one_configuration_lacks_is_missing_and_no_advantage(tmp_path: Path) -> None:
    """Who keeps no failed runs has a gap in place of them."""
    losses = {"adamw": 2.5, "muon": 2.25}
    text = HEADER + "".join(
        f"gpt,{name},{seed},{loss + seed / 1000}\n"
        for name, loss in losses.items()
        for seed in range(1, 11)
        if name == "adamw" or seed <= 7
    )
    found = read(tmp_path, text, baseline="gpt+adamw", margin=0.01)
    assert len(found.planned) == 20
    found.write(tmp_path / "results")
    report = bench("report", tmp_path / "results")
    assert "gpt + muon is undecided on 7 of 10 planned seeds, 3 missing in this" in report.stdout


# --- What is read ---------------------------------------------------------------------------------


def test_a_line_is_a_run(tmp_path: Path) -> None:
    text = HEADER + "gpt,adamw,1,2.5\ngpt,muon,1,2.25\n"
    found = read(tmp_path, text)
    assert [(*place,) for place in found.runs] == [("gpt", "adamw", "", 1), ("gpt", "muon", "", 1)]
    assert [run.columns for run in found.runs.values()] == [
        {"status": "ok", "val_loss_final": 2.5},
        {"status": "ok", "val_loss_final": 2.25},
    ]
    assert not any(run.curve for run in found.runs.values())


STEPS = """arch,opt,seed,step,loss,t,train
gpt,adamw,1,20,2.0,1.5,
gpt,adamw,1,0,4.0,0.0,
gpt,adamw,1,10,1.5,,
gpt,adamw,1,10,,0.75,1.9
"""


def test_lines_of_a_run_are_a_curve_in_order_of_steps(tmp_path: Path) -> None:
    metrics = ["val_loss=loss", "train_time_s=t", "train_loss=train"]
    found = read(tmp_path, STEPS, steps="step", metrics=metrics)
    assert only(found) == {
        "status": "ok",
        "steps": 20,
        "val_loss_final": 2.0,
        "val_loss_best": 1.5,
        "train_time_s": 1.5,
        "step_time_source": "told",
        "train_loss_final": 1.9,
    }
    (run,) = found.runs.values()
    assert list(run.curve) == [
        {"step": 0, "val_loss": 4.0, "train_time_s": 0.0, "train_loss": None},
        {"step": 10, "val_loss": 1.5, "train_time_s": 0.75, "train_loss": 1.9},
        {"step": 20, "val_loss": 2.0, "train_time_s": 1.5, "train_loss": None},
    ]


def test_a_metric_of_ones_own_has_its_direction_in_the_settings(tmp_path: Path) -> None:
    changes = {"metrics": ["val_bpb=loss"], "better": ["val_bpb=lower"]}
    found = read(tmp_path, ONE, **changes)
    assert only(found) == {"status": "ok", "metrics": '{"val_bpb": 2.5}'}
    told = {"program": {"name": "runs.csv", "metrics": {"val_bpb": "lower"}}}
    assert json.loads(found.settings) == told


def test_what_has_no_column_is_set(tmp_path: Path) -> None:
    fixed = ["model=gpt2", "device=cuda", "seed=7"]
    found = read(tmp_path, "opt,loss\nadamw,2\n", columns={"optimizer": "opt"}, fixed=fixed)
    assert list(found.runs) == [("gpt2", "adamw", "cuda", 7)]


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + ONE.encode(),  # as Excel marks UTF-8
        ONE.replace(",", ";"),
        ONE.replace(",", "\t"),
        ONE.replace(",", "|"),
        ONE.replace("\n", "\r\n"),
        ONE.rstrip("\n"),
        ONE.replace("gpt", '"gpt"').replace("arch", '"arch"'),
        ONE.replace(",", ", "),
        ONE + "\n\n",
        ONE.replace("1,2.5", "1.0,2.50e0"),
        'arch,opt,seed,note,note,loss\ngpt,adamw,1,"a, ""b""\nc",é,2.5\n',
    ],
)
def test_one_run_however_it_is_written(tmp_path: Path, text: str | bytes) -> None:
    found = read(tmp_path, text)
    assert list(found.runs) == [("gpt", "adamw", "", 1)]
    assert only(found) == {"status": "ok", "val_loss_final": 2.5}


def test_which_separator_was_found_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(ONE.replace(",", ";"))
    options = ["--model", "arch", "--optimizer", "opt", "--seed", "seed"]
    out = tmp_path / "out"
    answer = bench(
        "import", tmp_path / "runs.csv", *options, "--metric", "val_loss=loss", "--out", out
    )
    assert answer.returncode == 0, answer.stderr
    assert "is a semicolon" in answer.stderr
    assert f"imported 1 run into {out}: 1 ok" in answer.stdout


# --- How runs ended -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-Infinity", "1e999"])
def test_a_loss_that_is_not_finite_has_diverged(tmp_path: Path, text: str) -> None:
    columns = only(read(tmp_path, ONE.replace("2.5", text)))
    assert columns == {
        "status": "diverged",
        "reason": f"val_loss is {float(text)} (runs.csv, line 2)",
    }


def test_a_loss_that_recovered_has_diverged_all_the_same(tmp_path: Path) -> None:
    lines = "arch,opt,seed,step,loss\n" + "".join(
        f"gpt,adamw,1,{step},{loss}\n" for step, loss in ((1, 3), (2, "nan"), (3, 2))
    )
    assert only(read(tmp_path, lines, steps="step"))["status"] == "diverged"


def test_of_a_metric_of_ones_own_the_last_one_counts(tmp_path: Path) -> None:
    changes = {"metrics": ["acc=loss"], "better": ["acc=higher"], "steps": "step"}
    lines = "arch,opt,seed,step,loss\ngpt,adamw,1,1,nan\ngpt,adamw,1,2,{}\n"
    assert only(read(tmp_path, lines.format("0.5"), **changes))["metrics"] == '{"acc": 0.5}'
    assert only(read(tmp_path, lines.format("inf"), **changes))["status"] == "diverged"


def test_a_run_without_its_loss_has_crashed(tmp_path: Path) -> None:
    columns = only(read(tmp_path, ONE.replace("2.5", "")))
    assert columns == {"status": "crashed", "reason": "no val_loss in runs.csv, line 2"}


def test_a_run_whose_losses_end_before_those_of_other_seeds_has_crashed(tmp_path: Path) -> None:
    """pandas writes NaN as an empty field: such a run must not stand by its last good loss."""
    lines = ["arch,opt,seed,step,loss"]
    for opt, last in (("adamw", 10), ("muon", 6)):
        for seed in (1, 2):
            end = last if seed == 1 else 10
            lines += [f"gpt,{opt},{seed},{step},{2.0 if step <= end else ''}" for step in range(11)]
    found = read(tmp_path, "\n".join(lines), steps="step")
    early = ("gpt", "muon", "", 1)
    assert found.runs[early].columns["steps"] == 6  # type: ignore[index]
    found = found.held_to_length()
    ends = {place[1::2]: run.columns["status"] for place, run in found.runs.items()}
    assert ends == {
        ("adamw", 1): "ok",
        ("adamw", 2): "ok",
        ("muon", 1): "crashed",
        ("muon", 2): "ok",
    }
    assert found.runs[early].columns == {  # type: ignore[index]
        "status": "crashed",
        "reason": "it ends at step 6, and others of its configuration at step 10 (without "
        "--any-length)",
        "steps": 6,
    }


def test_configurations_may_have_different_lengths(tmp_path: Path) -> None:
    lines = "".join(
        f"gpt,{opt},{seed},{last},2.0\n" for opt, last in (("a", 5), ("b", 9)) for seed in (1, 2)
    )
    found = read(tmp_path, "arch,opt,seed,step,loss\n" + lines, steps="step")
    assert found.held_to_length() == found


def test_unknown_times_stay_empty(tmp_path: Path) -> None:
    text = "arch,opt,seed,loss,t\ngpt,adamw,1,2.5,\ngpt,adamw,2,2.5,nan\n"
    found = read(tmp_path, text, metrics=["val_loss=loss", "train_time_s=t"])
    assert all("train_time_s" not in run.columns for run in found.runs.values())


# --- What is refused ------------------------------------------------------------------------------


def test_all_mistakes_at_once_with_line_and_column(tmp_path: Path) -> None:
    text = (
        "arch,opt,seed,step,loss\n"
        "gpt,adamw,one,1,2.5\n"
        "gpt (big),adamw,1,1,2.5\n"
        "gpt,,1,1,2.5\n"
        "gpt,adamw,1,1,2.5\n"
        'gpt,adamw,1,1,"2,4"\n'
        "gpt,adamw,1,1,2.4\n"
        "gpt,adamw,1,1.5,2.4\n"
        "gpt,adamw,1,2\n"
        "gpt,adamw,-1,2,2.4\n"
    )
    assert [(line, where) for line, where, _ in mistakes(tmp_path, text, steps="step")] == [
        (2, "seed"),
        (3, "arch"),
        (4, "opt"),
        (6, "loss"),
        (7, ""),
        (8, "step"),
        (9, ""),
        (10, "seed"),
    ]


def test_the_message_names_file_line_column_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(ForeignError) as refused:
        read(tmp_path, ONE.replace("2.5", '"2,5"'))
    file = tmp_path / "runs.csv"
    assert str(refused.value) == (
        f"1 mistake in {file}; nothing was imported.\n"
        f"  {file}:2: loss: '2,5' is not a number. Write it with a point, or nothing if unknown."
    )


def test_a_missing_column_is_told_with_the_nearest(tmp_path: Path) -> None:
    found = mistakes(tmp_path, ONE, metrics=["val_loss=los", "train_time_s=t"])
    assert [(line, where) for line, where, _ in found] == [(1, "los"), (1, "t")]
    assert "Did you mean 'loss'? Allowed: arch, loss, opt, seed." in found[0][2]


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    ((line, where, what),) = mistakes(tmp_path, "arch,opt,seed,loss,loss\ngpt,adamw,1,2,3\n")
    assert (line, where) == (1, "loss")
    assert "2 columns have this name" in what


def test_two_lines_of_a_run_need_steps(tmp_path: Path) -> None:
    ((line, _, what),) = mistakes(tmp_path, ONE + "gpt,adamw,1,2.5\n")
    assert line == 3
    assert what == "is gpt + adamw, seed 1 again, as line 2. Remove one, or give --steps."


def test_two_lines_of_a_step_must_not_contradict_each_other(tmp_path: Path) -> None:
    lines = "arch,opt,seed,step,loss\ngpt,adamw,1,5,2.5\ngpt,adamw,1,5,2.5\n"
    assert only(read(tmp_path, lines, steps="step"))["val_loss_final"] == 2.5
    ((line, _, what),) = mistakes(tmp_path, lines + "gpt,adamw,01,5,2.4\n", steps="step")
    assert line == 4
    assert what == "says otherwise of step 5 of gpt + adamw, seed 1 than line 3. Remove one."


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no such column"),
        (HEADER, "has no line below its header"),
        (ONE.encode("utf-16"), "is not UTF-8"),
        (HEADER.encode() + b"gpt,adamw,1,2.5\xff\n", "is not UTF-8"),
        (HEADER + 'gpt,"adamw,1,2.5\n' * 3, "this is no CSV"),
        (HEADER + "gpt,adamw,1,0x1p3\n", "not a number"),
        (HEADER + "gpt,adamw,1,1_000\n", "not a number"),
        (HEADER + "gpt,adamw,1,２\n", "not a number"),
        (HEADER + "gpt,adamw,1,12%\n", "not a number"),
        (HEADER + "gpt,adamw,99999999999999999999,2\n", "not a whole number"),
        (HEADER + "gpt,adamw,9223372036854775808,2\n", "not a whole number"),
        (HEADER + f"{'g' * 65},adamw,1,2\n", "cannot be a name"),
        (HEADER + "=cmd(),adamw,1,2\n", "cannot be a name"),
        (HEADER + "gpt\x00,adamw,1,2\n", "cannot be a name"),
        (HEADER + "gpt,adamw,1,2,3\n", "has 5 fields under a header of 4"),
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, text: str | bytes, told: str) -> None:
    assert any(told in what for _, _, what in mistakes(tmp_path, text))


def test_a_figure_that_runs_csv_could_not_hold_is_refused(tmp_path: Path) -> None:
    metrics = ["val_loss=loss", "n_params=n", "train_time_s=t"]
    header = "arch,opt,seed,loss,n,t\n"
    found = mistakes(tmp_path, header + "gpt,adamw,1,2,1.5,inf\n", metrics=metrics)
    assert [where for _, where, _ in found] == ["n", "t"]
    columns = only(read(tmp_path, header + "gpt,adamw,1,2,1.2e6,3\n", metrics=metrics))
    assert columns["n_params"] == 1_200_000


def test_thousands_of_mistakes_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ForeignError) as refused:
        read(tmp_path, HEADER + "gpt,adamw,1,x\n" * 5000)
    lines = str(refused.value).splitlines()
    assert lines[0].startswith("9,999 mistakes in ")  # each says it again, as well
    assert len(lines) < 50
    assert lines[-1].startswith("  and 9,")


@pytest.mark.parametrize("name", ["", ".", "missing.csv"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ForeignError, match="is no file"):
        asked().read(tmp_path / name)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"columns": {}}, "--model COLUMN is missing, or --set model=VALUE"),
        ({"fixed": ["seed=1"]}, "--seed and --set seed: give one of them"),
        ({"fixed": ["sed=1"]}, "Did you mean 'seed'?"),
        ({"fixed": ["seed"]}, "write NAME=VALUE"),
        ({"metrics": []}, "--metric is missing"),
        ({"metrics": ["val_loss"]}, "write NAME=VALUE"),
        ({"metrics": ["val_los=loss"]}, "Did you mean 'val_loss'?"),
        ({"metrics": ["val_los=loss"]}, "is no known figure. Of your own, say which is better: "),
        ({"metrics": ["val_los=loss"]}, "--better val_los=higher (or =lower)"),
        ({"metrics": ["status=loss"]}, "holds no figure that can be imported"),
        ({"metrics": ["val_loss=loss", "val_loss_final=loss"]}, "is given twice"),
        ({"metrics": ["a b=loss"]}, "letters, digits and _"),
        ({"metrics": ["acc=loss"], "better": ["acc=more"]}, "Allowed: higher, lower"),
        ({"better": ["val_loss=lower"]}, "which is better is known"),
        ({"better": ["acc=lower"]}, "no --metric has this name"),
        ({"baseline": "gpt+adamw"}, "give both, or none"),
        ({"margin": 0.1}, "give both, or none"),
        ({"baseline": "gpt+adam", "margin": 0.1}, "Did you mean 'gpt+adamw'?"),
        ({"baseline": "gpt+adamw", "margin": -1.0}, "--margin"),
        ({"baseline": "gpt+adamw", "margin": math.nan}, "--margin"),
        ({"fixed": ["device=tpu"]}, "Allowed: cpu, cuda"),
    ],
)
def test_options_that_cannot_be_are_refused(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    assert any(told in what for _, _, what in mistakes(tmp_path, ONE, **changes))


# --- Whatever is written is read back -------------------------------------------------------------

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
LINE = st.tuples(NAMES, NAMES, st.integers(0, 2**63 - 1), st.floats(width=64), st.text())


@STEADY
@given(
    st.lists(LINE, min_size=1, unique_by=lambda line: line[:3]),
    st.sampled_from(",;\t|"),
    st.booleans(),
)
def test_what_csv_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[tuple[str, str, int, float, str]],
    separator: str,
    quoted: bool,
) -> None:
    buffer = io.StringIO()
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(buffer, delimiter=separator, quoting=quoting)
    writer.writerow(["arch", "opt", "seed", "loss", "note"])
    # A carriage return alone ends a line for some readers of CSV and not for others.
    writer.writerows([*line[:4], line[4].replace("\r", "").replace("\x00", "")] for line in lines)
    text = buffer.getvalue().encode("utf-8", "replace")
    found = read(tmp_path_factory.mktemp("csv"), text)
    for model, optimizer, seed, loss, _ in lines:
        columns = found.runs[model, optimizer, "", seed].columns  # type: ignore[index]
        if math.isfinite(loss):
            assert columns["val_loss_final"] == loss
        else:
            assert columns["status"] == "diverged"


@STEADY
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    for text in (content, HEADER.encode() + content):
        with contextlib.suppress(ForeignError):
            read(tmp_path_factory.mktemp("csv"), text)


# --- What it leaves, and what others make of it ---------------------------------------------------


def comparison(folder: Path, name: str, gain: float = 0.05) -> Path:
    """A CSV of two arms, each with five seeds, the second one better by `gain`."""
    noise = [0.0, 0.002, -0.003, 0.001, 0.002]
    lines = ["arch,opt,seed,step,loss,t"]
    for opt, loss, share in (("adamw", 2.0, 1), ("muon", 2.0 - gain, 0.5)):
        for seed, own in enumerate(noise, start=1):
            lines += [
                f"gpt,{opt},{seed},{step},{loss + share * own + 1 / (1 + step)},{step / 10}"
                for step in range(0, 101, 10)
            ]
    file = folder / f"{name}.csv"
    file.write_text("\n".join(lines))
    return file


def imported(folder: Path, name: str, *more: str, gain: float = 0.05) -> Path:
    options = ["--model", "arch", "--optimizer", "opt", "--seed", "seed", "--steps", "step"]
    options += ["--metric", "val_loss=loss", "--metric", "train_time_s=t"]
    out = folder / name
    answer = bench("import", comparison(folder, name, gain), *options, *more, "--out", out)
    assert answer.returncode == 0, answer.stderr
    return out


CLAIM = ("--baseline", "gpt+adamw", "--margin", "0.01")


@pytest.mark.slow
def test_the_report_says_first_that_it_is_exploratory(tmp_path: Path) -> None:
    folder = imported(tmp_path, "mine", *CLAIM)
    answer = bench("report", folder)
    assert answer.returncode == 0, answer.stderr
    first = answer.stdout.strip().splitlines()[0]
    assert first.startswith(
        "These runs were made elsewhere and imported, and what is claimed of them was claimed "
        "afterwards: what follows is exploratory. Final validation loss"
    )
    assert "gpt + muon is better on 5 of 5 planned seeds." in first  # and not "untuned": who knows
    assert "10 of 10 runs ok" in answer.stdout
    page = (folder / "report" / "index.html").read_text()
    assert "The claim (exploratory)" in page
    assert "no command of this program makes them again" in page
    assert (folder / "report" / "loss_steps.png").is_file()


@pytest.mark.slow
def test_without_a_claim_it_is_exploratory_too(tmp_path: Path) -> None:
    answer = bench("report", imported(tmp_path, "mine"))
    assert "what follows is exploratory." in answer.stdout.strip().splitlines()[0]


@pytest.mark.slow
def test_a_claim_about_a_metric_of_ones_own(tmp_path: Path) -> None:
    options = ["--model", "arch", "--optimizer", "opt", "--seed", "seed", "--steps", "step"]
    options += ["--metric", "score=loss", "--better", "score=higher", *CLAIM]
    out = tmp_path / "out"
    assert bench("import", comparison(tmp_path, "a"), *options, "--out", out).returncode == 0
    answer = bench("report", out)
    assert answer.returncode == 0, answer.stderr
    first = answer.stdout.strip().splitlines()[0]
    assert "score against gpt + adamw, margin 0.01: gpt + muon is worse on 5 of 5" in first


@pytest.mark.slow
def test_bundle_and_verify_take_it(tmp_path: Path) -> None:
    folder = imported(tmp_path, "mine", *CLAIM)
    assert bench("report", folder).returncode == 0
    assert bench("bundle", folder).returncode == 0
    answer = bench("verify", tmp_path / "mine.tar.gz")
    assert answer.returncode == 0, answer.stdout
    assert "verified" in answer.stdout


@pytest.mark.slow
def test_two_imports_are_compared_by_their_losses_alone(tmp_path: Path) -> None:
    """Nobody knows whether their times are of one machine."""
    old, new = imported(tmp_path, "old"), imported(tmp_path, "new", gain=0.08)
    answer = bench("compare", old, new, "--fail-on", "val_loss_final>1%")
    assert answer.returncode == 0, answer.stderr
    assert "gpt + muon" in answer.stdout
    assert "val_loss_final" in answer.stdout
    assert "train_time_s" not in answer.stdout


def test_what_is_unknown_is_empty_in_the_files(tmp_path: Path) -> None:
    folder = imported(tmp_path, "mine")
    rows = read_table(folder / "runs.csv")
    assert {row["runtime"] for row in rows} == {"imported"}
    unknown = ("host_id", "code_sha256", "started_at", "device", "n_params", "corpus", "log_path")
    assert {row[name] for row in rows for name in unknown} == {""}
    assert {row["steps"] for row in rows} == {"100"}
    curves = list((folder / "cells").glob("*/curve.csv"))
    assert len(curves) == 10
    points = read_table(curves[0])
    assert len(points) == 11
    assert points[0]["tokens"] == ""
    assert len(read_table(folder / "curves.csv")) == 110


def test_a_folder_that_has_runs_is_left_as_it_is(tmp_path: Path) -> None:
    folder = imported(tmp_path, "mine")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(FolderError, match=r"has runs already\. Give another --out"):
        read(tmp_path, ONE).write(folder)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_who_no_longer_holds_the_folder_imports_nothing(tmp_path: Path, monkeypatch) -> None:
    """As another host takes over from one that was stopped."""
    folder, row = tmp_path / "mine", Foreign._row

    def taken_over(self: Foreign, *arguments: Any) -> dict[str, Any]:
        shutil.rmtree(folder / ".holder" / "now")
        return row(self, *arguments)

    monkeypatch.setattr(Foreign, "_row", taken_over)
    with pytest.raises(FolderError, match="no longer held by this process"):
        read(tmp_path, ONE).write(folder)
    assert not (folder / "runs.csv").exists()


def test_imported_rows_stand_in_no_section_with_rows_of_ours(tmp_path: Path) -> None:
    """Of the same names and seeds, on a machine that is not known either."""
    ours = two_arms(Results(tmp_path / "ours"), host_id="", device="")
    for row in ours.plan:
        row["device"] = ""
    fixed = ["model=gpt"]
    columns = {"optimizer": "opt", "seed": "seed"}
    text = "opt,seed,loss\n" + "".join(
        f"{opt},{seed},{'nan' if seed == 2 else 2.0}\n"
        for opt in ("adamw", "muon")
        for seed in (1, 2)
    )
    read(tmp_path, text, columns=columns, fixed=fixed).write(tmp_path / "theirs")
    sections = make_sections(merge([ours.write(), tmp_path / "theirs"]))
    assert [section.is_imported for section in sections] == [False, True]
    for section in sections:
        assert len({cell.source for cell in section.cells}) == 1
        assert [(arm.seeds, len(arm.cells)) for arm in section.arms] == [((1, 2), 2)] * 2
    assert [len(arm.failed) for arm in sections[1].arms] == [1, 1]


def test_two_files_are_two_sections(tmp_path: Path) -> None:
    """Each is one comparison; whether two of them are alike, nobody knows."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, loss in zip(folders, ("2.5", "2.4"), strict=True):
        read(tmp_path, ONE.replace("2.5", loss)).write(folder)
    assert len(make_sections(merge(folders))) == 2


def test_an_imported_run_closes_no_cell(tiny_matrix: Path, tmp_path: Path) -> None:
    """Of a matrix with the same name, arms and seeds, in the folder that holds the import."""
    text = HEADER + "".join(
        f"small,{opt},{seed},2.0\n" for opt in ("adamw", "truemuon") for seed in (1, 2)
    )
    out = tmp_path / "out"
    read(tmp_path, text, fixed=["device=cpu"], name="tiny").write(out)
    answer = bench("plan", tiny_matrix, "--runtime", "local", "--out", out)
    assert answer.returncode == 0, answer.stderr
    assert "4 cells, 4 selected, 0 of them done" in answer.stdout
