"""Pictures: what they draw equals the statistics, and it can be read."""

import io
import math
import os
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex, to_rgb
from PIL import Image
from scipy import stats

from bench.measure import samples
from bench.measure.nvml import NOTHING, GpuSample
from bench.measure.watch import GpuReading, Readings
from bench.merge import raw
from bench.merge.curves import seconds, seed_lines, steps
from bench.merge.raw import Reading, StepTimes
from bench.records.rows import write_table
from bench.report.plots import lines, steptimes
from bench.report.plots.drawing import MOST_ARMS
from bench.report.plots.gallery import NAMES as ALL_NAMES
from bench.report.plots.gallery import PICTURES, draw_all
from bench.report.plots.gpu import POINTS, thinned
from bench.report.plots.lines import FLOPS, TOKENS
from bench.report.plots.palette import MOST, reduced
from bench.report.plots.pareto import Place, front
from bench.report.plots.rows import MARGIN
from bench.report.plots.style import COLOURS, FAINT, MOST_POINTS, styles
from bench.report.plots.whiskers import CUT_SHORT, view
from bench.statistics.interval import Interval
from bench.statistics.text import of_measure, write
from tests.builders.pictures import Draw, arrows, beside, points, scene_of, texts_of, whiskers
from tests.builders.results import Results

FACTORIAL = [(model, optimizer) for model in ("gpt", "kimi") for optimizer in ("adamw", "muon")]
SEEDS = (1, 2, 3, 4, 5)

# The picture of trials needs some: test_report_tuning.py has it.
NAMES = [name for name in ALL_NAMES if name != "sensitivity"]


@pytest.fixture
def new(tmp_path):
    return Results(tmp_path / "first")


@pytest.fixture
def draw(monkeypatch):
    return Draw(monkeypatch)


def run(folder: Results, arms=FACTORIAL, seeds=SEEDS, device="cpu", evaluations=11, half=50):
    """Arms with curves; losses and times differ from arm to arm and vary from seed to seed."""
    for index, (model, optimizer) in enumerate(arms):
        for seed in seeds:
            run_id = folder.planned(model=model, optimizer=optimizer, seed=seed, device=device)
            loss = 1.8 - 0.02 * index + 0.004 * math.sin(7 * seed + index)
            time = 10.0 * (1 + index % 3) + 0.2 * math.sin(3 * seed + index)
            memory = 300.0 + 10 * index + math.sin(seed)
            folder.ended(
                run_id,
                val_loss_final=loss,
                train_time_s=time,
                host_rss_peak_mib=memory,
                gpu_mem_allocated_peak_mib=memory,
            )
            folder.curve(
                run_id,
                [
                    (
                        round(2 * half * share),
                        share * time,
                        loss + 2.5 * math.exp(-9 * share) + 0.01 * math.sin(40 * share + seed),
                    )
                    for share in np.linspace(0, 1, evaluations).tolist()
                ],
                expert_load_max=1.2 + 0.1 * index,
                router_entropy=1.3 - 0.01 * index,
            )
    return folder


def cell_folder(folder: Results, run_id: str, attempt=1) -> Path:
    path = folder.path / "cells" / f"{run_id}-{attempt}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def step_file(folder: Results, run_id: str, times_ms, steps=1, attempt=1) -> Path:
    """steps.csv as a worker writes it: each sample spans `steps` steps of so many ms."""
    path = cell_folder(folder, run_id, attempt) / "steps.csv"
    rows = [
        {"step": (k + 1) * steps - 1, "steps": steps, "time_ms": time * steps, "loss": 2.0}
        for k, time in enumerate(times_ms)
    ]
    write_table(path, ("step", "steps", "time_ms", "loss"), rows)
    return path


def sample_file(folder: Results, run_id: str, watts, own=True) -> Path:
    """samples.csv by the sampler's own writer: a reading each half second."""
    path = cell_folder(folder, run_id) / "samples.csv"
    gpu = [
        (
            100 + 0.5 * k,
            GpuReading(
                GpuSample(900.0, {7: 500.0}, None, None, watt, 50.0, 1500.0 + k, 60.0, ()),
                frozenset({7} if own else ()),
            ),
        )
        for k, watt in enumerate(watts)
    ]
    readings = Readings(0.5, 1, on_gpu=True, gpu=gpu)
    write_table(path, samples.COLUMNS, samples.rows(readings, 100.0, [(100.0, 200.0)]))
    return path


