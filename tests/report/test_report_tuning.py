"""Tuned arms are judged, trials are in a section of their own, and the rest says what it is."""

import json
from pathlib import Path

import pytest

from bench.merge.frames import summary_rows
from bench.merge.merging import merge
from bench.merge.sections import make_sections
from bench.merge.tuned import tunings
from bench.report.build import build_report
from bench.report.family import TUNED_ONCE
from bench.report.page.content import Table
from bench.report.page.tuning import trials_table, tuning_tables
from bench.report.plots.drawing import make_scene
from bench.report.plots.style import styles
from tests.builders.answers import NOISE, Answer
from tests.builders.pictures import Draw
from tests.builders.results import Results

ASKED = """
name: tiny
matrix: {model: [m], optimizer: [o], device: [cpu], seed: [1]}
tune: {trials: 3, seeds: [101, 102], space: {lr: {log: [0.001, 0.1]}, decay: [0.0, 0.1]}}
claim: {baseline: {model: gpt, optimizer: adamw}, metric: test_loss_final, margin: 0.01}
"""
TRIED = [{"lr": 0.01, "decay": 0.0}, {"lr": 0.03, "decay": 0.0}, {"lr": 0.001, "decay": 0.1}]
# The mean of each trial, None: it diverged on a seed.
LOSSES = {"adamw": (2.0, 1.8, 2.5), "muon": (1.9, None, 1.95)}


def tuned_results(path: Path, losses=LOSSES, ended=True) -> Results:
    """Two untuned arms on five seeds, three trials of each on two, then the tuned arms."""
    folder = Results(path)
    for optimizer, means in losses.items():
        for seed in range(1, 6):
            run_id = folder.planned(optimizer=optimizer, seed=seed)
            end(folder, run_id, means[0], seed)
    for optimizer, means in losses.items():
        for number, mean in enumerate(means, start=1):
            for seed in (101, 102):
                trial(folder, optimizer, number, seed, mean)
    for optimizer, means in losses.items():
        known = [mean for mean in means if mean is not None]
        best = means.index(min(known)) + 1
        for seed in range(1, 6):
            tuned(folder, optimizer, best if ended else None, seed, min(known))
    return folder


def end(folder: Results, run_id: str, loss: float, seed: int, **fields: object) -> None:
    value = loss + 0.01 * seed + (NOISE[seed % 5] if "muon" in run_id else 0.0)
    folder.ended(run_id, val_loss_final=value, test_loss_final=value + 0.1, **fields)


def trial(folder: Results, optimizer: str, number: int, seed: int, mean: float | None) -> None:
    name = f"{optimizer}-trial-{number}"
    run_id = folder.planned(optimizer=name, seed=seed)
    tried = {"part": "trial", "tuned_optimizer": optimizer, "trial": number}
    folder.plan[-1] |= tried
    about = tried | {"tuned_settings": json.dumps(TRIED[number - 1])}
    if mean is None and seed == 102:
        folder.ended(run_id, "diverged", **about)
    else:
        end(folder, run_id, mean or 1.0, seed, **about)


def tuned(folder: Results, optimizer: str, best: int | None, seed: int, loss: float) -> None:
    """As the plan has it: where the untuned setting is best, its own run under another name."""
    twin = f"gpt/{optimizer}/cpu#{seed}" if best == 1 else ""
    folder.planned(optimizer=f"{optimizer}-tuned", seed=seed)
    row = folder.plan[-1]
    row |= {"part": "tuned", "tuned_optimizer": optimizer, "trial": best}
    if twin:
        row["run_id"], row["arm_id"] = twin, f"gpt/{optimizer}/cpu"
    elif best:
        end(folder, row["run_id"], loss, seed, part="tuned", tuned_optimizer=optimizer, trial=best)


@pytest.fixture
def answer(tmp_path: Path) -> Answer:
    return Answer(tuned_results(tmp_path / "r"), ASKED)


def rows_of(table: Table) -> list[dict[str, str]]:
    heads = [heading.text for heading in table.headings]
    return [{head: cell.text for head, cell in zip(heads, row, strict=True)} for row in table.rows]


# --- What is judged


def test_the_verdict_is_that_of_tuned_arms_against_the_tuned_baseline(answer):
    assert answer.headline.lead == (
        "Final test loss (nats per token) against gpt + adamw-tuned, margin 0.01, each "
        "configuration tuned in 3 trials on 2 seeds: gpt + muon-tuned has no verdict yet on 5 of 5 "
        "planned seeds."
    )
    (compared,) = answer.family.comparisons
    assert compared.judgement.why == TUNED_ONCE
    assert compared.contrast.mean == pytest.approx(0.1, abs=1e-9)


