"""What results/original-cpu/README.md says, with its figures from the CSVs."""

from functools import cache

from conftest import ROOT
from published import (
    GPT_ADAMW,
    GPT_TRUEMUON,
    IN_WORDS,
    KIMI_ADAMW,
    KIMI_TRUEMUON,
    LOSS,
    Published,
    Sentences,
    billions,
    confidence,
    known,
    mean,
    told,
    work_ratio,
)

from bench.report.curves import flops, seconds, steps
from bench.report.statistics.contrast import Contrast
from bench.report.targets import target_of

ARMS = (GPT_TRUEMUON, KIMI_ADAMW, KIMI_TRUEMUON)  # beside the baseline


@cache
def original() -> Published:
    return Published(ROOT / "results" / "original-cpu")


def the_originals_answer() -> Sentences:
    p = original()
    whole, model = (p.difference(arm, GPT_ADAMW) for arm in (KIMI_TRUEMUON, KIMI_ADAMW))
    cost, time, verdict = costs(KIMI_TRUEMUON)
    yield (
        f"**After as many iterations NanoKimi + TrueMuon is {p.verdict(whole)} than NanoGPT + "
        f"AdamW by {-mean(whole):.4f} nats a token, for {work_ratio(p, KIMI_TRUEMUON, GPT_ADAMW)} "
        f"the operations; at equal operations the difference is {mean(cost):+.4f}, "
        f"{p.verdict(cost)}, and at equal training time {mean(time):+.4f}, {verdict}.**"
    )
    yield f"the model alone, under AdamW, makes as much, {-mean(model):.4f}."
    yield f"headline holds at equal iterations.** At equal operations it is {p.verdict(cost)}"
    yield f"intervals of {confidence(p)} each, which hold together"


def the_originals_table() -> Sentences:
    p = original()
    for arm in ARMS:
        by_steps = p.difference(arm, GPT_ADAMW)
        cost, time, verdict = costs(arm)
        yield (
            f"| {IN_WORDS[arm]} | {told(by_steps)} | {p.verdict(by_steps)} "
            f"| {work_ratio(p, arm, GPT_ADAMW)} | {told(cost)} | {p.verdict(cost)} "
            f"| {told(time)} | {verdict} |"
        )


def the_originals_equal_cost() -> Sentences:
    p = original()
    quiet = {arm: p.undisturbed(arm, GPT_ADAMW) for arm in ARMS}
    two, also_two, three = (len(seeds) for seeds in quiet.values())
    time = p.at_equal_cost(KIMI_TRUEMUON, GPT_ADAMW, seconds, quiet[KIMI_TRUEMUON])
    yield f"training ({billions(p, GPT_ADAMW)}; forward, backward and the optimizer's steps"
    yield f"on both sides are {two}, {also_two} and {three} seeds, and a verdict needs 5"
    yield f"Over its {three} undisturbed seeds NanoKimi + TrueMuon is at {told(time)}."


def the_originals_parts() -> Sentences:
    p = original()
    optimizer, model = (p.difference(arm, GPT_ADAMW) for arm in (GPT_TRUEMUON, KIMI_ADAMW))
    on_kimi = p.difference(KIMI_TRUEMUON, KIMI_ADAMW)
    margin, seen = (
        p.seeds_if(optimizer, size) for size in (known(p.family.margin), -mean(optimizer))
    )
    ladder = p.ladder
    yield f"**NanoKimi + AdamW is {p.verdict(model)}** without the new optimizer"
    yield f"With TrueMuon in place of AdamW NanoKimi ends {mean(on_kimi):.4f} *higher* on average."
    yield (
        f"**NanoGPT + TrueMuon is {p.verdict(optimizer)}**. If the true difference were the "
        f"margin, {margin.low} to {margin.high} seeds would decide; if it were the one seen, "
        f"{-mean(optimizer):.4f}, {seen.low} to {seen.high}."
    )
    yield (
        f"Of {mean(ladder.whole):+.4f} at equal iterations the model bundle (mixture, SwiGLU, a "
        f"third more parameters) alone makes {mean(ladder.by_model):+.4f}, the optimizer alone "
        f"{mean(ladder.by_optimizer):+.4f}, their interaction {told(ladder.interaction)}, which "
        "was not claimed."
    )


def the_originals_course() -> Sentences:
    p = original()
    leads = early_leads()
    target = known(target_of(p.section, p.asked))
    yield (
        f"at iteration 1,000 its loss is lower by {min(leads):.3f} to {max(leads):.3f} on every "
        "seed of both models."
    )
    yield f"To hold a loss of {target:.4f} (where the worst seed of the worst arm ends)"
    for new, base in ((KIMI_TRUEMUON, KIMI_ADAMW), (GPT_TRUEMUON, GPT_ADAMW)):
        with_it, without = (p.to_hold(arm, target, steps) for arm in (new, base))
        much, little = (p.to_hold(arm, target, flops) / 1e12 for arm in (new, base))
        assert with_it < without
        assert much > little
        yield (
            f"{IN_WORDS[new].partition(' ')[0]} {with_it:,.0f} with it and {without:,.0f} without "
            f"({much:.2f} and {little:.2f} × 10¹² operations)"
        )


