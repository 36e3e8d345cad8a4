"""The rates of figures of curves in docs/statistics.md hold, and are those of the report's own."""

import numpy as np
import pytest

from bench.matrix.claim_forms import Terms
from bench.merge.curves import SeedCurve
from bench.merge.from_curves import _figure
from tests.builders.shared import ROOT
from tests.statistics import curves
from tests.statistics.calibration import ARMS

SAMPLE = 40  # experiments that are worked out one by one as well


def terms(metric: str, **more) -> Terms:
    return Terms.model_validate({"metric": metric, "margin": 0.5, **more})


@pytest.mark.parametrize(
    ("simulated", "asked"),
    [
        (curves.tail, terms("val_loss_tail", tail=curves.TAIL)),
        (curves.at_equal_time, terms("val_loss_at_equal_time")),
        (
            lambda losses, times: np.exp(curves.time_to(losses, times, 3.0)),
            terms("time_to", target=3.0),
        ),
    ],
)
def test_simulated_figures_are_the_reports(simulated, asked):
    losses, times = curves.random_curves("a sample", 5)
    losses, times = losses[:SAMPLE], times[:SAMPLE]
    expected = simulated(losses, times)
    for draw in range(SAMPLE):
        lines = [
            SeedCurve(times[draw, arm, seed], losses[draw, arm, seed])
            for arm in range(ARMS)
            for seed in range(5)
        ]
        figure, _, why_not = _figure(asked, lines)
        assert not why_not
        found = [figure(line) for line in lines]
        assert [np.nan if value is None else value for value in found] == pytest.approx(
            expected[draw].ravel().tolist(), nan_ok=True
        )


def test_equal_arms_are_told_apart_no_more_often_than_promised():
    for n in (5, 10):
        for name, rate in curves.wrong_rates(n).items():
            assert rate < 0.055, (n, name)


def test_what_is_better_by_twice_the_noise_is_mostly_found():
    rates = curves.found_rates(10)
    assert min(rates.values()) > 0.5
    assert rates["mean of the last 5 evaluations"] > rates["final loss"]


def test_the_tables_of_the_docs_are_these():
    page = (ROOT / "docs" / "statistics.md").read_text()
    for table in curves.tables():
        assert table in page
