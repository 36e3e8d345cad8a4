"""What results/tuned-cpu/README.md says, with its figures from the CSVs."""

from functools import partial
from statistics import fmean

from bench.merge.curves import flops
from bench.merge.tuned import Trial
from bench.statistics.contrast import Contrast
from tests.report.published import (
    GPT_ADAMW,
    GPT_MUON,
    GPT_TRUEMUON,
    IN_WORDS,
    KIMI_ADAMW,
    KIMI_TRUEMUON,
    LOSS,
    Sentences,
    billions,
    bounds,
    confidence,
    known,
    mean,
    published,
    told,
    work_ratio,
)

TEST_LOSS = "test_loss_final"
ARMS = (GPT_TRUEMUON, GPT_MUON, KIMI_ADAMW, KIMI_TRUEMUON)  # beside the baseline


tuned = partial(published, "tuned-cpu")


def the_tuned_answer() -> Sentences:
    p = tuned()
    test, of_original = (pair(arm, TEST_LOSS) for arm in (GPT_TRUEMUON, KIMI_TRUEMUON))
    before, original_before = (
        p.difference(arm, GPT_ADAMW, TEST_LOSS) for arm in (GPT_TRUEMUON, KIMI_TRUEMUON)
    )
    assert p.verdict(test) == p.verdict(of_original)
    cost, of_both = (at_equal_operations(arm) for arm in (GPT_TRUEMUON, KIMI_TRUEMUON))
    yield (
        f"**After 1,000 iterations, yes: NanoGPT + TrueMuon is {p.verdict(test)} than NanoGPT + "
        f"AdamW by {-mean(test):.4f} nats a token (untuned {-mean(before):.4f}), the original's "
        f"pair, NanoKimi + TrueMuon, by {-mean(of_original):.4f} (untuned "
        f"{-mean(original_before):.4f}): each by about half as much as untuned. At equal "
        f"operations NanoGPT + TrueMuon is the only pair that is still {p.verdict(cost)} (by "
        f"{-mean(cost):.4f} on the validation split); NanoKimi + TrueMuon is "
        f"{p.verdict(of_both)} there.**"
    )
    yield f"intervals of {confidence(p)} each, which hold together"
    yield f"Intervals are again of {confidence(p)} each and hold together within a column."
    yield f"whole training ({billions(p, GPT_ADAMW)}, by formula)"


def the_tuned_tables() -> Sentences:
    p = tuned()
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
    optimizer, model = told(p.ladder.by_optimizer), told(p.ladder.by_model)
    muons = p.difference(best(GPT_MUON), best(GPT_TRUEMUON), TEST_LOSS)
    yield (
        f"Of NanoKimi + TrueMuon's {mean(p.ladder.whole):+.4f} on the test split TrueMuon alone "
        f"makes {optimizer}, the model bundle alone {model}, their interaction "
        f"{told(p.ladder.interaction)}, which was not claimed."
    )
    yield (
        f"Muon less TrueMuon is {mean(muons):+.4f} ({bounds(muons)}, of {confidence(p)} too): "
        f"{p.verdict(muons)}."
    )


def the_tuned_gains() -> Sentences:
    p = tuned()
    fell = {arm: -tuning_gain(arm, TEST_LOSS) for arm in IN_WORDS}
    test, before = pair(GPT_TRUEMUON, TEST_LOSS), p.difference(GPT_TRUEMUON, GPT_ADAMW, TEST_LOSS)
    on_kimi, muons = (p.difference(best(arm), arm, TEST_LOSS) for arm in (KIMI_TRUEMUON, GPT_MUON))
    assert p.verdict(p.difference(best(GPT_TRUEMUON), GPT_TRUEMUON, TEST_LOSS)) == "better"
    (open_still,) = {p.verdict(on_kimi), p.verdict(muons)}
    one_sided = p.difference(best(GPT_TRUEMUON), GPT_ADAMW, TEST_LOSS)
    yield (
        f"by {fell[GPT_ADAMW]:.3f} on NanoGPT and {fell[KIMI_ADAMW]:.3f} on NanoKimi: with a rate "
        f"of {chosen(GPT_ADAMW, 'lr'):.4f} in place of 0.001, and no weight decay. TrueMuon's fell "
        f"by {fell[GPT_TRUEMUON]:.3f} on NanoGPT. {open_still.capitalize()} are TrueMuon's change "
        f"on NanoKimi, {told(on_kimi)}, and Muon's on NanoGPT, {told(muons)}."
    )
    yield (
        f"TrueMuon's lead with both tuned is {-mean(test):.4f}. With neither tuned it looks "
        f"{mean(before) / mean(test):.1f} times as large; with TrueMuon alone tuned, "
        f"{mean(one_sided) / mean(test):.1f} times ({-mean(one_sided):.4f})."
    )


def the_tuned_splits() -> Sentences:
    p = tuned()
    untuned = sorted(fmean(gap(arm).values()) for arm in IN_WORDS)
    after = sorted(fmean(gap(best(arm)).values()) for arm in IN_WORDS)
    yield (
        f"above the validation loss by {untuned[0]:.3f} to {after[-1]:.3f}, arm by arm: by "
        f"{untuned[0]:.3f} to {untuned[-1]:.3f} untuned, {after[0]:.3f} to {after[-1]:.3f} tuned."
    )
    yield (
        f"(NanoGPT + TrueMuon {mean(pair(GPT_TRUEMUON, LOSS)):+.4f}, on the test split "
        f"{mean(pair(GPT_TRUEMUON, TEST_LOSS)):+.4f}), and NanoKimi + AdamW is "
        f"{p.verdict(pair(KIMI_ADAMW, LOSS))} on the one and "
        f"{p.verdict(pair(KIMI_ADAMW, TEST_LOSS))} on the other."
    )