def with_raw_files(folder: Results) -> Results:
    for index, row in enumerate(folder.plan):
        step_file(folder, row["run_id"], [5.0 + index, 6.0 + index, 40.0])
        sample_file(folder, row["run_id"], [100.0 + index, 120.0 + index, 110.0])
    return folder


# --- it can be read


@pytest.mark.parametrize("arms", [1, 2, 12])
@pytest.mark.parametrize(
    ("name", "half"),
    [
        ("nanokimi-8", 300),
        ("a-model-whose-name-somebody-made-as-long-as-it-may-be-at-all", 50_000_000),
    ],
)
def test_no_text_overlaps_or_leaves_the_picture(new, draw, arms, name, half):
    names = [(f"{name}-{index // 3}", f"{name}-{index % 3}") for index in range(arms)]
    scene = scene_of(with_raw_files(run(new, names, device="cuda", half=half)), margin=0.01)
    figures = draw.all(scene)
    compared = {"forest", "paired_differences", "pareto"}
    assert set(figures) == set(NAMES) - (compared if arms == 1 else set())
    for picture, figure in figures.items():
        texts = texts_of(figure)
        assert len(texts) > 3, picture
        for one, (text, box) in enumerate(texts):
            assert box.x0 > -1, (picture, text)
            assert box.x1 < 1401, (picture, text)
            assert box.y0 > -1, (picture, text)
            assert box.y1 < figure.bbox.height + 1, (picture, text)
            for other, other_box in texts[one + 1 :]:
                assert not box.overlaps(other_box), (picture, text, other)


def test_the_figure_beside_a_bar_stays_in_its_panel(new, draw):
    run(new, FACTORIAL[:2], seeds=(1, 2))
    for row in new.runs:
        row["host_rss_peak_mib"] = 123456.0
    figure, _ = draw(scene_of(new), "comparison_graph")
    renderer = figure.canvas.get_renderer()
    notes = [(axes, text) for axes in figure.axes for text in axes.texts]
    assert len(notes) == 8
    for axes, text in notes:
        assert text.get_window_extent(renderer).x1 <= axes.bbox.x1


def luminance(colour: str) -> float:
    """CIE L*, 0 to 100."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    y = float(np.dot((0.2126, 0.7152, 0.0722), linear))
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def test_arms_differ_in_greyscale_too():
    """Any two arms of a picture differ in colour and marker, and on grey by one of them."""
    looks = list(styles(str(index) for index in range(MOST_ARMS)).values())
    for one, other in combinations(looks, 2):
        assert (one.colour, one.marker) != (other.colour, other.marker)
        by_lightness = abs(luminance(one.colour) - luminance(other.colour)) > 10
        assert one.marker != other.marker or by_lightness, (one, other)
        assert (one.dashes, one.marker) != (other.dashes, other.marker)
    assert len(set(COLOURS)) == len(COLOURS)
    assert all(luminance(colour) < 80 for colour in COLOURS)  # on white paper


def test_an_arm_has_one_look_in_all_pictures(new, draw):
    scene = scene_of(with_raw_files(run(new, device="cuda")), margin=0.01)
    looks = [(scene.look(arm).colour, scene.look(arm).marker) for arm in scene.arms]
    figures = draw.all(scene)
    for name in ("forest", "paired_differences", "loss_steps", "loss_flops", "gpu_over_time"):
        shown = looks[1:] if name in ("forest", "paired_differences") else looks
        for axes in figures[name].axes:
            drawn = {(line.get_color(), line.get_marker()) for line in axes.lines}
            assert {look for look in drawn if look[1] in "os^D"} <= set(looks), name
            assert set(shown) <= drawn, name
    for name in ("comparison_graph", "step_times"):
        for axes in figures[name].axes:
            edges = [patch.get_edgecolor() for patch in (*axes.patches, *axes.collections[::4])]
            assert [to_hex(edge).upper() for edge in edges] == [colour for colour, _ in looks]
    for line in (line for axes in figures["pareto"].axes for line in axes.lines):
        if len(line.get_xdata()) == 1 and line.get_marker() != "None":
            colour = line.get_markerfacecolor()
            colour = line.get_markeredgecolor() if colour == FAINT else colour
            assert (colour, line.get_marker()) in looks


# --- the files


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A scene of 4 arms with 5 seeds and 101 evaluations, and all its drawings."""
    folder = run(Results(tmp_path_factory.mktemp("whole") / "first"), evaluations=101, half=5000)
    with_raw_files(folder)
    scene = scene_of(folder, margin=0.01)
    arguments = (scene.section, scene.family, scene.merged, "A title: naïve → $x$", scene.looks)
    return scene, {drawing.name: drawing for drawing in draw_all(*arguments)}


