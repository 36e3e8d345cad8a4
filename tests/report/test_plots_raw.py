"""Pictures from the files of single cells, also of files that are not what they should be."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure import samples
from bench.measure.gpu_reader import NOTHING, GpuSample
from bench.measure.watch import GpuReading, Readings
from bench.merge import raw
from bench.merge.raw import Reading, StepTimes
from bench.records.rows import write_table
from bench.report.plots import steptimes
from bench.report.plots.gpu import POINTS, thinned
from tests.builders.pictures import beside, scene_of
from tests.builders.results import Results
from tests.builders.scenes import FACTORIAL, cell_folder, run, sample_file, step_file


@pytest.fixture
def new(tmp_path):
    return Results(tmp_path / "first")


# --- step times


def test_step_times_are_weighed_by_the_steps_that_they_span(new, draw):
    run(new, FACTORIAL[:2], seeds=(1, 2))
    for index, row in enumerate(new.plan):
        step_file(new, row["run_id"], [4.0 + index] * 3 + [9.0], steps=1 + index % 2)
    scene = scene_of(new)
    figure, drawing = draw(scene, "step_times")
    assert beside(figure.axes[0]) == ["5.00 ms", "7.00 ms"]
    assert "Of each configuration 2 undisturbed runs;" in drawing.caption
    assert "gpt + adamw: median 5.00 ms, 99th percentile 9.00 ms" in drawing.alt


@given(
    st.lists(st.tuples(st.floats(0.1, 1e3), st.integers(1, 5)), min_size=1, max_size=30),
    st.floats(0.01, 0.99),
)
def test_quantiles_are_those_of_single_steps(pairs, share):
    times, steps = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    single = np.repeat(times, steps.astype(int))
    found = steptimes.quantiles(StepTimes(times, steps), (share,))
    assert found[0] == np.quantile(single, share, method="inverted_cdf")


def test_few_cells_are_read_and_no_disturbed_one(new, monkeypatch):
    run(new, FACTORIAL[:1], seeds=range(1, 9))
    for row in new.plan:
        step_file(new, row["run_id"], [float(row["seed"])])
    for row in new.runs[:2]:
        row |= {"tainted": True, "taint_reasons": "swap_used"}
    scene = scene_of(new)
    (found,) = steptimes.arm_times(scene)
    assert sorted(found.times.time_ms) == [3.0, 4.0, 5.0, 6.0, 7.0]
    caption = steptimes.step_time_graph(scene).caption
    assert "Of each configuration 5 undisturbed runs, the first by seed;" in caption


def test_the_steps_of_the_terminal_attempt_are_read(new):
    run_id = new.planned()
    new.ended(run_id, status="interrupted", attempt=1)
    new.ended(run_id, attempt=2)
    step_file(new, run_id, [1.0], attempt=1)
    step_file(new, run_id, [2.0], attempt=2)
    (found,) = steptimes.arm_times(scene_of(new))
    assert found.times.time_ms.tolist() == [2.0]


# --- the GPU over time


def test_gpu_lines_are_the_samples(new, draw):
    run(new, FACTORIAL[:2], seeds=(1, 2), device="cuda")
    new.runs[0] |= {"tainted": True, "taint_reasons": "gpu_foreign_process"}
    for index, row in enumerate(new.plan):
        sample_file(new, row["run_id"], [100.0 + index, 110.0], own=index != 3)
    scene = scene_of(new)
    figure, drawing = draw(scene, "gpu_over_time")
    memory, power, clock = figure.axes
    assert [list(line.get_ydata()) for line in power.lines] == [[101.0, 110.0], [103.0, 110.0]]
    assert [list(line.get_xdata()) for line in power.lines] == [[0.0, 0.5]] * 2
    assert [list(line.get_ydata()) for line in memory.lines] == [[500.0] * 2, [900.0] * 2]
    assert [list(line.get_ydata()) for line in clock.lines] == [[1500.0, 1501.0]] * 2
    assert "(seed 2)" in drawing.caption
    assert "whole device where the run's own was not told" in drawing.caption


def test_experts_are_those_of_the_arms_that_have_some(new, draw):
    """Means over seeds at the steps at which all were evaluated."""
    points = [(0, 0.0, 4.0), (50, 1.0, 3.0), (100, 2.0, 2.0)]
    for model in ("dense", "mixture"):
        for seed in (1, 2):
            run_id = new.planned(model=model, seed=seed)
            new.ended(run_id)
            used = {"expert_load_max": 1.0 + 0.5 * seed, "router_entropy": 0.5 * seed}
            new.curve(run_id, points[: 1 + seed], **(used if model == "mixture" else {}))
    figure, drawing = draw(scene_of(new), "experts")
    load, entropy = figure.axes
    for axes, mean in ((load, 1.75), (entropy, 0.75)):
        (line,) = axes.lines
        assert list(line.get_xdata()) == [0, 50]
        assert list(line.get_ydata()) == [mean, mean]
        low, high = axes.get_ylim()
        assert low < mean < high
    assert "mixture" in drawing.alt
    assert "dense" not in drawing.alt


def test_without_experts_there_is_no_picture_of_them(new, draw):
    run_id = new.planned()
    new.ended(run_id)
    new.curve(run_id, [(0, 0.0, 4.0), (100, 2.0, 2.0)])
    assert "experts" not in draw.all(scene_of(new))


def test_what_no_gpu_told_is_left_out(new, draw):
    run(new, FACTORIAL[:1], seeds=(1,), device="cuda")
    path = cell_folder(new, new.plan[0]["run_id"]) / "samples.csv"
    for moments in ([NOTHING] * 3, [NOTHING]):
        gpu = [(k, GpuReading((sample,), frozenset())) for k, sample in enumerate(moments)]
        write_table(path, samples.COLUMNS, samples.rows(Readings(1, 1, gpu=gpu), 0.0, []))
        assert "gpu_over_time" not in draw.all(scene_of(new))
    only_power = GpuSample(None, None, None, 50.0, None, None, None, None, None)
    gpu = [(k, GpuReading((only_power,), frozenset())) for k in range(3)]
    write_table(path, samples.COLUMNS, samples.rows(Readings(1, 1, gpu=gpu), 0.0, []))
    figure, drawing = draw(scene_of(new), "gpu_over_time")
    assert len(figure.axes) == 1
    assert "from its launch: power." in drawing.caption
    assert "Memory" not in drawing.caption


def test_several_gpus_are_one_line(new, draw):
    """Where one tells nothing there is no sum; a file without the column is of one."""
    run(new, FACTORIAL[:1], seeds=(1,), device="cuda")
    path = cell_folder(new, new.plan[0]["run_id"]) / "samples.csv"

    def sample(watts):
        return GpuSample(900.0, {7: 500.0}, None, None, watts, 50.0, 10 * watts, 60.0, ())

    moments = [(100.0, 300.0), (110.0, None), (120.0, 320.0)]
    gpu = [
        (float(k), GpuReading(tuple(sample(w) if w else NOTHING for w in watts), frozenset({7})))
        for k, watts in enumerate(moments)
    ]
    write_table(path, samples.COLUMNS, samples.rows(Readings(1, 1, gpu=gpu), 0.0, []))
    figure, drawing = draw(scene_of(new), "gpu_over_time")
    memory, power, clock = (list(axes.lines[0].get_ydata()) for axes in figure.axes)
    assert (memory, power, clock) == ([1000.0, 1000.0], [400.0, 440.0], [2000.0, 2200.0])
    assert "with several GPUs it is memory and power of all" in drawing.caption
    older = [name for name in samples.COLUMNS if name != "gpu"]
    alone = [(at, GpuReading(reading.samples[:1], reading.own_pids)) for at, reading in gpu]
    rows = samples.rows(Readings(1, 1, gpu=alone), 0.0, [])
    write_table(path, older, ({name: row.get(name) for name in older} for row in rows))
    figure, drawing = draw(scene_of(new), "gpu_over_time")
    assert list(figure.axes[1].lines[0].get_ydata()) == [100.0, 110.0, 120.0]
    assert "several" not in drawing.caption


def test_whose_memory_it_is(new, draw):
    run(new, FACTORIAL[:1], seeds=(1,), device="cuda")
    sample_file(new, new.plan[0]["run_id"], [100.0, 110.0])
    _, drawing = draw(scene_of(new), "gpu_over_time")
    assert drawing.caption.endswith("Memory is the run's own.")


def test_long_series_are_thinned_to_means():
    time = np.arange(3000.0)
    found = thinned(Reading(time, np.sin(time)))
    assert len(found.time_s) == POINTS
    assert found.value.mean() == pytest.approx(np.sin(time).mean(), abs=1e-3)
    assert found.value[0] == pytest.approx(np.sin(time[:10]).mean())


# --- files that are not what they should be


def hostile(kind: str, path: Path, outside: Path) -> None:
    good = path.read_bytes()
    path.unlink()
    match kind:
        case "missing":
            pass
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "a link out":
            outside.write_bytes(good)
            path.symlink_to(outside)
        case "its folder is a link out":
            path.parent.rmdir()
            outside.mkdir()
            (outside / path.name).write_bytes(good)
            path.parent.symlink_to(outside)
        case "a loop":
            path.symlink_to(path)
        case "empty":
            path.write_bytes(b"")
        case "bytes":
            path.write_bytes(b"\x00\xff\xfe\x80" * 50 + b"\n\x00")
        case "other columns":
            path.write_bytes(b"a,b\n1,2\n")
        case "words":
            path.write_bytes(good.replace(b"5.", b"five"))
        case "more fields":
            path.write_bytes(good + b"1,2,3,4,5,6,7\n" + b"9," * 60 + b"\n")
        case "longer rows":
            path.write_bytes(good.replace(b",2.0", b",2.0,3.0"))
        case "infinite":
            path.write_bytes(good.splitlines(True)[0] + b"1,1,1e999,inf\n1,0,5.0,1\n-1,-1,-5,1\n")
        case "too large":
            with path.open("wb") as file:
                file.write(good)
                file.truncate(raw.LARGEST_BYTES + 1)


KINDS = (
    "missing",
    "folder",
    "pipe",
    "a link out",
    "its folder is a link out",
    "a loop",
    "empty",
    "bytes",
    "other columns",
    "words",
    "more fields",
    "longer rows",
    "infinite",
    "too large",
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_or_hostile_file_is_left_out(new, tmp_path, kind):
    run(new, FACTORIAL[:1], seeds=(1, 2))
    path = step_file(new, new.plan[0]["run_id"], [5.0, 5.5])
    step_file(new, new.plan[1]["run_id"], [7.0])
    new.write()
    hostile(kind, path, tmp_path / "outside")
    (found,) = steptimes.arm_times(scene_of(new))
    assert (found.times.time_ms.tolist(), found.cells) == ([7.0], 1)


def test_a_link_within_the_results_is_followed(new):
    run(new, FACTORIAL[:1], seeds=(1,))
    path = step_file(new, new.plan[0]["run_id"], [5.0])
    path.rename(new.path / "kept.csv")
    path.symlink_to(new.path / "kept.csv")
    (found,) = steptimes.arm_times(scene_of(new))
    assert found.times.time_ms.tolist() == [5.0]


@pytest.mark.parametrize("run_id", ["../../outside", "/etc", "a" * 300, "x/../../../outside"])
def test_a_run_id_leads_nowhere_else(new, tmp_path, run_id):
    new.planned()
    new.plan[0]["run_id"] = run_id
    new.ended(run_id)
    for folder in (tmp_path / "outside-1", new.path / "cells" / "x"):
        folder.mkdir(parents=True)
        times = [{"step": 0, "steps": 1, "time_ms": 1.0, "loss": 1.0}]
        write_table(folder / "steps.csv", ("step", "steps", "time_ms", "loss"), times)
    assert steptimes.arm_times(scene_of(new)) == []
