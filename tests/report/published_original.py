"""What results/original-cpu/README.md says, with its figures from the CSVs."""

import re
from functools import partial

from bench.measure.taint import OTHERS_SHARE
from bench.merge.curves import flops, seconds, steps
from bench.merge.disturbed import is_disturbed
from bench.records.columns import COLUMNS
from bench.report.family import least_seeds
from bench.report.targets import target_of, worst_arm
from bench.statistics.contrast import Contrast
from tests.builders.shared import ROOT
from tests.report.published import (
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
    published,
    told,
    work_ratio,
)

ARMS = (GPT_TRUEMUON, KIMI_ADAMW, KIMI_TRUEMUON)  # beside the baseline
BY_OPTIMIZER = ((KIMI_TRUEMUON, KIMI_ADAMW), (GPT_TRUEMUON, GPT_ADAMW))
LOSSES_TO_HOLD = (1.90, 1.85, 1.80, 1.76)  # beside the report's target


original = partial(published, "original-cpu")


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
    yield f"the model alone, under AdamW, makes {-mean(model):.4f}."
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
    disturbed = [cell for cell in p.section.ok if is_disturbed(cell)]
    of_new = [cell for arm in ARMS for cell in p.cells(arm).values() if is_disturbed(cell)]
    _, by_time, _ = costs(GPT_TRUEMUON)
    first, second = (by_time.by_seed[seed] for seed in quiet[GPT_TRUEMUON])
    yield f"training ({billions(p, GPT_ADAMW)}; forward, backward and the optimizer's steps"
    yield (
        f"Only {two}, {also_two} and {three} seeds are undisturbed in both arms; a verdict needs "
        f"{least_seeds(COLUMNS[LOSS])}, so there is none."
    )
    yield f"Over its {three} undisturbed seeds NanoKimi + TrueMuon is at {told(time)}."
    yield f"from the new arms ({len(of_new)} of the {len(disturbed)} disturbed cells)"
    yield (
        f"So {told(by_time)} does not show that NanoGPT + TrueMuon is worse; on its {two} "
        f"undisturbed seeds it is at {first:+.4f} and {second:+.4f}, too few to tell."
    )


def the_originals_parts() -> Sentences:
    p = original()
    optimizer, model = (p.difference(arm, GPT_ADAMW) for arm in (GPT_TRUEMUON, KIMI_ADAMW))
    on_kimi = p.difference(KIMI_TRUEMUON, KIMI_ADAMW)
    margin, seen = (
        p.seeds_if(optimizer, size) for size in (known(p.family.margin), -mean(optimizer))
    )
    ladder = p.ladder
    yield f"**NanoKimi + AdamW is {p.verdict(model)}** without the new optimizer"
    yield (
        f"Between NanoKimi's two optimizers nothing is shown: TrueMuon less AdamW is "
        f"{told(on_kimi)}, {p.verdict(on_kimi)} and exploratory."
    )
    yield (
        f"the other one, the model, makes {mean(model):+.4f} by itself, and the optimizer by "
        f"itself is {p.verdict(optimizer)}."
    )
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
    for new, base in BY_OPTIMIZER:
        with_it, without = (p.to_hold(arm, target, steps) for arm in (new, base))
        much, little = (p.to_hold(arm, target, flops) / 1e12 for arm in (new, base))
        by_seed = [p.until_held(arm, target, flops) for arm in (new, base)]
        more = sum(by_seed[0][seed] > by_seed[1][seed] for seed in by_seed[1])
        assert with_it < without
        assert much > little
        yield (
            f"{IN_WORDS[new].partition(' ')[0]} {with_it:,.0f} with it and {without:,.0f} without "
            f"({much:.2f} and {little:.2f} × 10¹² operations, more on {more} of "
            f"{len(by_seed[1])} seeds)"
        )


