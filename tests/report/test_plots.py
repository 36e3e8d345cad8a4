"""Pictures can be read, and their files are small and always the same."""

import io
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from bench.report.plots.canvas import MOST, reduced
from bench.report.plots.drawing import MOST_ARMS
from bench.report.plots.gallery import NAMES as ALL_NAMES
from bench.report.plots.gallery import PICTURES, draw_all
from bench.report.plots.style import COLOURS, FAINT, styles
from tests.builders.pictures import scene_of, texts_of
from tests.builders.results import Results
from tests.builders.scenes import (
    FACTORIAL,
    run,
    with_raw_files,
)

# The picture of trials needs some: test_report_tuning.py has it.
NAMES = [name for name in ALL_NAMES if name != "sensitivity"]


@pytest.fixture
def new(tmp_path):
    return Results(tmp_path / "first")


# --- it can be read


@pytest.mark.slow
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
    compared = {"forest", "paired_differences", "difference_course", "pareto"}
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
    titled = replace(scene, title="A title: naïve → $x$")
    return scene, {drawing.name: drawing for drawing in draw_all(titled)}


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


# --- many arms


def test_of_many_arms_the_baseline_and_the_best_are_shown(new, draw):
    for index in range(25):
        new.ended(new.planned(model=f"m{index}"), val_loss_final=3.0 - 0.1 * index)
    scene = scene_of(new, margin=0.01)
    assert [arm.model for arm in scene.arms] == ["m0", *(f"m{index}" for index in range(6, 25))]
    assert len(scene.comparisons) == MOST_ARMS - 1
    assert scene.note == "20 of 25 configurations: the baseline and the best by val_loss_final."
    _, drawing = draw(scene, "comparison_graph")
    assert drawing.caption.endswith(scene.note)
