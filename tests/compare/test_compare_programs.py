"""Two versions of a training script: its own metrics, runs without pairs, times by their source."""

import json

import pytest
from scipy.stats import ttest_ind

from bench.compare.gate import make_gate
from bench.compare.judge import GateStatus, VersionComparison
from bench.compare.pairing import setup_at
from bench.compare.write import as_dict, as_text
from bench.errors import RequestError
from bench.statistics.verdict import Verdict
from tests.builders.programs import BASE, Programs, spread


class Versions:
    """The same arm in two folders, by a metric of which more is better."""

    def __init__(self, place, **shared) -> None:
        declared = {"metrics": {"acc": "higher"}, **shared}
        self.base, self.new = (Programs(place / name, **declared) for name in ("base", "new"))

    def figures(self, base, new, **fields) -> None:
        for side, found in ((self.base, base), (self.new, new)):
            side.declared(BASE, "acc", found, **fields)

    def compared(self, *rules: str) -> VersionComparison:
        base, new = self.base.write(), self.new.write()
        return make_gate(rules, "pass", "drop", "text", setup_at(base)).compare(base, new)


@pytest.fixture
def versions(tmp_path):
    return Versions(tmp_path)


def test_a_declared_metric_has_its_line_and_its_rule(versions):
    versions.figures(spread(90.0, 0.5), [x - 5 + 0.1 * i for i, x in enumerate(spread(90.0, 0.5))])
    compared = versions.compared("acc<-1")
    [line] = [line for line in compared.arms[0].lines if line.metric == "acc"]
    assert (line.judgement.verdict, line.contrast.relative) == (Verdict.WORSE, False)
    assert compared.outcome is GateStatus.FAIL
    assert "FAILED: acc<-1, small + slow, cpu: -4.8000" in as_text(compared)
    with pytest.raises(RequestError, match="more of it is better"):
        versions.compared("acc>1")
    with pytest.raises(RequestError, match="no such metric"):
        make_gate(["acc<-1"], "pass", "drop", "text")


def test_replicates_are_compared_by_means(tmp_path):
    versions = Versions(tmp_path, seeds="replicates")
    base, new = spread(90.0, 0.5), spread(91.0, 0.7)[::-1]
    versions.figures(base, new)
    compared = versions.compared()
    [line] = [line for line in compared.arms[0].lines if line.metric == "acc"]
    low, high = ttest_ind(new, base, equal_var=False).confidence_interval(0.95)
    interval = line.contrast.interval
    assert (interval.low, interval.high) == pytest.approx((low, high))
    told = as_text(compared)
    assert "5 against 5" in told
    assert "its runs are compared as replicates, without pairs" in told
    written = as_dict(compared)["arms"][0]["metrics"]["acc"]
    assert (written["pairs"], written["runs_new_base"]) == (None, [5, 5])


def test_a_replicate_that_failed_takes_no_run_of_the_other_side_with_it(tmp_path):
    versions = Versions(tmp_path, seeds="replicates")
    versions.figures(spread(90.0, 0.5, 6), spread(95.0, 0.5, 6))
    versions.base.run(BASE, 7, "diverged")
    versions.new.run(BASE, 7, metrics={"acc": 95.0})
    [line] = [line for line in versions.compared().arms[0].lines if line.metric == "acc"]
    assert [len(group) for group in line.contrast.groups] == [7, 6]
    assert line.judgement.why == "49 of 49 comparisons of two runs"


def test_times_of_another_source_are_not_compared(versions):
    versions.figures(spread(90.0, 0.5), spread(90.0, 0.5), train_time_s=5.0, wall_time_s=9.0)
    for side, source in ((versions.base, "told"), (versions.new, "stamps")):
        for row in side.runs:
            row["step_time_source"] = source
    compared = versions.compared()
    assert compared.arms[0].line("train_time_s") is None
    assert compared.arms[0].line("wall_time_s").contrast.n == 5
    assert "training times are stamps and told (step_time_source): not compared" in as_text(
        compared
    )


def test_two_versions_of_a_program_are_joined_by_name(versions):
    versions.figures(spread(90.0, 0.5), spread(80.0, 0.6))
    other = {**json.loads(versions.new.settings)["program"], "sha256": "f" * 12}
    versions.new.settings = json.dumps({"program": other}, sort_keys=True)
    for row in versions.new.runs:
        row |= {"settings": versions.new.settings, "arm_id": "another"}
    compared = versions.compared("acc<-1")
    assert compared.outcome is GateStatus.FAIL
    assert "its program, or what it was asked, is another in NEW" in as_text(compared)


def test_versions_that_read_a_metric_otherwise_are_not_joined(versions):
    versions.figures(spread(90.0, 0.5), spread(80.0, 0.6))
    other = {**json.loads(versions.new.settings)["program"], "metrics": {"acc": "lower"}}
    for row in versions.new.runs:
        row |= {"settings": json.dumps({"program": other}), "arm_id": "another"}
    assert versions.compared().arms == ()
