"""How often the report's verdicts are wrong, on 20,000 simulated experiments with a fixed seed.

`python -m tests.statistics.calibration` prints the tables of docs/statistics.md. The verdicts are
those of bench.statistics, written for whole arrays here; test_calibration.py holds the two to each
other. Arrays of figures are (draws, arms, seeds), the first arm being the baseline; arrays of
verdicts are (draws, arms - 1).
"""

import warnings
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import DegenerateDataWarning, binomtest, bootstrap, norm, t

from bench.records.endings import end_of, ending
from bench.statistics.ends import End
from bench.statistics.power import power, seeds_for
from bench.statistics.verdict import ALPHA, LEAST_SEEDS_LOSS, alpha_of_look

DRAWS = 20_000
ARMS = 4
SHARED = 2.0  # standard deviation of what all arms of a seed share; an arm's own is 1
FIRST, LAST = 5, 12  # seeds at the first of several looks and at the last
UNEQUAL = np.array([1.0, 0.5, 2.0, 4.0])  # an arm's own standard deviation, where skewed
DIVERGING = 0.1  # chance of a seed to diverge, in each arm
MARGIN = 1.0

ENDS = [End.FINISHED, End.DIVERGED, End.FAILED, End.MISSING]
DONE, DIVERGED, FAILED, MISSING = range(len(ENDS))

Figures = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ends = NDArray[np.int64]


@dataclass(frozen=True)
class Verdicts:
    better: Flags
    worse: Flags
    equivalent: Flags

    @property
    def different(self) -> Flags:
        return self.better | self.worse

    @property
    def family_wise(self) -> float:
        """The share of draws in which any comparison found a difference."""
        return float(self.different.any(axis=1).mean())


# --- what is drawn


def random(what: str, n: int) -> np.random.Generator:
    """A stream for each row, so that no row depends on those before it."""
    return np.random.default_rng([n, *what.encode()])


def equal_arms(n: int) -> Figures:
    """Exchangeable arms, paired by seed."""
    draw = random("equal", n)
    return SHARED * draw.normal(size=(DRAWS, 1, n)) + draw.normal(size=(DRAWS, ARMS, n))


def skewed_arms(n: int, own: Figures) -> Figures:
    """Arms of one mean, with a log-normal noise (skewness 6.2) of these standard deviations."""
    draw = random("skewed", n)
    noise = draw.lognormal(0.0, 1.0, size=(DRAWS, ARMS, n))
    standard = (noise - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)
    return SHARED * draw.normal(size=(DRAWS, 1, n)) + own[:, None] * standard


def differences(figures: Figures) -> Figures:
    return figures[:, 1:] - figures[:, :1]


# --- what is decided


def by_interval(pairs: Figures, alpha: float, margin: float = 0.0) -> Verdicts:
    """Verdicts on differences (draws, arms - 1, seeds), each at `alpha`; less is better."""
    n = pairs.shape[-1]
    half = t.isf(alpha / 2, n - 1) * pairs.std(axis=-1, ddof=1) / np.sqrt(n)
    low, high = pairs.mean(axis=-1) - half, pairs.mean(axis=-1) + half
    better, worse = high < 0, low > 0
    within = (low >= -margin) & (high <= margin)
    return Verdicts(better, worse, within & ~better & ~worse)


def with_ends(figures: Figures, ends: Ends, alpha: float) -> Verdicts:
    """The same where not every seed finished: `ends` (draws, arms, seeds) are places in ENDS."""
    new, base = ends[:, 1:], ends[:, :1]
    both, neither = (new == DONE) & (base == DONE), (new == MISSING) & (base == MISSING)
    pairs = np.where(both, differences(figures), np.nan)
    with np.errstate(invalid="ignore"):
        won, lost = (pairs < 0).sum(axis=-1), (pairs > 0).sum(axis=-1)

    def count(flags: Flags) -> NDArray[np.int64]:
        return flags.sum(axis=-1)

    better_won = won + count((new == DONE) & (base == DIVERGED))
    better_lost = lost + count((new != DONE) & (base != DIVERGED) & ~neither)
    worse_won = won + count((base != DONE) & (new != DIVERGED) & ~neither)
    worse_lost = lost + count((base == DONE) & (new == DIVERGED))
    table = sign_test(figures.shape[-1], alpha)
    failed = (ends == DIVERGED) | (ends == FAILED)
    more = count(failed[:, 1:]) - count(failed[:, :1])
    better = table[better_won, better_lost] & (more <= 0)
    worse = table[worse_lost, worse_won] & (more >= 0)
    n = both.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no pair is left, or one
        mean, sd = np.nanmean(pairs, axis=-1), np.nanstd(pairs, axis=-1, ddof=1)
        half = t.isf(alpha / 2, n - 1) * sd / np.sqrt(n)
    whole, enough = (both | neither).all(axis=-1), n >= LEAST_SEEDS_LOSS
    return Verdicts(
        np.where(whole, enough & (mean + half < 0), better),
        np.where(whole, enough & (mean - half > 0), worse),
        np.zeros_like(better),
    )


