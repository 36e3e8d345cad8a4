"""Figures that a claim takes from curves, against cases that were worked by hand."""

import pytest

from bench.matrix.claim_forms import Terms
from bench.merge.from_curves import with_curves
from bench.records.columns import AT_EQUAL_COST, OF_CURVES, TO_TARGET
from tests.builders.results import Results, sections_of

# An arm -> (seconds of ten steps, losses at steps 0, 10, ... 50); each seed is 0.1 above the last.
LOSSES = {
    "adamw": (1.0, [4.0, 3.0, 2.5, 2.2, 2.0, 1.9]),
    "muon": (2.0, [4.0, 2.6, 2.2, 1.9, 1.8, 1.7]),
}


def curves(folder: Results, seeds=(1, 2), **fields) -> Results:
    for optimizer, (each_s, losses) in LOSSES.items():
        for seed in seeds:
            run_id = folder.planned(optimizer=optimizer, seed=seed)
            folder.ended(run_id, val_loss_final=losses[-1], **fields)
            more = 0.1 * (seed - 1)
            points = [(10 * i, each_s * i, loss + more) for i, loss in enumerate(losses)]
            folder.curve(run_id, points)
    return folder


def figures(folder: Results, metric: str, **terms) -> tuple[dict[str, dict[int, float]], str, str]:
    """(optimizer -> seed -> figure, at what it is taken, why it decides nothing)."""
    (section,) = sections_of(folder)
    asked = Terms.model_validate({"metric": metric, "margin": 0.01, **terms})
    found = with_curves(section, [asked])
    of_arms = {arm.optimizer: dict(arm.spread(metric).by_seed) for arm in found.arms}
    return of_arms, found.claimed[metric].words, found.claimed[metric].why_not


def near(values):
    return pytest.approx(values)


def test_at_equal_time_losses_are_read_where_the_first_run_ends(new):
    """adamw ends at 5 s; muon is then half-way from its evaluation at 4 s to that at 6 s."""
    found, words, why_not = figures(curves(new()), "val_loss_at_equal_time")
    assert found["adamw"] == near({1: 1.9, 2: 2.0})
    assert found["muon"] == near({1: 2.05, 2: 2.15})
    assert words == "at 5.00 s of training, where the first run ends"
    assert not why_not


def test_at_equal_tokens_runs_of_as_many_steps_have_their_final_losses(new):
    found, words, _ = figures(curves(new()), "val_loss_at_equal_tokens")
    assert found["muon"] == near({1: 1.7, 2: 1.8})
    assert words == "at 500 tokens, where the first run ends"


def test_at_equal_operations_the_optimizers_steps_count(new):
    """10 operations a token and 10 tokens a step; 100 a step of adamw, and 300 of muon.

    adamw ends at 50 x 200 = 10,000, where muon has made 25 of its steps of 400.
    """
    folder = curves(new())
    for row in folder.runs:
        row["optimizer_flops_per_step"] = 300 if row["optimizer"] == "muon" else 100
    found, words, _ = figures(folder, "val_loss_at_equal_flops")
    assert found["adamw"] == near({1: 1.9, 2: 2.0})
    assert found["muon"] == near({1: 2.05, 2: 2.15})
    assert words == "at 0.000010 × 10⁹ FLOPs, where the first run ends"


def test_a_budget_that_is_given_is_where_losses_are_read(new):
    found, words, why_not = figures(curves(new()), "val_loss_at_equal_time", budget=3.5)
    assert found["adamw"] == near({1: 2.1, 2: 2.2})
    assert found["muon"] == near({1: 2.6 - 0.4 * 0.75, 2: 2.7 - 0.4 * 0.75})
    assert words == "at 3.50 s of training"
    assert not why_not


def test_a_budget_beyond_the_end_of_any_run_decides_nothing(new):
    _, _, why_not = figures(curves(new()), "val_loss_at_equal_time", budget=7.0)
    assert why_not == "2 of 4 runs end before that"