def the_originals_targets() -> Sentences:
    """To which losses TrueMuon takes fewer operations, on both models."""
    p = original()
    target = known(target_of(p.section, p.asked))
    worst = IN_WORDS[known(worst_arm(p.section)).label]
    ratios = {
        loss: [
            p.to_hold(new, loss, flops) / p.to_hold(base, loss, flops) for new, base in BY_OPTIMIZER
        ]
        for loss in (*LOSSES_TO_HOLD, target)
    }
    fewer = [f"{loss:.2f}" for loss, found in ratios.items() if max(found) < 1]
    more = [loss for loss, found in ratios.items() if min(found) > 1]
    assert len(fewer) + len(more) == len(ratios)
    kimi, gpt = ([p.to_hold(arm, 1.85, flops) / 1e12 for arm in each] for each in BY_OPTIMIZER)
    yield (
        f"To {', '.join(fewer[:-1])} and {fewer[-1]} it takes fewer than AdamW (1.85: NanoGPT "
        f"{gpt[0]:.2f} against {gpt[1]:.2f} × 10¹², NanoKimi {kimi[0]:.2f} against {kimi[1]:.2f} × "
        f"10¹²), to {more[0]:.2f} and {more[1]:.4f} more. At {target:.4f}, the highest final "
        f"loss of {worst}, it takes fewer iterations but more operations:"
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
    step = "step_time_ms_p50"
    peaks = [p.mean(arm, "host_rss_peak_mib") for arm in (GPT_ADAMW, KIMI_TRUEMUON)]
    models = [model_mib(p, arm) for arm in (GPT_ADAMW, KIMI_TRUEMUON)]
    lengths = [
        [p.figures(arm.label, "train_time_s")[seed] for seed in p.undisturbed(arm.label)]
        for arm in p.section.arms
    ]
    yield f"The process peaks at {peaks[0]:.0f} and {peaks[1]:.0f} MiB"
    yield f"optimizer state of these two are {models[0]:.1f} and {models[1]:.1f} MiB."
    yield (
        f"A step by itself takes {ratios(KIMI_TRUEMUON, GPT_ADAMW, step)} times as long here, on "
        f"the {len(quiet)} seeds that are undisturbed in both arms."
    )
    yield f"differs by up to {max(max(each) / min(each) for each in lengths):.2f} times between"


def the_originals_inference() -> Sentences:
    p = original()
    inference = "infer_time_ms_p50"
    quiet, of_one = (p.undisturbed(KIMI_TRUEMUON, base) for base in (GPT_ADAMW, KIMI_ADAMW))
    found = p.ratios(KIMI_ADAMW, KIMI_TRUEMUON, inference)
    assert min(p.ratios(KIMI_TRUEMUON, GPT_ADAMW, inference)) > 1
    yield (
        f"takes {ratios(KIMI_TRUEMUON, GPT_ADAMW, inference)} times as long here, longer on each "
        f"of the same {len(quiet)} seeds."
    )
    yield (
        f"differs by up to {max(found):.2f} times between its two optimizers on {len(of_one)} "
        "undisturbed seeds, and an inference runs no optimizer."
    )


def the_originals_disturbances() -> Sentences:
    p = original()
    tainted = [cell for cell in p.section.ok if is_disturbed(cell)]
    assert all(known(cell.number("cpu_others_pct")) > 100 * OTHERS_SHARE for cell in tainted)
    disturbed = sorted(p.section.timing.disturbed)
    times = p.figures(GPT_ADAMW, "step_time_ms_p50")
    quiet = [times[seed] for seed in p.undisturbed(GPT_ADAMW)]
    yield (
        f"Other work took more than {100 * OTHERS_SHARE:.0f} % of the CPU beside {len(tainted)} of "
        f"the {len(p.section.ok)} cells, all of seeds {disturbed[0]} to {disturbed[-1]} (`tainted`)"
    )
    yield f"NanoGPT + AdamW's steps take {min(quiet):.1f} to {max(quiet):.1f} ms on such seeds."


def the_originals_implementation() -> Sentences:
    """By how much it is slower, as `docs/performance.md` has it of the program made after it."""
    kimi, gpt = (
        [slower(arm, threads) for threads in ("a thread a CPU", "one thread")]
        for arm in (KIMI_TRUEMUON, GPT_ADAMW)
    )
    assert min(kimi) > min(gpt)
    assert max(kimi) > max(gpt)
    yield (
        f"its implementation, as rebuilt here, slows NanoKimi + TrueMuon ({kimi[0]:.1f} times on "
        f"two threads, {kimi[1]:.1f} on one) more than NanoGPT + AdamW ({gpt[0]:.1f} and "
        f"{gpt[1]:.1f};"
    )


SAYS = (
    the_originals_answer,
    the_originals_table,
    the_originals_equal_cost,
    the_originals_parts,
    the_originals_course,
    the_originals_targets,
    the_originals_losses,
    the_originals_memory_and_times,
    the_originals_inference,
    the_originals_disturbances,
    the_originals_implementation,
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
        for new, base in BY_OPTIMIZER
        for seed, without in p.loss_at(base, 1000).items()
    ]


def slower(arm: str, threads: str) -> float:
    """A step of the original's way over a step of ours."""
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    (figure,) = re.findall(
        rf"^\| step, {re.escape(arm)}, {threads} \|.*?\| ([\d.]+) x \|", page, re.M
    )
    return float(figure)


def model_mib(p: Published, arm: str) -> float:
    """Weights in float32 and the optimizer's state."""
    return 4 * p.mean(arm, "n_params") / 2**20 + p.mean(arm, "optimizer_state_mib")


def ratios(new: str, base: str, column: str) -> str:
    found = original().ratios(new, base, column)
    return f"{min(found):.2f} to {max(found):.2f}"