@cache
def sign_test(n: int, alpha: float) -> Flags:
    """Whether (hits, misses), up to n pairs, is significant on its side, and enough."""
    found = np.zeros((n + 1, n + 1), dtype=bool)
    for hits in range(n + 1):
        for misses in range(max(0, LEAST_SEEDS_LOSS - hits), n + 1 - hits):
            test = binomtest(hits, hits + misses, alternative="greater")
            found[hits, misses] = test.pvalue <= alpha / 2
    return found


def ever_different(figures: Figures, alphas: list[float]) -> float:
    """The share of draws that found a difference at one of the looks after FIRST, ..., LAST seeds.

    Whoever stops at the first difference has found one.
    """
    pairs = differences(figures)
    found = np.zeros(len(pairs), dtype=bool)
    for n, alpha in zip(range(FIRST, LAST + 1), alphas, strict=True):
        found |= by_interval(pairs[:, :, :n], alpha).different.any(axis=1)
    return float(found.mean())


# --- the figures, as shares


def family_wise_rates(n: int) -> dict[str, float]:
    each = ALPHA / (ARMS - 1)
    report = alpha_of_look(1) / (ARMS - 1)
    equal, skewed = differences(equal_arms(n)), differences(skewed_arms(n, UNEQUAL))
    alike = differences(skewed_arms(n, np.ones(ARMS)))
    diverged = random("diverged", n).random((DRAWS, ARMS, n)) < DIVERGING
    return {
        "equal arms, every arm at 5 %: no correction": by_interval(equal, ALPHA).family_wise,
        "equal arms, the family at 5 %: one look only": by_interval(equal, each).family_wise,
        "equal arms, the report's first look": by_interval(equal, report).family_wise,
        "equal arms, 10 % of seeds diverging, the report's first look": with_ends(
            equal_arms(n), np.where(diverged, DIVERGED, DONE), report
        ).family_wise,
        "equal arms, 10 % of seeds diverging, the family at 5 %": with_ends(
            equal_arms(n), np.where(diverged, DIVERGED, DONE), each
        ).family_wise,
        "equal arms, skewed noise, the family at 5 %": by_interval(alike, each).family_wise,
        "equal means, unequal skewed noise, the family at 5 %": by_interval(
            skewed, each
        ).family_wise,
        "equal means, unequal skewed noise, the report's first look": by_interval(
            skewed, report
        ).family_wise,
    }


def repeated_looks() -> dict[str, float]:
    looks = range(1, LAST - FIRST + 2)
    figures = equal_arms(LAST)
    return {
        "every look at 5 %": ever_different(figures, [ALPHA / (ARMS - 1) for _ in looks]),
        "the report's α / k(k + 1)": ever_different(
            figures, [alpha_of_look(look) / (ARMS - 1) for look in looks]
        ),
    }


def wrong_verdicts(n: int) -> dict[str, float]:
    """Of one arm of three, where a verdict is possible: own noise of a quarter of the margin."""
    pairs = differences(equal_arms(n)) * 0.25 * MARGIN / np.sqrt(2)
    alpha = alpha_of_look(1) / (ARMS - 1)
    equal = by_interval(pairs, alpha, MARGIN)
    at_margin = by_interval(pairs + MARGIN, alpha, MARGIN)
    return {
        "equal arms: “better”": float(equal.better.mean()),
        "equal arms: “worse”": float(equal.worse.mean()),
        "equal arms: “equivalent” (right)": float(equal.equivalent.mean()),
        "worse by the margin: “equivalent”": float(at_margin.equivalent.mean()),
        "worse by the margin: “better”": float(at_margin.better.mean()),
        "worse by the margin: “worse” (right)": float(at_margin.worse.mean()),
    }


SHARE = 0.05  # the margin of a claim about a ratio


def ratios(n: int, spread: float = 1 / 4) -> Figures:
    """Figures of equal arms above 0, such as times: noise multiplies.

    `spread`: the standard deviation of a pair's logarithm, in margins.
    """
    own = spread * np.log1p(SHARE) / np.sqrt(2)
    return np.exp(own * equal_arms(n))


