"""What results/tuned-cpu/README.md says, with its figures from the CSVs."""

from collections import Counter
from functools import partial
from statistics import stdev

from bench.merge.curves import flops
from bench.merge.tuned import Tuning, by_arm, tunings
from bench.report.tuning import simulated_error
from bench.report.uncertainty import _series, uncertainties
from bench.statistics.contrast import Contrast
from bench.statistics.verdict import alpha_of_look
from tests.report.published import (
    GPT_ADAMW,
    GPT_TRUEMUON,
    IN_WORDS,
    KIMI_ADAMW,
    KIMI_TRUEMUON,
    LOSS,
    Sentences,
    billions,
    confidence,
    known,
    mean,
    published,
    told,
    work_ratio,
)

TEST_LOSS = "test_loss_final"
ARMS = (GPT_TRUEMUON, KIMI_ADAMW, KIMI_TRUEMUON)  # beside the baseline
ALL = (GPT_ADAMW, *ARMS)


tuned = partial(published, "tuned-cpu")


def the_tuned_answer() -> Sentences:
    p = tuned()
    together = f"{100 * (1 - alpha_of_look(1)):g} %"
    yield f"intervals of {confidence(p)} each, which hold together at {together}"
    for arm in (GPT_TRUEMUON, KIMI_TRUEMUON):
        test = pair(arm, TEST_LOSS)
        yield f"{IN_WORDS[arm]} is {p.verdict(test)} by {abs(mean(test)):.4f}"
    yield f"whole training ({billions(p, GPT_ADAMW)}, by formula)"


def the_tuned_tables() -> Sentences:
    p = tuned()
    on_kimi = p.difference(best(KIMI_TRUEMUON), best(GPT_TRUEMUON), TEST_LOSS)
    assert p.verdict(on_kimi) == "undecided"
    yield f"NanoKimi is not shown to add anything: {told(on_kimi)}, not claimed."
    for arm in ARMS:
        before = p.difference(arm, GPT_ADAMW, TEST_LOSS)
        test, validation, cost = pair(arm, TEST_LOSS), pair(arm, LOSS), at_equal_operations(arm)
        yield f"| {IN_WORDS[arm]} | {mean(before):+.4f} | {told(test)} | {p.verdict(test)} |"
        yield (
            f"| {IN_WORDS[arm]} | {told(validation)} | {p.verdict(validation)} "
            f"| {work_ratio(p, arm, GPT_ADAMW)} | {told(cost)} | {p.verdict(cost)} |"
        )


def the_tuned_parts() -> Sentences:
    p = tuned()
    yield (
        f"Of NanoKimi + TrueMuon's {mean(p.ladder.whole):+.4f} on the test split TrueMuon alone "
        f"makes {told(p.ladder.by_optimizer)}, the model bundle alone {told(p.ladder.by_model)}, "
        f"their interaction {told(p.ladder.interaction)}, which was not claimed."
    )
    gains = {arm: p.difference(best(arm), arm, TEST_LOSS) for arm in ALL}
    yield ", ".join(f"{IN_WORDS[arm]} {told(gain)}" for arm, gain in gains.items())
    assert max(map(mean, gains.values())) < min(mean(pair(arm, TEST_LOSS)) for arm in ARMS)


def the_tuned_splits() -> Sentences:
    for arm in ARMS:
        yield (
            f"{IN_WORDS[arm]} {mean(pair(arm, LOSS)):+.4f} on the validation split, "
            f"{mean(pair(arm, TEST_LOSS)):+.4f} on the test split"
        )
    later = [f"{in_the_next_play(arm):+.3f}" for arm in (GPT_TRUEMUON, KIMI_TRUEMUON)]
    yield f"TrueMuon's differences are {later[0]} and {later[1]}, as on the test split"
    same = sum(
        by_test_loss(one) == known(one.best).number for arm in ALL for one in studies_of(arm)
    )
    yield f"by the test loss {same} of the 20 choices would be the same"
    p = tuned()
    found = uncertainties(p.section, p.family, [p.section], p.merged)
    errors = {each.comparison.arm.label: known(each.text) for each in found}
    told = [f"{errors[best(arm)]:.4f}" for arm in (GPT_TRUEMUON, KIMI_TRUEMUON)]
    yield f"error for text, {told[0]} and {told[1]}, is of passages"


