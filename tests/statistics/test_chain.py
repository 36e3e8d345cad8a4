"""Verdicts on tuned optimizers hold at their level, if tuning is what is repeated."""

import itertools

import numpy as np
import pytest

from bench.matrix.choice import best_trial
from bench.matrix.space import sequence
from bench.matrix.tune_forms import Linear
from bench.statistics.contrast import Contrast
from bench.statistics.ends import End, Ends
from bench.statistics.verdict import Verdict, judge
from tests.builders.shared import ROOT
from tests.statistics import chain


def test_the_points_are_those_that_a_matrix_plans():
    space = {"rate0": Linear(linear=[0.0, 1.0]), "rate1": Linear(linear=[0.0, 1.0])}
    found = chain.points(chain.TWO)
    for study in range(5):
        planned = itertools.islice(sequence(space, study + 1), 15)
        assert found[study].tolist() == [[*point.values()] for point in planned]


def test_the_choice_is_that_of_the_product():
    seen = np.random.default_rng(1).normal(size=(50, 8))
    for row in seen:
        figures = {number: [figure] for number, figure in enumerate(row, start=1)}
        assert best_trial(figures, more_is_better=False) == row.argmin() + 1


def test_the_verdicts_are_the_reports():
    draws = chain.difference(chain.pair(chain.ONE))[:200]
    ends = Ends({(End.FINISHED, End.FINISHED): 5})
    judged = [
        judge(
            Contrast(dict(enumerate(row)), relative=False, confidence=0.95),
            ends,
            margin=None,
            lower_is_better=True,
            least_seeds=5,
        ).verdict
        for row in draws.tolist()
    ]
    shares = [judged.count(verdict) / 200 for verdict in (Verdict.BETTER, Verdict.WORSE)]
    assert chain.verdicts(draws) == pytest.approx(tuple(shares))


@pytest.mark.parametrize("studies", [5, 10])
def test_equally_good_optimizers_of_equal_spaces_are_told_apart_no_more_than_promised(studies):
    rates = chain.wrong_rates(studies)
    assert max(rates[name] for name in chain.EQUAL) < 0.055


def test_tuned_once_they_are_told_apart_far_too_often():
    """What made studies necessary: two rates, of which one tuning is as good as a coin."""
    rates = chain.wrong_rates(5, once=True)
    assert min(rates.values()) > 0.1
    assert rates["two rates, 16 trials"] > 0.3


def test_twice_the_margin_is_mostly_found_where_the_budget_fits_the_space():
    rates = chain.found_rates(5)
    assert all(rate > 0.7 for name, rate in rates.items() if name != "two rates, 8 trials")


def test_the_tables_of_the_docs_are_these():
    page = (ROOT / "docs" / "statistics.md").read_text()
    for table in chain.tables():
        assert table in page
