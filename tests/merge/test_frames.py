"""runs.parquet and bench's frames: typed by column, tidy, the same rows as the report's."""

import contextlib
import datetime
import io
import re

import pandas as pd
import pytest

from bench.merge.frames import SUMMARY, cells_frame, load, parquet
from bench.merge.merging import merge
from bench.merge.sections import make_sections
from bench.records.columns import RUN_COLUMNS, kind_of
from bench.records.kinds import NUMBER, WHOLE
from bench.records.rows import write_table
from bench.report.build import build_report
from tests.builders.results import Results, two_arms
from tests.builders.shared import ROOT

PUBLISHED = ROOT / "results" / "original-cpu"
UNITS = r"_(s|ms|ms_p\d\d|pct|mib|gib|mhz|j|w|c|mean|final|best)$"


def parquet_of(*folders: Results) -> tuple[pd.DataFrame, bytes]:
    merged = merge([folder.write() for folder in folders])
    content = parquet(cells_frame(merged, make_sections(merged)))
    return pd.read_parquet(io.BytesIO(content)), content


# --- types


def test_a_column_with_a_unit_is_a_number():
    for name in RUN_COLUMNS:
        if re.search(UNITS, name):
            assert kind_of(name).dtype in (NUMBER.dtype, WHOLE.dtype), name


def test_types_are_those_of_the_column_whatever_the_values(new):
    folder = new()
    folder.cell(git_dirty=False, reason="17", tainted=True)
    folder.planned(seed=2)
    found, _ = parquet_of(folder)
    assert [*found] == ["folder", "section", *RUN_COLUMNS]
    kinds = {
        "val_loss_final": "float64",
        "gpu_energy_j": "float64",  # although no row has one
        "steps": "Int64",
        "attempt": "Int64",
        "section": "Int64",
        "tainted": "boolean",
        "memory_limit_enforced": "boolean",
        "started_at": "datetime64[us, UTC]",
        "reason": "string",  # although it looks like a number
        "gpu_name": "string",
    }
    assert {name: str(found[name].dtype) for name in kinds} == kinds
    first = found.iloc[0]
    assert (first["reason"], first["tainted"], first["git_dirty"]) == ("17", True, False)
    assert first["started_at"].tzinfo is not None
    assert pd.isna(first["gpu_energy_j"])
    assert pd.isna(first["gpu_name"])


def test_every_selected_cell_has_a_row(new):
    folder = two_arms(new())
    folder.cell(seed=7, status="diverged", val_loss_final=float("inf"))
    folder.planned(seed=8)
    folder.planned(seed=9, selected=False)
    found, _ = parquet_of(folder)
    assert found["status"].tolist() == ["ok"] * 4 + ["diverged", "open"]
    assert found["seed"].tolist() == [1, 2, 1, 2, 7, 8]
    assert found["section"].tolist() == [1] * 6
    assert found["val_loss_final"].tolist()[4] == float("inf")  # what its row says
    last = found.iloc[-1]
    assert (last["model"], last["arm_id"]) == ("gpt", "gpt/adamw/cpu")
    assert pd.isna(last["attempt"])


def test_folders_and_sections_are_told(new):
    first, second = new("a"), new("b")
    first.cell()
    second.cell(host_id="host2")
    second.ended(second.planned(seed=5, device="cuda"), status="skipped", host_id="")
    found, _ = parquet_of(first, second)
    assert found["folder"].tolist() == ["a", "b", "b"]
    assert found["section"].fillna(0).tolist() == [1, 2, 0]  # no cell of its device is ok


def test_a_newer_versions_columns_are_kept(new):
    folder = two_arms(new())
    folder.write()
    rows = [{**row, "carbon_g": 7} for row in folder.runs]
    write_table(folder.path / "runs.csv", [*RUN_COLUMNS, "carbon_g"], rows)
    cells = load(folder.path).cells
    assert [*cells][-1] == "carbon_g"
    assert cells["carbon_g"].tolist() == ["7"] * 4