def the_first_study() -> Sentences:
    """TrueMuon's tuned loss there above those of the other studies, on NanoGPT and NanoKimi."""
    p = tuned()
    higher = []
    for arm in (GPT_TRUEMUON, KIMI_TRUEMUON):
        first, *others = p.figures(best(arm), TEST_LOSS).values()
        rates = [known(one.best).settings["lr"] for one in studies_of(arm)]
        assert rates[0] < 0.4 * min(rates[1:])
        higher.append(first - sum(others) / len(others))
    yield f"ended {min(higher):.2f} to {max(higher):.2f} higher than their means"
    assert all(
        max(pair(arm, TEST_LOSS).values) < 0 for arm in (GPT_TRUEMUON, KIMI_TRUEMUON)
    )  # ahead in each study


def the_tuning_itself() -> Sentences:
    p = tuned()
    space = known(p.asked.tune).space
    for arm in ALL:
        studies = studies_of(arm)
        error = known(simulated_error(studies, space))
        rates = ", ".join(f"{known(one.best).settings['lr']:.4f}" for one in studies)
        seen = stdev(p.figures(best(arm), TEST_LOSS).values())
        yield f"| {IN_WORDS[arm]} | {rates} | {error:.4f} | {seen:.4f} |"


def the_tuned_cells() -> Sentences:
    p = tuned()
    cells = [*p.section.ok, *p.section.trials]
    tainted = [cell for cell in cells if cell.text("tainted") == "true"]
    untuned = [cell for cell in cells if not cell.part]
    yield (
        f"{len(cells)} cells: {len(untuned)} untuned, {len(p.section.trials)} trials, "
        f"{len(cells) - len(untuned) - len(p.section.trials)} tuned, all ok."
    )
    yield f"{len(tainted)} of the {len(cells)} cells were disturbed"
    by_part = Counter(cell.part for cell in tainted)
    assert by_part[""] == len(untuned)
    assert by_part["tuned"] == 1


SAYS = (
    the_tuned_answer,
    the_tuned_tables,
    the_tuned_parts,
    the_tuned_splits,
    the_first_study,
    the_tuning_itself,
    the_tuned_cells,
)


def best(arm: str) -> str:
    """The arm with the settings that each study chose."""
    return f"{arm}-tuned"


def pair(arm: str, column: str) -> Contrast:
    """Of studies, of which each has one seed here."""
    return tuned().difference(best(arm), best(GPT_ADAMW), column)


def at_equal_operations(arm: str) -> Contrast:
    return tuned().at_equal_cost(best(arm), best(GPT_ADAMW), flops)


def in_the_next_play(arm: str) -> float:
    """The difference in the last three tenths of the validation split, which begin another play."""
    p = tuned()
    arms = [p.arm(best(name)) for name in (arm, GPT_ADAMW)]
    windows = known(_series(arms, "val", p.merged))
    return float(windows[int(0.7 * len(windows)) :].mean())


def by_test_loss(study: Tuning) -> int:
    """The trial that would have been chosen by it; each study has one seed."""
    losses = {
        int(cell.trial): known(cell.number(TEST_LOSS))
        for cell in tuned().section.trials
        if (cell.model, cell.tuned_optimizer, cell.study)
        == (study.model, study.optimizer, str(study.study))
    }
    return min(losses, key=lambda trial: losses[trial])


def studies_of(arm: str) -> list[Tuning]:
    p = tuned()
    return by_arm(tunings(p.section, p.asked.tuned_on))[arm]
