"""What keeps a report linear in its cells, counted; `tests/report/scale.py` takes times."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.merge import asked, source
from bench.merge.arms import Arm
from bench.merge.curves import flops, seconds, seed_lines, steps, tokens
from bench.merge.disturbed import Timing
from bench.merge.frames import summary_rows
from bench.merge.merging import EndedCell, merge
from bench.merge.reading import Curve
from bench.merge.sections import make_sections
from tests.builders.results import Results
from tests.report.scale import make_results

FIGURES = ("tokens", "train_time_s", "val_loss")


@pytest.fixture
def fields(monkeypatch) -> list[str]:
    """The columns of all fields that are looked at, from now on."""
    seen: list[str] = []
    text = EndedCell.text
    monkeypatch.setattr(EndedCell, "text", lambda self, name: seen.append(name) or text(self, name))
    return seen


def wide(folder: Results, arms: int, keys: int, failed: bool) -> Results:
    """So many arms on so many machines, one seed each; and as many cells that did not end ok."""
    for arm in range(arms):
        for key in range(keys):
            run_id = folder.planned(optimizer=f"o{arm}", seed=key)
            folder.ended(run_id, host_id=f"host{key}")
            if failed:
                run_id = folder.planned(optimizer=f"o{arm}", seed=key + keys)
                folder.ended(run_id, status="crashed", host_id=f"host{key}")
    return folder


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize(("arms", "machines"), [(20, 2), (2, 20)], ids=["arms", "machines"])
def test_each_cell_is_looked_at_as_often_however_many_there_are(
    new, fields, arms, machines, failed
):
    looks = []
    for parts in (2, 1):
        size = {"arms": max(2, arms // parts), "keys": max(2, machines // parts)}
        merged = merge([wide(new(f"half{parts}"), **size, failed=failed).write()])
        fields.clear()
        rows = list(summary_rows(make_sections(merged)))
        looks.append(len(fields) / len(merged.cells))
        assert len(rows) == size["arms"] * size["keys"]
    assert looks[1] <= 1.1 * looks[0]


def test_a_spread_is_computed_once(new, fields):
    folder = wide(new(), arms=2, keys=1, failed=False)
    (section,) = make_sections(merge([folder.write()]))
    first = section.arms[0].spread("val_loss_final")
    fields.clear()
    assert section.arms[0].spread("val_loss_final") is first
    assert section.values("corpus") == section.values("corpus") == ["text"]
    assert fields == ["corpus"] * 2  # of two ok cells, once


def test_the_made_up_results_are_what_a_run_would_leave(tmp_path):
    merged = merge(make_results(tmp_path / "made", cells=200))
    assert merged.damage == ()
    (section,) = make_sections(merged)
    assert (len(merged.cells), len(section.arms)) == (200, 100)
    assert [cell.status for cell in merged.cells].count("diverged") == 4
    assert {len(cell.curve) for cell in section.ok} == {100}
    for arm in section.arms:
        assert arm.spread("val_loss_final").n == len(arm.by_seed)
        assert arm.spread("gpu_energy_j").mean is not None


def test_shards_are_read_as_one_folder_of_as_many_cells(tmp_path, monkeypatch):
    """Their plans have the same lines, and their matrices the same text: each is read once."""
    checked, parsed = [], []
    check, parse = source._check_planned, asked.parse_yaml
    monkeypatch.setattr(source, "_check_planned", lambda row: checked.append(row) or check(row))
    monkeypatch.setattr(asked, "parse_yaml", lambda *file: parsed.append(file) or parse(*file))
    asked._document.cache_clear()
    whole = merge(make_results(tmp_path / "one", cells=200))
    assert (len(checked), len(parsed)) == (200, 1)
    shards = make_results(tmp_path / "shards", cells=200, folders=20)
    merged = merge(shards)
    assert asked.read_asked(shards).claim is not None
    assert len(checked) == 200 + 2 * 200, "a line with the cell selected, and one without"
    assert len(parsed) == 1
    assert [cell.row for cell in merged.cells] == [cell.row for cell in whole.cells]
    for cell, alone in zip(merged.cells, whole.cells, strict=True):
        assert np.array_equal(cell.curve.val_loss, alone.curve.val_loss)


def test_a_damaged_line_is_told_of_every_plan_that_has_it(new):
    folders = []
    for name in ("one", "two"):
        folder = new(name)
        folder.cell(seed=1)
        folders.append(folder.write())
        with (folders[-1] / "plan.csv").open("a") as file:
            file.write("damaged\n")
    assert [each.file for each in merge(folders).damage] == ["one/plan.csv", "two/plan.csv"]


# --- curves as arrays against the same point by point

known = st.one_of(st.none(), st.floats(-1e6, 1e6))
points = st.dictionaries(st.integers(0, 6), st.tuples(known, known, known), max_size=6)


def curve_of(table: dict[int, tuple]) -> Curve:
    rows = [(step, *table[step]) for step in sorted(table)]
    steps, tokens, seconds, loss = np.array(rows, dtype=float).reshape(-1, 4).T
    unknown = np.full(len(steps), np.nan)
    return Curve(steps, tokens, seconds, loss, loss, unknown, unknown)


def arm_of(table: dict[int, tuple], row: dict[str, str]) -> Arm:
    names = {"arm_id": "a", "model": "m", "optimizer": "o"}
    cell = EndedCell(0, "r", **names, device="cpu", seed=1, row=row, curve=curve_of(table))
    return Arm(
        **names,
        label="",
        cells=(cell,),
        seeds=(1,),
        cells_planned=1,
        timing=Timing({}, clean=True),
    )


@settings(max_examples=300, deadline=None)
@given(
    points,
    st.sampled_from([steps, tokens, seconds, flops]),
    st.booleans(),
)
def test_lines_are_of_the_evaluations_that_know_cost_and_loss(points, cost, has_flops):
    row = {"status": "ok", "flops_per_token": "3" if has_flops else ""}
    row |= {"optimizer_flops_per_step": "5"}

    def at(step: int, point: tuple) -> float | None:
        if cost is steps:
            return step
        if cost is seconds:
            return point[1]
        if cost is tokens or point[0] is None:
            return point[0]
        return point[0] * 3 + step * 5 if has_flops else None

    expected = [
        (at(step, point), point[2])
        for step, point in sorted(points.items())
        if at(step, point) is not None and point[2] is not None
    ]
    found = seed_lines(arm_of(points, row), cost)
    assert list(found) == ([1] if expected else [])
    if expected:
        table = np.column_stack([found[1].x, found[1].y])
        assert table == pytest.approx(np.array(expected), rel=1e-9, abs=1e-6)
