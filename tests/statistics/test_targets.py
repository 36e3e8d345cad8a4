"""The rates of claims on a fixed target in docs/statistics.md hold."""

from tests.builders.shared import ROOT
from tests.statistics import targets


def test_a_mean_at_the_target_is_shown_no_more_often_than_promised():
    for n in (5, 10):
        own, known = targets.rates(n)["a mean at the target: “shown”"]
        assert max(own, known) < targets.ALPHA + 0.004, n


def test_the_tables_of_the_docs_are_these():
    page = (ROOT / "docs" / "statistics.md").read_text()
    for table in targets.tables():
        assert table in page
