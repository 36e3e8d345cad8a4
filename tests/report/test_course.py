"""The difference from the baseline while both train, against cases that were worked by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from bench.merge.asked import Asked
from bench.merge.curves import seconds, steps
from bench.report.anytime import OPENING, PLACES, courses
from bench.report.build import build_report
from bench.report.family import make_family
from tests.builders.claims import claimed
from tests.builders.results import Results, sections_of, two_arms


def course_of(folder: Results, cost, asked: Asked | None = None):
    (section,) = sections_of(folder)
    family = make_family(section, asked or claimed(), 1)
    return family, courses(section, family, cost)


def crossing(folder: Results, n=5, each_s=(0.05, 0.05)) -> Results:
    """muon is ahead by 0.5 at step 0 and behind by 0.5 at step 100, give or take its seed."""
    for seed in range(1, n + 1):
        for optimizer, tilt, step_s in zip(("adamw", "muon"), (0.0, 1.0), each_s, strict=True):
            run_id = folder.planned(optimizer=optimizer, seed=seed)
            folder.ended(run_id)
            own = 0.01 * seed * tilt
            points = [(s, s * step_s, 2.0 + tilt * (s / 100 - 0.5) + own) for s in (0, 50, 100)]
            folder.curve(run_id, points)
    return folder


def test_ahead_early_and_behind_late(new):
    _, (course,) = course_of(crossing(new()), steps)
    assert course.x == pytest.approx(np.linspace(OPENING * 100, 100, PLACES))
    assert course.mean == pytest.approx(course.x / 100 - 0.5 + 0.03)
    assert course.mean[0] < 0 < course.mean[-1]


def test_the_band_holds_at_all_places_together(new):
    """Own noises are 0.01 to 0.05: a deviation of 0.0158 at each place."""
    family, (course,) = course_of(crossing(new()), steps)
    quantile = stats.t.isf(family.alpha / PLACES / 2, 4)
    assert course.half == pytest.approx(quantile * math.sqrt(2.5e-4) / math.sqrt(5))


def test_against_time_it_ends_with_the_first_run_and_reads_both_at_one_moment(new):
    """At 5 s, where adamw ends, muon has made 50 of its steps of 0.1 s."""
    _, (course,) = course_of(crossing(new(), each_s=(0.05, 0.1)), seconds)
    assert course.x[-1] == pytest.approx(5.0)
    assert course.mean[-1] == pytest.approx(0.03)


def test_two_pairs_have_no_band_against_time(new):
    folder = crossing(new(), n=2)
    assert course_of(folder, steps)[1][0].half is not None
    assert course_of(folder, seconds)[1][0].half is None


def test_an_arm_without_curves_has_no_course(new):
    folder = crossing(new())
    folder.curves = [row for row in folder.curves if "muon" not in row["run_id"]]
    assert course_of(folder, steps)[1] == []


def page_of(folder: Results, tmp_path) -> str:
    build_report([folder.write()], tmp_path / "report")
    return (tmp_path / "report" / "report.md").read_text().replace("\\", "")


def test_the_page_has_the_picture_and_its_words(new, tmp_path):
    page = page_of(two_arms(new(), seeds=(1, 2, 3)), tmp_path)
    assert (tmp_path / "report" / "difference_course.png").exists()
    (alt,) = [line for line in page.splitlines() if "](difference_course.png)" in line]
    assert "against training steps: gpt + muon " in alt
    assert "against training time: " in alt
    assert "at the same training steps, training operations and training time" in page


def test_without_curves_there_is_no_picture(new, tmp_path):
    folder = two_arms(new(), seeds=(1, 2, 3))
    folder.curves = []
    assert "difference_course" not in page_of(folder, tmp_path)