def test_all_pictures_are_there_in_the_order_of_their_names(whole):
    assert list(whole[1]) == list(NAMES)


def test_equal_cells_files_give_equal_bytes(whole):
    """Of the other pictures, those of two reports are compared."""
    scene, first = whole
    titled = replace(scene, title="A title: naïve → $x$")
    for name in ("step_times", "gpu_over_time"):
        assert PICTURES[name](titled) == first[name]


@pytest.mark.parametrize("name", NAMES)
def test_files_are_small_and_exact(whole, name):
    files = whole[1][name].files
    assert len(files.png) < 50 * 1024
    assert len(files.svg) < 150 * 1024
    with Image.open(io.BytesIO(files.png)) as image:
        assert image.info["Title"] == "A title: naïve → $x$"
        assert image.width == 1400  # 7 inches at 200 dpi
        assert 300 < image.height < 1400
        assert tuple(round(dots) for dots in image.info["dpi"]) == (200, 200)
        tones = {colour for _, colour in image.convert("RGB").getcolors(MOST)}
    assert {(0, 0, 0), (255, 255, 255)} <= tones
    exact = {tuple(round(255 * part) for part in to_rgb(colour)) for colour in COLOURS[1:4]}
    assert exact <= tones
    assert b"DejaVuSans" in files.svg  # outlines of letters, whatever fonts the reader has


def test_a_small_mark_keeps_its_colour_among_thousands_of_others():
    ramp = np.zeros((300, 256, 3), dtype=np.uint8)
    ramp[..., 0], ramp[..., 2] = np.arange(256), np.arange(300)[:, None] % 256
    ramp[5, 7] = (213, 94, 0)
    with Image.open(io.BytesIO(reduced(ramp, [(213, 94, 0), (1, 2, 3)], "", 200))) as image:
        assert len(image.getcolors()) <= MOST
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert tuple(pixels[5, 7]) == (213, 94, 0)
    assert not (pixels == (1, 2, 3)).all(axis=-1).any()


def test_few_colours_all_stay_exact():
    stripes = np.repeat(np.arange(20, dtype=np.uint8) * 11, 30).reshape(20, 10, 3)
    with Image.open(io.BytesIO(reduced(stripes, [], "", 200))) as image:
        assert (np.asarray(image.convert("RGB")) == stripes).all()


def test_captions_and_alternatives_are_sentences(whole):
    for drawing in whole[1].values():
        for text in (drawing.caption, drawing.alt):
            assert text.endswith("."), text
            assert "  " not in text
            assert "{" not in text
            assert ".." not in text
        assert "kimi" in drawing.alt


# --- what is drawn is what was computed