def the_originals_losses() -> Sentences:
    p = original()
    spreads = [known(arm.spread(LOSS).sd) for arm in p.section.arms]
    cost, _, _ = costs(KIMI_TRUEMUON)
    perplexity, efficiency = (
        [p.mean(arm, column) for arm in (KIMI_TRUEMUON, GPT_ADAMW)]
        for column in ("perplexity", "param_efficiency")
    )
    luck = [known(cell.number(LOSS)) - known(cell.number("val_loss_best")) for cell in p.section.ok]
    yield f"the final loss between seeds: {min(spreads):.3f} to {max(spreads):.3f})"
    yield (
        f"At equal iterations: {p.mean(KIMI_TRUEMUON, LOSS):.4f} against "
        f"{p.mean(GPT_ADAMW, LOSS):.4f} here, lower on every seed, for "
        f"{work_ratio(p, KIMI_TRUEMUON, GPT_ADAMW)} the operations. At equal operations: "
        f"{p.verdict(cost)}."
    )
    yield f"{perplexity[0]:.3f} against {perplexity[1]:.3f} at equal iterations."
    yield f"the lowest of a run is up to {max(luck):.3f} lower."
    yield f"It does, {efficiency[1]:.2f} to {efficiency[0]:.2f} here"


def the_originals_memory_and_times() -> Sentences:
    p = original()
    quiet = p.undisturbed(KIMI_TRUEMUON, GPT_ADAMW)
    peaks = [p.mean(arm, "host_rss_peak_mib") for arm in (GPT_ADAMW, KIMI_TRUEMUON)]
    models = [model_mib(p, arm.label) for arm in p.section.arms]
    tainted = [cell for cell in p.section.ok if cell.text("tainted") == "true"]
    disturbed = sorted(p.section.timing.disturbed)
    lengths = [
        [p.figures(arm.label, "train_time_s")[seed] for seed in p.undisturbed(arm.label)]
        for arm in p.section.arms
    ]
    of_kimi = p.undisturbed(KIMI_TRUEMUON, KIMI_ADAMW)
    inference = "infer_time_ms_p50"
    yield f"The process peaks at {peaks[0]:.0f} and {peaks[1]:.0f} MiB"
    yield f"their optimizers' state are {min(models):.1f} to {max(models):.1f} MiB"
    yield (
        f"A step by itself takes {ratios(KIMI_TRUEMUON, GPT_ADAMW, 'step_time_ms_p50')} times as "
        f"long here, on the {len(quiet)} seeds that are undisturbed in both arms."
    )
    yield (
        f"On the same {len(quiet)} seeds it takes {ratios(KIMI_TRUEMUON, GPT_ADAMW, inference)} "
        "times as long"
    )
    yield (
        f"NanoKimi, takes {ratios(KIMI_TRUEMUON, KIMI_ADAMW, inference)} times as long with "
        f"TrueMuon as with AdamW on {len(of_kimi)} undisturbed seeds"
    )
    yield (
        f"Other work ran beside {len(tainted)} of the {len(p.section.ok)} cells, all of seeds "
        f"{disturbed[0]} to {disturbed[-1]};"
    )
    yield f"differs by up to {max(max(each) / min(each) for each in lengths):.2f} times between"


SAYS = (
    the_originals_answer,
    the_originals_table,
    the_originals_equal_cost,
    the_originals_parts,
    the_originals_course,
    the_originals_losses,
    the_originals_memory_and_times,
)


def costs(arm: str) -> tuple[Contrast, Contrast, str]:
    """At equal operations; at equal time over all seeds; the verdict of the undisturbed ones."""
    p = original()
    quiet = p.undisturbed(arm, GPT_ADAMW)
    of_quiet = p.at_equal_cost(arm, GPT_ADAMW, seconds, quiet)
    by_operations, by_time = (p.at_equal_cost(arm, GPT_ADAMW, cost) for cost in (flops, seconds))
    return by_operations, by_time, p.verdict(of_quiet)


def early_leads() -> list[float]:
    """TrueMuon's, at iteration 1,000 of the original, on either model."""
    p = original()
    return [
        without - p.loss_at(new, 1000)[seed]
        for new, base in ((GPT_TRUEMUON, GPT_ADAMW), (KIMI_TRUEMUON, KIMI_ADAMW))
        for seed, without in p.loss_at(base, 1000).items()
    ]


def model_mib(p: Published, arm: str) -> float:
    """Weights in float32 and the optimizer's state."""
    return 4 * p.mean(arm, "n_params") / 2**20 + p.mean(arm, "optimizer_state_mib")


def ratios(new: str, base: str, column: str) -> str:
    found = original().ratios(new, base, column)
    return f"{min(found):.2f} to {max(found):.2f}"