def test_trials_are_in_no_arm_and_no_summary(answer):
    arms = [arm.label for arm in answer.section.arms]
    assert arms == ["gpt + adamw", "gpt + muon", "gpt + adamw-tuned", "gpt + muon-tuned"]
    assert [row["optimizer"] for row in summary_rows([answer.section])] == [
        arm.partition(" + ")[2] for arm in arms
    ]
    assert {len(arm.seeds) for arm in answer.section.arms} == {5}


def test_an_arm_that_tuning_has_not_bettered_is_itself_under_its_tuned_name(answer):
    untuned, twin = (answer.section.arms[index] for index in (1, 3))
    assert twin.spread("val_loss_final") == untuned.spread("val_loss_final")
    assert (twin.arm_id, twin.untuned) == (untuned.arm_id, "muon")
    merged = merge([answer.folder])
    assert len(merged.cells) == 10 + 12 + 5  # its cells are counted once


def test_nothing_is_tested_before_the_trials_have_ended(tmp_path):
    answer = Answer(tuned_results(tmp_path / "r", ended=False), ASKED)
    assert not answer.family.is_tested
    told = "has no verdict yet on 0 of 5 planned seeds, 5 run in neither."
    assert answer.headline.lead.endswith(told)


def test_untuned_arms_alone_are_not_tested_where_tuned_ones_are_to_be(tmp_path):
    folder = tuned_results(tmp_path / "r")
    for row in folder.plan:
        row["selected"] = row.get("part") != "tuned"
    answer = Answer(folder, ASKED)
    assert answer.family is None
    told = "Nothing is tested: the claim is about tuned configurations, and none"
    assert answer.headline.lead.startswith(told)


def test_what_was_not_tuned_says_so(tmp_path):
    folder = Results(tmp_path / "r")
    for optimizer in ("adamw", "muon"):
        for seed in range(1, 6):
            end(folder, folder.planned(optimizer=optimizer, seed=seed), 2.0, seed)
    lead = Answer(folder, ASKED.replace("tune:", "#")).headline.lead
    assert lead.endswith(", at these learning rates: nothing was tuned here.")


# --- What it took


def test_the_budget_the_choice_and_both_losses_stand_side_by_side(answer):
    chosen, _, beside = tuning_tables(answer.section, answer.family, answer.asked)
    adamw, muon = rows_of(chosen)
    assert adamw["budget"] == "3 settings × 2 seeds × 100 steps"
    assert (adamw["best trial"], adamw["settings"]) == ("2", "lr 0.03, decay 0")
    assert (adamw["untuned, test_loss_final"], adamw["tuned, test_loss_final"]) == (
        "2.1300",
        "1.9300",
    )
    assert (muon["best trial"], muon["not ok"]) == ("1", "1")
    (against,) = rows_of(beside)
    assert (against["configuration"], against["verdict, tuned"]) == ("gpt + muon", "no verdict")
    assert (against["untuned"], against["tuned"]) == ("-0.1000", "+0.1000")


def test_a_best_value_at_the_edge_of_what_was_tried_is_named(answer):
    adamw, muon = tunings(answer.section, "val_loss_final")
    assert adamw.edges == ["lr"]  # 0.03 is the largest; a decay of 0 has nothing below it
    assert muon.edges == []


def test_every_trial_is_told_with_its_figure(answer):
    rows = rows_of(trials_table(answer.section, answer.asked)[0])
    assert len(rows) == 6
    diverged = rows[4]
    assert (diverged["val_loss_final, mean"], diverged["seeds ok"]) == ("n/a", "1 of 2")
    assert [row["choice"] for row in rows] == ["", "chosen", "", "chosen", "", ""]


def test_the_picture_marks_the_chosen_and_the_untuned_trial(answer, monkeypatch):
    merged = merge([answer.folder])
    (section,) = make_sections(merged)
    looks = styles(arm.label for arm in section.arms)
    draw = Draw(monkeypatch)
    figure, _ = draw(make_scene(section, None, merged, "", looks, answer.asked), "sensitivity")
    (axes,) = figure.axes
    points = [line for line in axes.lines if line.get_marker() not in ("x", "")]
    assert axes.get_xlabel() == "lr"
    filled = [line for line in points if line.get_markerfacecolor() != "none"]
    assert sorted(float(line.get_xdata()[0]) for line in filled) == [0.01, 0.03]
    rings = [line for line in points if line.get_color() == "#666666"]
    assert len(rings) == 2


def test_a_report_is_built_and_holds_all_of_it(tmp_path):
    folder = tuned_results(tmp_path / "r").write()
    (folder / "matrix.yaml").write_text(ASKED)
    build_report([folder], folder / "report")
    text = (folder / "report" / "report.md").read_text()
    for words in (
        "Tuning: the same budget",
        "Before and after tuning",
        "### Trials",
        "sensitivity",
    ):
        assert words in text
    assert (folder / "report" / "sensitivity.svg").exists()