def by_ratio(figures: Figures, alpha: float, more_is_better: bool = False) -> Verdicts:
    """The same of ratios: a margin of 0.05 reaches from 1 / 1.05 to 1.05."""
    found = by_interval(differences(np.log(figures)), alpha, float(np.log1p(SHARE)))
    return replace(found, better=found.worse, worse=found.better) if more_is_better else found


def ratio_verdicts(n: int, more_is_better: bool) -> dict[str, float]:
    """Of one arm of three: equal, and better and worse by exactly the margin."""
    alpha = alpha_of_look(1) / (ARMS - 1)
    figures, of_arms = ratios(n), np.array([1.0, *[1 + SHARE] * (ARMS - 1)])[:, None]
    up, down = (
        by_ratio(each, alpha, more_is_better) for each in (figures * of_arms, figures / of_arms)
    )
    equal = by_ratio(figures, alpha, more_is_better)
    better, worse = (up, down) if more_is_better else (down, up)
    return {
        "equal arms: “better” or “worse”": float(equal.different.mean()),
        "equal arms: “equivalent” (right)": float(equal.equivalent.mean()),
        "better by the margin: “equivalent” or “worse”": float(
            (better.equivalent | better.worse).mean()
        ),
        "better by the margin: “better” (right)": float(better.better.mean()),
        "worse by the margin: “equivalent” or “better”": float(
            (worse.equivalent | worse.better).mean()
        ),
        "worse by the margin: “worse” (right)": float(worse.worse.mean()),
    }


def ratio_rates(n: int) -> dict[str, float]:
    """Any of three arms better or worse, by ratios, whatever the noise of the figures."""
    draw = random("additive", n)
    own = draw.normal(size=(DRAWS, ARMS, n))
    slow = 0.5 * (draw.random((DRAWS, ARMS, n)) < DIVERGING)
    shapes = {
        "of 10 % that multiplies": np.exp(0.1 * own),
        "of 10 % that adds": 1 + 0.1 * own,
        "of 2 %, and every tenth run half as slow again": 1 + 0.02 * own + slow,
        "of 2 %, unequal": np.exp(0.02 * own * UNEQUAL[:, None]),
    }
    alpha = ALPHA / (ARMS - 1)
    return {f"noise {name}": by_ratio(shape, alpha).family_wise for name, shape in shapes.items()}


# What becomes of an arm's bad seeds: the attempts at each of them, as (status, reason, GiB).
FATES: dict[str, list[tuple[str, str, float]]] = {
    "crashed": [("crashed", "exit code 1", 4)],
    "diverged": [("diverged", "not finite", 4)],
    "out of memory": [("oom_killed", "", 4)],
    "out of time": [("timeout", "", 4)],
    "crashed, run again until ok": [("crashed", "exit code 1", 4), ("ok", "", 4)],
    "diverged, run again until ok": [("diverged", "not finite", 4), ("ok", "", 4)],
    "out of memory, run again until ok": [("oom", "", 4), ("oom", "", 4), ("ok", "", 4)],
    "the same with a raised limit": [("oom", "", 4), ("ok", "", 8)],
    "lost to the machine": [("crashed", "ended by SIGKILL", 4)],
    "interrupted": [("interrupted", "", 4)],
    "never run": [],
}
# (n, share of an arm's seeds that are its bad ones, the baseline's own noise)
CUTS = ((10, 0.31, 1.0), (20, 0.31, 1.0), (20, 0.5, 1.0), (20, 0.5, 0.25))


def end_after(fate: str) -> int:
    """The place in ENDS of a seed with these attempts."""
    keys = ("status", "reason", "memory_limit_gib")
    attempts = [dict(zip(keys, map(str, each), strict=True)) for each in FATES[fate]]
    return ENDS.index(end_of(ending(attempts)))


def better_in_spite_of(fate: str, n: int, share: float, quiet: float) -> float:
    """How often an arm equal to the baseline is "better" whose bad seeds end so; one comparison."""
    draw = random("fates", n)
    shared, own = SHARED * draw.normal(size=(DRAWS, 1, n)), draw.normal(size=(DRAWS, 2, n))
    bad = own[:, 1:] > norm.isf(share)
    ends = np.concatenate([np.full_like(bad, DONE, int), np.where(bad, end_after(fate), DONE)], 1)
    figures = shared + own * np.array([quiet, 1.0])[:, None]
    return float(with_ends(figures, ends, alpha_of_look(1)).better.mean())


RARE, MUCH_WORSE = 0.1, 40.0  # chance of a bad run, and by how many standard deviations


