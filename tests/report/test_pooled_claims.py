"""Claims of three seeds, by one deviation of all configurations."""

import pytest

from bench.matrix.claim_forms import Claim
from bench.merge.asked import Asked
from bench.report.family import make_family
from bench.report.looks import claim_fingerprint
from bench.report.page.answer import answer_tables
from bench.statistics.verdict import Verdict
from tests.builders.claims import arm
from tests.builders.results import Results, sections_of

LOSSES = {
    "adamw": [2.00, 2.02, 2.01],
    "muon": [1.90, 1.89, 1.91],
    "lion": [2.01, 2.00, 2.03],
    "sgd": [2.10, 2.12, 2.11],
}


def claim(variance: str) -> Asked:
    baseline = {"model": "gpt", "optimizer": "adamw"}
    asked = {"baseline": baseline, "metric": "val_loss_final", "margin": 0.01}
    return Asked(Claim.model_validate({**asked, "variance": variance}))


def judged(folder: Results, variance="pooled", losses=LOSSES):
    for optimizer, found in losses.items():
        arm(folder, optimizer=optimizer, losses=found)
    (section,) = sections_of(folder)
    family = make_family(section, claim(variance), 1)
    return section, family, {each.arm.optimizer: each for each in family.comparisons}


def test_three_seeds_have_verdicts_by_one_deviation_and_none_by_their_own(new):
    _, family, found = judged(new())
    verdicts = {name: each.verdict for name, each in found.items()}
    assert verdicts == {
        "muon": Verdict.BETTER,
        "lion": Verdict.UNDECIDED,
        "sgd": Verdict.WORSE,
    }
    assert family.pooled.variance.freedom == 8
    _, _, own = judged(new("own"), "own")
    assert {each.verdict for each in own.values()} == {Verdict.TOO_FEW}


def test_the_page_tells_the_deviation_and_how_well_it_is_known(new):
    section, family, _ = judged(new())
    (first, *_) = answer_tables(section, [family], claim("pooled"))
    assert (
        "One standard deviation for all configurations, 0.0115 (8 degrees of freedom)" in first.note
    )
    assert "A verdict needs 3 pairs." in first.note


def test_seeds_that_would_decide_go_by_the_deviation_of_all(new):
    _, _, found = judged(new())
    needed = found["lion"].seeds_needed
    assert 3 < needed.low < needed.high


def test_spreads_that_differ_give_no_verdict(new):
    wild = {"adamw": [2.0, 2.0001, 2.0002], "muon": [1.0, 1.9, 2.9]}
    _, _, found = judged(new(), losses=wild)
    judgement = found["muon"].judgement
    assert judgement.verdict is Verdict.NOT_AVAILABLE
    assert judgement.why.startswith("spreads differ clearly")


def test_two_seeds_have_no_verdict(new):
    _, _, found = judged(new(), losses={name: each[:2] for name, each in LOSSES.items()})
    assert {each.judgement.why for each in found.values()} == {
        "2 pairs of seeds; a verdict needs 3"
    }


def test_a_failed_seed_is_tested_by_its_sign_for_which_three_are_too_few(new):
    folder = new()
    run_id = folder.planned(optimizer="muon", seed=4)
    folder.ended(run_id, status="crashed", reason="exit code 1")
    arm(folder, optimizer="adamw", losses=[2.0], first=4)
    _, _, found = judged(folder)
    assert found["muon"].verdict is Verdict.UNDECIDED


def test_how_a_claim_is_tested_is_part_of_it(new):
    _, pooled, _ = judged(new())
    _, own, _ = judged(
        new("five"), "own", {k: [*v, v[0] + 0.003, v[1] - 0.004] for k, v in LOSSES.items()}
    )
    _, five, _ = judged(
        new("pooled five"),
        "pooled",
        {k: [*v, v[0] + 0.003, v[1] - 0.004] for k, v in LOSSES.items()},
    )
    assert claim_fingerprint([own]) != claim_fingerprint([five])
    assert claim_fingerprint([pooled]) == claim_fingerprint([five])


@pytest.mark.parametrize("variance", ["shared", "Pooled"])
def test_another_word_is_refused(variance):
    with pytest.raises(ValueError, match="variance"):
        claim(variance)