def test_bars_whiskers_and_points_are_the_statistics(new, draw):
    scene = scene_of(run(new))
    figure, drawing = draw(scene, "comparison_graph")
    columns = ("val_loss_final", "train_time_s", "host_rss_peak_mib", "infer_time_ms_p50")
    for axes, column in zip(figure.axes, columns, strict=True):
        spreads = [arm.spread(column) for arm in scene.arms]
        assert [bar.get_width() for bar in axes.patches] == [spread.mean for spread in spreads]
        expected = [
            stats.t.interval(0.95, 4, loc=spread.mean, scale=spread.sd / math.sqrt(5))
            for spread in spreads
            if spread.sd
        ]
        assert np.allclose(np.ravel(whiskers(axes)), np.ravel(expected))
        for arm, spread in zip(scene.arms, spreads, strict=True):
            assert list(spread.by_seed.values()) in points(axes, scene.look(arm).marker)
    assert "95 % t interval" in drawing.caption
    assert CUT_SHORT not in drawing.caption
    assert "the first" not in drawing.caption


def test_the_interval_of_two_seeds_is_cut_off_and_says_so(new, draw):
    run(new, FACTORIAL[:2], seeds=(1, 2))
    for row, loss in zip(new.runs, (1.0, 1.5, 1.4, 1.401), strict=True):
        row["val_loss_final"] = loss
    scene = scene_of(new, margin=0.01)
    figure, drawing = draw(scene, "comparison_graph")
    axes = figure.axes[0]
    first = whiskers(axes)[0]
    assert first[0] == 0.0  # 12.7 · 0.35 / √2 below the mean of 1.25: less than no loss
    assert first[1] < axes.get_xlim()[1] < 1.25 + 3
    assert len(arrows(axes)) == 2
    assert CUT_SHORT in drawing.caption
    for name in ("forest", "paired_differences"):
        figure, drawing = draw(scene, name)
        assert len(arrows(figure.axes[0])) == 2, name
        assert CUT_SHORT in drawing.caption


def test_one_seed_has_points_and_no_interval(new, draw):
    scene = scene_of(run(new, seeds=(1,)), margin=0.01)
    for name in ("comparison_graph", "forest", "paired_differences"):
        figure, _ = draw(scene, name)
        assert not any(whiskers(axes) for axes in figure.axes), name
    figure, _ = draw(scene, "forest")
    assert beside(figure.axes[0])[:2] == ["no verdict", "−0.0187 [n/a]"]


def test_the_forest_has_the_ladder_with_the_familys_verdicts(new, draw):
    run(new)
    for base, muon, kimi in zip(new.runs[:5], new.runs[5:10], new.runs[10:15], strict=True):
        muon["val_loss_final"] = base["val_loss_final"] + 0.001 * math.sin(base["seed"])
        kimi["val_loss_final"] += 0.08
    scene = scene_of(new, margin=0.01)
    figure, drawing = draw(scene, "forest")
    family = scene.family
    assert [each.verdict for each in family.comparisons] == ["equivalent", "worse", "better"]
    (ladder,), (times,) = family.ladders, family.time_ladders
    for axes, of in zip(figure.axes, (ladder, times), strict=True):
        rungs = [of.by_optimizer, of.by_model, of.interaction, of.whole]
        expected = [(rung.interval.low, rung.interval.high) for rung in rungs]
        assert np.allclose(whiskers(axes), expected)
        marks = ("s", "^", "d", "D")  # of the arms that stand on the rungs; of none
        assert [points(axes, mark) for mark in marks] == [[[rung.mean]] for rung in rungs]
        labels = [label.get_text().split("\n")[0] for label in axes.get_yticklabels()]
        whole = ["optimizer alone", "model bundle alone", "interaction", "whole difference"]
        assert labels == whole
    verdicts = {(each.arm.model, each.arm.optimizer): each.verdict for each in family.comparisons}
    words = beside(figure.axes[0])[::2]
    assert words == [
        verdicts["gpt", "muon"],
        verdicts["kimi", "adamw"],
        "exploratory",
        verdicts["kimi", "muon"],
    ]
    figures = beside(figure.axes[0])[1::2]
    assert figures[0].startswith(f"{ladder.by_optimizer.mean:+.4f} [".replace("-", "−"))
    ratio = write(math.exp(times.whole.mean), of_measure)
    assert beside(figure.axes[1])[3].startswith(f"{ratio}× [")
    (band,) = [patch for patch in figure.axes[0].patches if patch.get_label() == MARGIN]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-0.01, 0.01))
    assert "98.33 %" not in drawing.caption  # the first look has half of 5 % to spend
    assert "99.17 % each: 3 comparisons, look 1" in drawing.caption


