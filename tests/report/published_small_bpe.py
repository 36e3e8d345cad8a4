"""What results/small-bpe-cpu/README.md says, with its figures from the CSVs."""

from functools import partial

from bench.merge.curves import flops, seconds
from bench.statistics.contrast import Contrast
from tests.report.published import (
    LOSS,
    Sentences,
    billions,
    confidence,
    mean,
    published,
    told,
    work_ratio,
)

ADAMW, MUON = "of-today + adamw-tried", "of-today + muon-tried"

small_bpe = partial(published, "small-bpe-cpu")


def the_small_answer() -> Sentences:
    p = small_bpe()
    steps, cost, time = by_steps(), by_cost(), by_time()
    yield (
        f"**After one pass over the tokens Muon is {p.verdict(steps)} than AdamW by "
        f"{-mean(steps):.4f} nats a token ({told_without_sign(LOSS)}), at equal operations by "
        f"{-mean(cost):.4f}, and at equal training time by {-mean(time):.4f}.**"
    )
    bits = p.difference(MUON, ADAMW, "bits_per_byte")
    yield f"That is {-mean(bits):.4f} bits a byte"


def the_small_table() -> Sentences:
    p = small_bpe()
    for name, contrast in (
        ("at equal steps, claimed", by_steps()),
        ("at equal operations", by_cost()),
        ("at equal training time", by_time()),
    ):
        yield f"| {name} | {told(contrast)} | {p.verdict(contrast)} |"
    yield f"intervals of {confidence(p)}"
    yield (
        f"of AdamW's whole training ({billions(p, ADAMW)}, by formula); Muon's takes "
        f"{work_ratio(p, MUON, ADAMW)} as many."
    )
    ratios = p.ratios(MUON, ADAMW, "train_time_s")
    assert len(ratios) == 5  # undisturbed, all of them
    yield f"{min(ratios):.2f} to {max(ratios):.2f} times the training time"


def the_small_cells() -> Sentences:
    cells = small_bpe().section.ok
    assert len(cells) == 10
    (epochs,) = {cell.number("epochs") for cell in cells}
    assert epochs is not None
    yield f"307,200 of its 307,596 tokens, {epochs:.3f} epochs"


def by_steps() -> Contrast:
    return small_bpe().difference(MUON, ADAMW)


def by_cost() -> Contrast:
    return small_bpe().at_equal_cost(MUON, ADAMW, flops)


def by_time() -> Contrast:
    return small_bpe().at_equal_cost(MUON, ADAMW, seconds)


def told_without_sign(column: str) -> str:
    """The interval of what is taken off."""
    interval = small_bpe().difference(MUON, ADAMW, column).interval
    assert interval is not None
    return f"{-interval.high:.4f} to {-interval.low:.4f}"


SAYS = (the_small_answer, the_small_table, the_small_cells)
