"""Training beside the original's way: steps, optimizers, evaluation, the whole job, the limit.

The original's program has torch's own choice of threads, one a CPU. Ours is measured with as many,
and with one, alone and beside another of its kind: the way that two cells at once run.
"""

import os
from collections.abc import Callable, Sequence
from itertools import product

from bench.border.options import TRAIN_SHARE, EvalOptions, TrainOptions
from bench.records.corpora import find_corpus
from tests.perf.rows import Row, interleaved, ratios
from tests.perf.side import Side

ROUNDS = 9
ARMS = list(product(("nanogpt", "nanokimi"), ("adamw", "truemuon")))
STEP_TARGETS = {("nanogpt", "adamw"): 2.2, ("nanokimi", "truemuon"): 3.5}
PRODUCTS_SHARE = 0.6  # of a step: the distance to the machine's matrix rate

# The original's job: 10,000 iterations of 16 x 32 tokens, and at step 0 and after every 100
# 200 batches of each split.
STEPS = 10_000
EVALUATIONS = STEPS // 100 + 1
TRAIN = TrainOptions()
ORIGINAL_TOKENS = 2 * 200 * TRAIN.batch_size * TRAIN.block_size  # an evaluation


def our_tokens(corpus: str = "tinyshakespeare") -> int:
    """Of an evaluation in full: all windows of the validation split, and some of the other.

    The validation loss has no sampling error then; that of the original's 200 batches has.
    """
    n_chars = find_corpus(corpus).n_chars
    n_val = n_chars - int(TRAIN_SHARE * n_chars)
    windows = (n_val - TRAIN.block_size - 1) // TRAIN.block_size + 1
    return (windows + EvalOptions().train_windows) * TRAIN.block_size


Values = dict[tuple[str, str, str, str], tuple[float, ...]]  # by (whose, what, model, optimizer)


def rows(runtime: str) -> list[Row]:
    """Local processes, whatever the runtime: the arithmetic is the same."""
    cpus = sorted(os.sched_getaffinity(0))
    sides = {
        "original": Side("original", cpus),
        "all": Side("ours", cpus),
        "one": Side("ours", cpus[:1]),
        "beside": Side("ours", cpus[1:2] or cpus),
    }
    try:
        found: Values = {}
        for arm in ARMS:
            found |= _measure(sides, *arm)
    finally:
        for side in sides.values():
            side.close()
    return [
        *_step_rows(found),
        *_part_rows(found),
        *_whole_rows(found),
        *_limit_rows(found),
    ]


def _measure(sides: dict[str, Side], model: str, optimizer: str) -> Values:
    def alone(whose: str, what: str) -> Callable[[], float]:
        return lambda: sides[whose].measure(model, optimizer, what)

    def together(what: str) -> Callable[[], float]:
        def both() -> float:
            pair = sides["one"], sides["beside"]
            for side in pair:
                side.ask(model, optimizer, what)
            return sum(side.answer() for side in pair) / len(pair)

        return both

    measures = {
        (whose, what): alone(whose, what)
        for whose in ("original", "all", "one")
        for what in ("step", "optimizer", "eval")
    }
    measures |= {(whose, "products"): alone(whose, "products") for whose in ("all", "one")}
    measures |= {("together", what): together(what) for what in ("step", "eval")}
    for measure in measures.values():  # once without looking: caches, and models to be built
        measure()
    values = interleaved(list(measures.values()), ROUNDS)
    found = {(*key, model, optimizer): each for key, each in zip(measures, values, strict=True)}
    return found | {("one", "gflop", model, optimizer): (alone("one", "gflop")(),)}


def _faster(found: Values, whose: str, what: str, *arm: str) -> tuple[float, ...]:
    model, optimizer = arm
    return ratios(found["original", what, model, optimizer], found[whose, what, model, optimizer])


THREADS = {"all": "a thread a CPU", "one": "one thread"}


def _step_rows(found: Values) -> list[Row]:
    return [
        Row(
            f"step, {' + '.join(arm)}, {THREADS[whose]}",
            _faster(found, whose, "step", *arm),
            at_least=STEP_TARGETS.get(arm) if whose == "all" else None,
        )
        for arm in ARMS
        for whose in THREADS
    ]


def _part_rows(found: Values) -> list[Row]:
    """Evaluation is the model's alone: it is taken from the AdamW arms."""
    evaluation = [
        Row(
            f"evaluation of a token, {model}, {THREADS[whose]}",
            _faster(found, whose, "eval", model, "adamw"),
            at_least=4.0 if whose == "all" else None,
        )
        for model in ("nanogpt", "nanokimi")
        for whose in THREADS
    ]
    truemuon = [
        Row(
            f"optimizers' step, nanokimi + truemuon, {THREADS[whose]}",
            _faster(found, whose, "optimizer", "nanokimi", "truemuon"),
            at_least=4.0 if whose == "all" else None,
        )
        for whose in THREADS
    ]
    return [*truemuon, *evaluation]


def _whole_rows(found: Values) -> list[Row]:
    ours = our_tokens()
    original = _whole_s(found, "original", ORIGINAL_TOKENS, lanes=1)
    alone = _whole_s(found, "all", ours, lanes=1)
    two = _whole_s(found, "together", ours, lanes=2)
    return [
        Row("whole job, four arms, a thread a CPU", ratios(original, alone), at_least=4.5),
        Row("whole job, four arms, two cells at once", ratios(original, two), at_least=7.5),
    ]


def _whole_s(found: Values, whose: str, tokens: int, lanes: int) -> tuple[float, ...]:
    """Seconds until all four arms' training and evaluations are over, round by round."""
    return tuple(
        _end_s([_arm_s(found, whose, tokens, arm, round_) for arm in ARMS], lanes)
        for round_ in range(ROUNDS)
    )


def _arm_s(found: Values, whose: str, tokens: int, arm: tuple[str, str], round_: int) -> float:
    step_ms = found[whose, "step", *arm][round_]
    evaluation_us = found[whose, "eval", *arm][round_]
    return STEPS * step_ms / 1e3 + EVALUATIONS * tokens * evaluation_us / 1e6


def _end_s(cells_s: Sequence[float], lanes: int) -> float:
    """When the last lane ends; each cell goes, in order, to the lane that is free first."""
    busy = [0.0] * lanes
    for seconds in cells_s:
        busy[busy.index(min(busy))] += seconds
    return max(busy)


def _limit_rows(found: Values) -> list[Row]:
    """FLOPs of a step over the rate of its own products are the time that those take."""
    shares = [
        Row(
            f"products' share of a step, {' + '.join(arm)}, {THREADS[whose]}",
            ratios(found[whose, "products", *arm], found[whose, "step", *arm]),
            at_least=PRODUCTS_SHARE if arm in STEP_TARGETS else None,
        )
        for arm in ARMS
        for whose in THREADS
    ]
    rates = [
        Row(
            f"rate of a step's products, {' + '.join(arm)}, {THREADS[whose]}",
            tuple(
                found["one", "gflop", *arm][0] / ms * 1e3 for ms in found[whose, "products", *arm]
            ),
            unit="GFLOP/s",
        )
        for arm in STEP_TARGETS
        for whose in THREADS
    ]
    return [*shares, *rates]