def test_a_run_that_was_not_evaluated_by_then_has_no_figure(new):
    folder = curves(new())
    folder.curves = [
        row
        for row in folder.curves
        if not (row["run_id"].startswith("gpt/muon") and row["step"] < 30)
    ]
    found, _, _ = figures(folder, "val_loss_at_equal_time")
    assert found["muon"] == {}


def test_disturbed_seeds_are_left_out_of_both_arms_at_equal_time_alone(new):
    folder = curves(new(), seeds=(1, 2, 3))
    folder.runs[1] |= {"tainted": "true", "taint_reasons": "cpu_steal 3%"}
    at_time, _, _ = figures(folder, "val_loss_at_equal_time")
    assert set(at_time["adamw"]) == set(at_time["muon"]) == {1, 3}
    at_tokens, _, _ = figures(folder, "val_loss_at_equal_tokens")
    assert set(at_tokens["adamw"]) == {1, 2, 3}


def test_without_operations_there_is_no_figure_at_equal_operations(new):
    folder = curves(new(), flops_per_token=None)
    found, _, why_not = figures(folder, "val_loss_at_equal_flops")
    assert found == {"adamw": {}, "muon": {}}
    assert why_not == "no run tells its operations"


@pytest.mark.parametrize(
    ("metric", "adamw", "muon"),
    [
        ("steps_to", {1: 30.0, 2: 40.0}, {1: 20.0, 2: 30.0}),
        ("tokens_to", {1: 300.0, 2: 400.0}, {1: 200.0, 2: 300.0}),
        ("time_to", {1: 3.0, 2: 4.0}, {1: 4.0, 2: 6.0}),
    ],
)
def test_a_target_is_reached_where_it_is_held(new, metric, adamw, muon):
    found, words, _ = figures(curves(new()), metric, target=2.2)
    assert (found["adamw"], found["muon"]) == (near(adamw), near(muon))
    assert words == "a validation loss of 2.2000"


def test_one_dip_below_a_target_does_not_reach_it(new):
    folder = curves(new(), seeds=(1,))
    next(row for row in folder.curves if row["step"] == 10)["val_loss"] = 1.0
    found, _, _ = figures(folder, "steps_to", target=2.2)
    assert found["adamw"] == near({1: 30.0})


def test_a_seed_that_falls_short_is_known_to(new):
    (section,) = sections_of(curves(new()))
    terms = Terms.model_validate({"metric": "steps_to", "margin": 0.01, "target": 1.85})
    arms = {arm.optimizer: arm for arm in with_curves(section, [terms]).arms}
    assert arms["adamw"].missed("steps_to", 1)
    assert not arms["muon"].missed("steps_to", 1)
    assert not arms["muon"].missed("steps_to", 7), "there is no such seed"


def test_the_tail_is_the_mean_of_the_last_evaluations(new):
    found, words, _ = figures(curves(new()), "val_loss_tail", tail=3)
    assert found["adamw"] == near({1: (2.2 + 2.0 + 1.9) / 3, 2: (2.3 + 2.1 + 2.0) / 3})
    assert words == "3 of them"


def test_the_evaluation_before_the_first_step_is_in_no_tail(new):
    found, _, _ = figures(curves(new()), "val_loss_tail", tail=6)
    assert found == {"adamw": {}, "muon": {}}


def test_figures_of_several_claims_stand_beside_each_other(new):
    (section,) = sections_of(curves(new()))
    asked = [
        Terms.model_validate({"metric": "val_loss_tail", "margin": 0.01, "tail": 2}),
        Terms.model_validate({"metric": "val_loss_final", "margin": 0.01}),
        Terms.model_validate({"metric": "steps_to", "margin": 0.01, "target": 2.2}),
    ]
    found = with_curves(section, asked)
    assert list(found.claimed) == ["val_loss_tail", "steps_to"]
    assert found.arms[0].spread("val_loss_final").mean == near(1.9)
    assert found.arms[0].spread("val_loss_tail").by_seed == near({1: 1.95, 2: 2.05})


def test_every_figure_of_curves_is_one_of_these_kinds():
    assert {*OF_CURVES} == {"val_loss_tail", *AT_EQUAL_COST, *TO_TARGET}