def muons_choice() -> Sentences:
    p = tuned()
    tuning = p.tuning(GPT_MUON)
    new, own = known(tuning.best), tuning.trials[0]
    of_seed = ((known(trial.mean), loss_on_test(GPT_MUON, trial)) for trial in (new, own))
    means = ((p.mean(arm, LOSS), p.mean(arm, TEST_LOSS)) for arm in (best(GPT_MUON), GPT_MUON))
    shift = p.contrast(gap(best(GPT_MUON)), gap(GPT_MUON))
    validation, test = (
        p.difference(best(GPT_MUON), GPT_MUON, column) for column in (LOSS, TEST_LOSS)
    )
    assert len(tuning.trials) == 2 + 6
    yield (
        f"its choice ends higher on all five seeds, by {told(test).lstrip('+')}, {p.verdict(test)}."
    )
    yield f"Trial {new.number} ends lower than Muon's own setting on the validation split"
    yield f"on the tuning's seed ({against(*of_seed)})"
    yield f"in the mean of the five ({against(*means)})."
    yield f"the gap between them is: {told(shift)}, looked for after the fact."
    yield (
        f"trial {new.number} would have gone before trial {own.number} as well, by "
        f"{-mean(validation):.4f} ({p.verdict(validation)}); the other six did not run there."
    )


def the_chosen_settings() -> Sentences:
    yield f"({chosen(GPT_TRUEMUON, 'lr'):.3f}; the space ends at 0.1), on both models"
    yield f"Muon's rate for AdamW's share ({chosen(GPT_MUON, 'adamw_lr'):.3f})."
    yield f"AdamW's best rate, {chosen(GPT_ADAMW, 'lr'):.4f}, lies between worse ones (the larger"
    for arms in ((GPT_ADAMW, KIMI_ADAMW), (GPT_TRUEMUON, KIMI_TRUEMUON), (GPT_MUON,)):
        (row,) = {settings_row(arm) for arm in arms}
        models = ", ".join(IN_WORDS[arm].partition(" ")[0] for arm in arms)
        yield f"| {models} + {IN_WORDS[arms[0]].rpartition(' ')[2]} | {row} |"


def the_tuned_cells() -> Sentences:
    p = tuned()
    cells = [*p.section.ok, *p.section.trials]
    tainted = [cell for cell in cells if cell.text("tainted") == "true"]
    untuned = [cell for cell in cells if not cell.part]
    yield (
        f"{len(cells)} cells: {len(untuned)} untuned, {len(p.section.trials)} trials, "
        f"{len(cells) - len(untuned) - len(p.section.trials)} tuned, all ok."
    )
    yield f"Other work ran beside {len(tainted)} of the {len(cells)} cells"


SAYS = (
    the_tuned_answer,
    the_tuned_tables,
    the_tuned_parts,
    the_tuned_gains,
    the_tuned_splits,
    muons_choice,
    the_chosen_settings,
    the_tuned_cells,
)


def best(arm: str) -> str:
    """The arm with the settings that tuning chose."""
    return f"{arm}-tuned"


def pair(arm: str, column: str) -> Contrast:
    return tuned().difference(best(arm), best(GPT_ADAMW), column)


def at_equal_operations(arm: str) -> Contrast:
    return tuned().at_equal_cost(best(arm), best(GPT_ADAMW), flops)


def tuning_gain(arm: str, column: str) -> float:
    """Negative where the loss fell."""
    return mean(tuned().difference(best(arm), arm, column))


def gap(arm: str) -> dict[int, float]:
    """Test loss less validation loss, a seed."""
    validation, test = (tuned().figures(arm, column) for column in (LOSS, TEST_LOSS))
    return {seed: test[seed] - validation[seed] for seed in test}


def chosen(arm: str, key: str) -> float:
    return float(known(tuned().tuning(arm).best).settings[key])


def settings_row(arm: str) -> str:
    trial = known(tuned().tuning(arm).best)
    shown = (trial.settings.get(key, "") for key in ("lr", "adamw_lr", "weight_decay"))
    cells = (str(trial.number), *(f"{value:.4g}" if value != "" else "" for value in shown))
    return " ".join(" | ".join(cells).split())


def loss_on_test(arm: str, trial: Trial) -> float:
    """Of the tuning's one seed."""
    model, optimizer = arm.split(" + ")
    of_trial = (model, optimizer, str(trial.number))
    (cell,) = (
        cell
        for cell in tuned().section.trials
        if (cell.model, cell.tuned_optimizer, cell.trial) == of_trial
    )
    return known(cell.number(TEST_LOSS))


def against(new: tuple[float, float], own: tuple[float, float]) -> str:
    """Losses on the validation and on the test split."""
    return f"{new[0]:.4f} against {own[0]:.4f}; {new[1]:.4f} against {own[1]:.4f}"