def test_the_same_rows_give_the_same_bytes(new):
    folder = two_arms(new())
    assert parquet_of(folder)[1] == parquet_of(folder)[1]


# --- load


def test_cells_are_those_of_the_reports_parquet(new):
    folder = two_arms(new())
    out = folder.write() / "report"
    build_report([folder.path], out)
    pd.testing.assert_frame_equal(load(folder.path).cells, pd.read_parquet(out / "runs.parquet"))


def test_times_are_the_moments_that_were_written(new):
    folder = new()
    folder.cell(started_at="2026-03-01T12:00:00.250+02:00")
    (moment,) = load(folder.write()).cells["started_at"]
    assert moment == datetime.datetime(2026, 3, 1, 10, 0, 0, 250_000, tzinfo=datetime.UTC)


def test_curves_are_one_row_an_evaluation(new):
    folder = new()
    for seed in (1, 2):
        run_id = folder.planned(seed=seed)
        folder.ended(run_id, attempt=2)
        folder.curve(run_id, [(100, 5.0, 2.0 + seed), (0, 0.0, None)], attempt=2)
        folder.curve(run_id, [(0, 0.0, 9.0)], attempt=1)  # superseded
    folder.cell(seed=3)  # without a curve
    curves = load(folder.write()).curves
    assert [*curves] == [
        *("folder", "run_id", "host_id", "attempt", "model", "optimizer", "device", "seed"),
        *("step", "tokens", "train_time_s", "train_loss", "val_loss"),
        *("expert_load_max", "router_entropy"),
    ]
    assert curves["seed"].tolist() == [1, 1, 2, 2]
    assert curves["step"].tolist() == [0, 100, 0, 100]
    assert curves["attempt"].tolist() == [2] * 4
    assert curves["val_loss"].fillna(0).tolist() == [0, 3.0, 0, 4.0]
    assert curves["train_loss"].isna().all()
    assert str(curves["step"].dtype) == "int64"


def test_the_summary_has_the_columns_of_its_file(new):
    folder = two_arms(new())
    summary = load(folder.write()).summary
    assert [*summary] == [*SUMMARY]
    assert summary["val_loss_final_mean"].tolist() == pytest.approx([2.015, 1.765])
    assert summary["n_seeds"].tolist() == [2, 2]
    assert (str(summary["n_params"].dtype), summary["n_params"][0]) == ("Int64", 2_000_000)
    assert summary["timing_clean"].tolist() == [True, True]


def test_nothing_ran_is_three_empty_frames_but_for_the_open_cells(new):
    folder = new()
    folder.planned()
    found = load(folder.write())
    assert (len(found.cells), len(found.curves), len(found.summary)) == (1, 0, 0)
    assert str(found.curves["step"].dtype) == "int64"


def test_several_folders_and_texts_as_paths(new):
    first, second = two_arms(new("a")), new("b")
    second.cell(seed=9)
    found = load(str(first.write()), second.write())
    assert found.cells["folder"].tolist() == ["a"] * 4 + ["b"]


def test_damage_is_a_warning(new):
    folder = two_arms(new())
    folder.runs[0]["val_loss_final"] = "1,7"
    folder.write()
    with pytest.warns(UserWarning, match=r"first/runs\.csv: 1 damaged line left out"):
        found = load(folder.path)
    assert found.cells["status"].tolist() == ["open", "ok", "ok", "ok"]


# --- the documented example


def test_the_notebooks_example_runs_on_published_results(monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/notebook.md").read_text(), re.DOTALL)
    assert 8 <= len(code.splitlines()) <= 12
    monkeypatch.chdir(ROOT)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(code, {"__name__": "notebook"})
    for arm in ("nanogpt", "nanokimi", "truemuon"):
        assert arm in output.getvalue()
    of_arm = load(PUBLISHED).cells.query("model == 'nanokimi' and optimizer == 'adamw'")
    loss = of_arm["val_loss_final"].mean()
    assert f"{loss:.4f}" in output.getvalue()