def test_without_a_ladder_the_forest_has_every_arm(new, draw):
    scene = scene_of(run(new, FACTORIAL[:3]), margin=0.01)
    figure, drawing = draw(scene, "forest")
    (axes,) = figure.axes
    comparisons = scene.family.comparisons
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gpt + muon", "kimi + adamw"]
    assert beside(axes)[::2] == [each.verdict for each in comparisons]
    expected = [(each.contrast.interval.low, each.contrast.interval.high) for each in comparisons]
    assert np.allclose(whiskers(axes), expected)
    assert "interaction" not in drawing.caption


def test_of_many_ladders_the_best_are_drawn(new, draw):
    arms = [(model, optimizer) for model in "ABC" for optimizer in "xyz"]
    scene = scene_of(run(new, arms), margin=0.01)
    figure, drawing = draw(scene, "forest")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    tops = [label.split("\n")[1] for label in labels if label.startswith("whole")]
    assert tops == ["to C + y", "to C + z"]  # losses fall from arm to arm
    assert "2 of 4 ladders: to the best arms by final validation loss." in drawing.caption


def test_a_ladder_over_fewer_seeds_than_a_verdict_says_so(new, draw):
    run(new)
    new.runs[-1]["status"] = "crashed"
    _, drawing = draw(scene_of(new, margin=0.01), "forest")
    assert "Intervals are over the seeds that all four arms of a ladder have" in drawing.caption


def test_paired_differences_are_those_of_the_pairs(new, draw):
    scene = scene_of(run(new), margin=0.01)
    figure, drawing = draw(scene, "paired_differences")
    (axes,) = figure.axes
    base = scene.arms[0].spread("val_loss_final").by_seed
    for arm, comparison in zip(scene.arms[1:], scene.family.comparisons, strict=True):
        mine = arm.spread("val_loss_final").by_seed
        seeds, mean = points(axes, scene.look(arm).marker)
        assert seeds == [mine[seed] - base[seed] for seed in SEEDS]
        assert mean == [comparison.contrast.mean]
    intervals = [each.contrast.interval for each in scene.family.comparisons]
    assert np.allclose(whiskers(axes), [(each.low, each.high) for each in intervals])
    heights = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == len(SEEDS)]
    assert all(list(each) == sorted(each) for each in heights)  # y grows downwards
    assert "seed 1 at the top to seed 5 at the bottom" in drawing.caption
    assert beside(axes) == [each.verdict for each in scene.family.comparisons]


@pytest.mark.parametrize("name", ["loss_steps", "loss_tokens", "loss_seconds", "loss_flops"])
def test_a_curve_is_the_mean_with_its_t_interval(new, draw, name):
    scene = scene_of(run(new, FACTORIAL[:2]))
    figure, drawing = draw(scene, name)
    (axes,) = figure.axes
    for arm, line, band in zip(scene.arms, axes.lines, axes.collections[1::2], strict=True):
        last = [seed.y[-1] for seed in seed_lines(arm, steps).values()]
        ends = {"loss_steps": 100, "loss_tokens": 1.0, "loss_flops": 20.0}
        if name in ends:  # in thousands of tokens, and of operations
            assert line.get_xdata()[-1] == ends[name]
            assert line.get_ydata()[-1] == pytest.approx(np.mean(last))
            low, high = stats.t.interval(0.95, 4, np.mean(last), stats.sem(last))
            ys = [y for x, y in band.get_paths()[0].vertices if x == ends[name]]
            assert (min(ys), max(ys)) == pytest.approx((low, high))
        else:
            shortest = min(seed.x[-1] for seed in seed_lines(arm, seconds).values())
            assert line.get_xdata()[-1] == pytest.approx(shortest)
    assert "95 % t interval of the mean" in drawing.caption


