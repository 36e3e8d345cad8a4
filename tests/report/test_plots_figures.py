"""What pictures draw equals the statistics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.merge.curves import seconds, seed_lines, steps
from bench.report.plots import lines
from bench.report.plots.axes import CUT_SHORT, MARGIN, view
from bench.report.plots.lines import FLOPS, TOKENS
from bench.report.plots.pareto import ArmPoint, front
from bench.report.plots.style import COLOURS, MOST_POINTS
from bench.statistics.interval import Interval
from bench.statistics.text import of_measure, write
from tests.builders.pictures import arrows, beside, points, scene_of, texts_of, whiskers
from tests.builders.results import Results
from tests.builders.scenes import FACTORIAL, SEEDS, run


@pytest.fixture
def new(tmp_path):
    return Results(tmp_path / "first")


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
    assert beside(figure.axes[0])[:2] == ["no verdict", "−0.0187"]


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
        contrasts = [of.by_optimizer, of.by_model, of.interaction, of.whole]
        expected = [(each.interval.low, each.interval.high) for each in contrasts]
        assert np.allclose(whiskers(axes), expected)
        marks = ("s", "^", "d", "D")  # of the arms that the contrasts lead to; of none
        assert [points(axes, mark) for mark in marks] == [[[each.mean]] for each in contrasts]
        labels = [label.get_text().split("\n")[0] for label in axes.get_yticklabels()]
        whole = ["optimizer alone", "model alone", "interaction", "whole difference"]
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
    assert "99.17 % each: 3 comparisons, interim look 1" in drawing.caption


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
    assert (
        "Shown are the best 2 of 4 configurations with another model and another" in drawing.caption
    )


def test_a_ladder_over_fewer_seeds_than_a_verdict_says_so(new, draw):
    run(new)
    new.runs[-1]["status"] = "crashed"
    _, drawing = draw(scene_of(new, margin=0.01), "forest")
    assert "Intervals are over the seeds that all four configurations have" in drawing.caption


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
    assert "the first 10 of each configuration" in drawing.caption
    assert "n = 23" in drawing.caption
    for name in ("comparison_graph", "pareto"):
        figure, drawing = draw(scene, name)
        assert max(len(line.get_xdata()) for line in figure.axes[0].lines) == MOST_POINTS
        assert "single seeds, the first 20 of each configuration" in drawing.caption


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
    found = [ArmPoint(index, cost, loss) for index, (cost, loss) in enumerate(pairs)]
    expected = {index for index, mine in enumerate(pairs) if not is_dominated(mine, pairs)}
    best = front(found)
    assert {point.arm for point in best} == expected
    assert [point.cost for point in best] == sorted(point.cost for point in best)


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
    scene = scene_of(new, margin=0.5, metric="train_time_s")
    for name in ("forest", "paired_differences"):
        figure, drawing = draw(scene, name)
        assert any("†" in text for text, _ in texts_of(figure))
        assert "± 50 %, the margin" in drawing.caption