def better_by_rare_bad_runs(n: int) -> float:
    """How often an arm of the baseline's mean is "better" that has rare bad runs."""
    draw = random("rare", n)
    figures = SHARED * draw.normal(size=(DRAWS, 1, n)) + draw.normal(size=(DRAWS, 2, n))
    figures[:, 1] += MUCH_WORSE * ((draw.random((DRAWS, n)) < RARE) - RARE)
    return float(by_interval(differences(figures), alpha_of_look(1)).better.mean())


@dataclass(frozen=True)
class Powered:
    ratio: float  # the true standard deviation of the differences, in margins
    n: int  # what seeds_for says
    promised: float  # by the noncentral t
    found: float


def powered(ratio: float, look: int = 1) -> Powered:
    """Arms that are worse by the margin, over as many seeds as should show it."""
    alpha = alpha_of_look(look) / (ARMS - 1)
    sd = ratio * MARGIN
    n = seeds_for(sd, MARGIN, alpha, LEAST_SEEDS_LOSS)
    assert n is not None
    own = random("power", n).normal(size=(DRAWS, 2, n)) * sd / np.sqrt(2)
    found = by_interval(differences(own) + MARGIN, alpha).worse.mean()
    return Powered(ratio, n, power(n, sd, MARGIN, alpha), float(found))


RATIOS = (0.5, 1.0, 2.0, 4.0)


def bootstrap_rate(n: int, draws: int = 4_000) -> float:
    """False positives of one comparison at 5 %, were it by the BCa bootstrap. Takes its time."""
    pairs = random("bootstrap", n).normal(size=(draws, n))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)
        found = bootstrap(
            (pairs,), np.mean, axis=-1, n_resamples=1999, batch=100, rng=random("resample", n)
        ).confidence_interval
    return float(((found.low > 0) | (found.high < 0)).mean())


# --- the tables of docs/statistics.md


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    rule = ("---", *["---:" for _ in headings[1:]])
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, rule, *rows))


def tables() -> list[str]:
    small, large = family_wise_rates(5), family_wise_rates(10)
    wrong_small, wrong_large = wrong_verdicts(5), wrong_verdicts(10)
    return [
        table(
            ("any of three arms better or worse", "n = 5", "n = 10"),
            [(name, percent(small[name]), percent(large[name])) for name in small],
        ),
        table(
            ("any of three equal arms better or worse, at any of 8 looks", "n = 5, 6, ..., 12"),
            [(name, percent(share)) for name, share in repeated_looks().items()],
        ),
        table(
            ("one arm of three, first look, sd = margin / 4", "n = 5", "n = 10"),
            [
                (name, percent(wrong_small[name]), percent(wrong_large[name]))
                for name in wrong_small
            ],
        ),
        table(
            ("sd / margin", "seeds that would decide", "promised", "decided"),
            [
                (f"{each.ratio}", f"{each.n}", percent(each.promised), percent(each.found))
                for each in map(powered, RATIOS)
            ],
        ),
        table(
            (
                "equal arms, the bad seeds of one: “better”",
                *(
                    f"n = {n}, {percent(share)[:-4]} %{' (quiet baseline)' * (quiet < 1)}"
                    for n, share, quiet in CUTS
                ),
            ),
            [(fate, *(percent(better_in_spite_of(fate, *cut)) for cut in CUTS)) for fate in FATES],
        ),
        table(
            ("equal means, 10 % of one arm's runs much worse", *(f"n = {n}" for n in SEEDS)),
            [
                (
                    "“better”, although it is not",
                    *(percent(better_by_rare_bad_runs(n)) for n in SEEDS),
                )
            ],
        ),
    ]


def ratio_tables() -> list[str]:
    found = [(ratio_rates(n), ratio_verdicts(n, more_is_better=False)) for n in RATIO_SEEDS]
    headings = (
        "ratios: any of three equal arms better or worse, the family at 5 %",
        "ratios, margin 5 %: one arm of three, first look, sd = margin / 4",
    )
    return [
        table(
            (heading, *(f"n = {n}" for n in RATIO_SEEDS)),
            [(name, *(percent(each[place][name]) for each in found)) for name in found[0][place]],
        )
        for place, heading in enumerate(headings)
    ]


SEEDS = (5, 7, 10, 20)
RATIO_SEEDS = (3, 5, 10)


if __name__ == "__main__":
    print("\n\n".join([*tables(), *ratio_tables()]))
    rates = [(f"{n}", percent(bootstrap_rate(n))) for n in (3, 5, 10)]
    print("\n" + table(("n", "BCa bootstrap, 4,000 draws, nominally 5 %"), rates))