def test_units_have_prefixes():
    assert TOKENS.scale(5_120_000) == (1e6, " (millions)")
    assert TOKENS.scale(999) == (1, "")
    assert FLOPS.label.format(FLOPS.scale(3e15)[1]) == "training operations (PFLOP)"


def test_of_many_seeds_few_are_drawn_thin(new, draw):
    scene = scene_of(run(new, FACTORIAL[:2], seeds=range(1, 24)))
    figure, drawing = draw(scene, "loss_steps")
    assert len(figure.axes[0].collections[0].get_paths()) == lines.THIN_SEEDS
    assert "the first 10 of each arm" in drawing.caption
    assert "n = 23" in drawing.caption
    for name in ("comparison_graph", "pareto"):
        figure, drawing = draw(scene, name)
        assert max(len(line.get_xdata()) for line in figure.axes[0].lines) == MOST_POINTS
        assert "single seeds, the first 20 of each arm" in drawing.caption


def test_of_many_arms_single_seeds_are_not_drawn(new, draw):
    arms = [(f"m{index}", "adamw") for index in range(lines.THIN_ARMS + 1)]
    figure, drawing = draw(scene_of(run(new, arms, seeds=(1, 2))), "loss_steps")
    assert len(figure.axes[0].collections) == len(arms)  # the bands
    assert "thin lines" not in drawing.caption


def test_pareto_places_are_means_and_the_front_is_filled(new, draw):
    scene = scene_of(run(new), margin=0.01)
    figure, drawing = draw(scene, "pareto")
    for axes, column in zip(figure.axes, ("train_time_s", "host_rss_peak_mib"), strict=True):
        found = {}
        for line in axes.lines:
            if len(line.get_xdata()) == 1 and line.get_marker() != "None":
                place = (line.get_xdata()[0], line.get_ydata()[0])
                found[line.get_marker()] = (*place, line.get_markerfacecolor() in COLOURS)
        means = {
            scene.look(arm).marker: (arm.spread(column).mean, arm.spread("val_loss_final").mean)
            for arm in scene.arms
        }
        assert {marker: each[:2] for marker, each in found.items()} == means
        filled = {marker for marker, each in found.items() if each[2]}
        assert filled == {
            marker for marker, mine in means.items() if not is_dominated(mine, means.values())
        }
    assert "Dominated: gpt + muon" not in drawing.alt
    assert "Dominated: kimi + adamw" not in drawing.alt.split("memory")[1]


def is_dominated(mine, others) -> bool:
    """By definition: some other is nowhere worse and somewhere better."""
    return any(
        other[0] <= mine[0] and other[1] <= mine[1] and tuple(other) != tuple(mine)
        for other in others
    )


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_the_front_is_what_nothing_dominates(pairs):
    found = [Place(index, cost, loss) for index, (cost, loss) in enumerate(pairs)]
    expected = {index for index, mine in enumerate(pairs) if not is_dominated(mine, pairs)}
    best = front(found)
    assert {place.arm for place in best} == expected
    assert [place.cost for place in best] == sorted(place.cost for place in best)


@given(
    st.lists(st.integers(-9, 9), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(-99, 99), st.integers(0, 99)), max_size=4),
)
def test_a_view_holds_all_figures_and_never_much_more(figures, spans):
    intervals = [Interval(low, low + width) for low, width in spans]
    shown = view(figures, intervals)
    assert shown.low < min(figures)
    assert max(figures) < shown.high
    spread = (max(figures) - min(figures)) or abs(max(figures)) or 1.0
    assert shown.high - shown.low <= 2.6 * spread


@pytest.mark.parametrize("name", ["forest", "paired_differences"])
def test_without_a_claim_there_is_no_margin_and_it_says_so(new, draw, name):
    figure, drawing = draw(scene_of(run(new)), name)
    assert not [patch for axes in figure.axes for patch in axes.patches]
    assert "margin" not in drawing.caption
    assert "No claim was made before the run: this is exploratory." in drawing.caption


@pytest.mark.parametrize(
    "fields",
    [
        dict.fromkeys(("val_loss_final", "train_time_s", "host_rss_peak_mib")),
        {"val_loss_final": 0.0, "train_time_s": 0.0, "host_rss_peak_mib": 0.0},
        {"val_loss_final": 2.0, "train_time_s": 5.0, "host_rss_peak_mib": 300.0},
        {"val_loss_final": -2.0},
        {"train_time_s": 1e-9, "host_rss_peak_mib": 1e12},
    ],
    ids=["unknown", "zero", "equal", "negative", "extreme"],
)
@pytest.mark.parametrize("every", [True, False])
def test_odd_figures_are_drawn_all_the_same(new, draw, fields, every):
    run(new, seeds=(1, 2))
    for row in new.runs if every else new.runs[-2:]:
        row |= fields
    for row in new.curves[:11]:
        row |= {"step": 0, "tokens": None, "train_time_s": 0.0}
    new.ended(new.planned(model="never"), status="diverged")
    figures = draw.all(scene_of(new, margin=0.01))
    assert {"comparison_graph", "loss_steps"} <= set(figures)


def test_a_claim_on_time_carries_its_mark(new, draw):
    run(new, FACTORIAL[:2], seeds=(1, 2))
    for row in new.runs:
        row |= {"tainted": True, "taint_reasons": "swap_used"}
    scene = scene_of(new, margin=1.0, metric="train_time_s")
    for name in ("forest", "paired_differences"):
        figure, drawing = draw(scene, name)
        assert any("†" in text for text, _ in texts_of(figure))
        assert "†: no seed was undisturbed" in drawing.caption
        assert "± 1 s, the margin" in drawing.caption


# --- step times


def test_step_times_are_weighed_by_the_steps_that_they_span(new, draw):
    run(new, FACTORIAL[:2], seeds=(1, 2))
    for index, row in enumerate(new.plan):
        step_file(new, row["run_id"], [4.0 + index] * 3 + [9.0], steps=1 + index % 2)
    scene = scene_of(new)
    figure, drawing = draw(scene, "step_times")
    assert beside(figure.axes[0]) == ["5.00 ms", "7.00 ms"]
    assert "Of each arm 2 undisturbed cells;" in drawing.caption
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
    assert "Of each arm 5 undisturbed cells, the first by seed;" in caption
    assert "without seeds 1, 2: disturbed" in caption


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
    assert "whole device where the cell's own was not told" in drawing.caption


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
        gpu = [(k, GpuReading(sample, frozenset())) for k, sample in enumerate(moments)]
        write_table(path, samples.COLUMNS, samples.rows(Readings(1, 1, gpu=gpu), 0.0, []))
        assert "gpu_over_time" not in draw.all(scene_of(new))
    only_power = GpuSample(None, None, None, 50.0, None, None, None, None, None)
    gpu = [(k, GpuReading(only_power, frozenset())) for k in range(3)]
    write_table(path, samples.COLUMNS, samples.rows(Readings(1, 1, gpu=gpu), 0.0, []))
    figure, drawing = draw(scene_of(new), "gpu_over_time")
    assert len(figure.axes) == 1
    assert "from its launch: power." in drawing.caption
    assert "Memory" not in drawing.caption


def test_whose_memory_it_is(new, draw):
    run(new, FACTORIAL[:1], seeds=(1,), device="cuda")
    sample_file(new, new.plan[0]["run_id"], [100.0, 110.0])
    _, drawing = draw(scene_of(new), "gpu_over_time")
    assert drawing.caption.endswith("Memory is the cell's own.")


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


# --- many arms


def test_of_many_arms_the_baseline_and_the_best_are_shown(new, draw):
    for index in range(25):
        new.ended(new.planned(model=f"m{index}"), val_loss_final=3.0 - 0.1 * index)
    scene = scene_of(new, margin=0.01)
    assert [arm.model for arm in scene.arms] == ["m0", *(f"m{index}" for index in range(6, 25))]
    assert len(scene.comparisons) == MOST_ARMS - 1
    assert scene.note == "20 of 25 arms: the baseline and the best by val_loss_final."
    _, drawing = draw(scene, "comparison_graph")
    assert drawing.caption.endswith(scene.note)
