"""No failure, retry, merge or choice of seeds moves an arm towards "better".

Random folders are written to the disk and put through the report's own merging and judging.
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.report.family import make_family
from bench.statistics.verdict import Verdict, alpha_of_look
from tests.builders.claims import claimed
from tests.builders.results import LATER, Results, sections_of

SHORT = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
KIND = (Verdict.BETTER, Verdict.EQUIVALENT, Verdict.IDENTICAL)
FAILURES = ("diverged", "crashed", "oom", "oom_killed", "timeout")
STATUSES = ("ok", "ok", "ok", *FAILURES, "interrupted", "skipped", "lost")
LIMITS = {"memory_limit_gib": 4, "timeout_limit_s": 60, "heartbeat_limit_s": 60}
BASE, NEW = "adamw", "muon"
# Figures of every kind, each worse with a higher loss.
FIGURES: dict[str, Callable[[float], float]] = {
    "val_loss_final": lambda loss: loss,
    "gpu_energy_j": lambda loss: loss,
    "tokens_per_s": lambda loss: 1 / loss,
    "host_rss_peak_mib": lambda loss: loss,
}


def add(folder: Results, optimizer: str, seed: int, status: str, loss: float) -> None:
    """One more attempt at a cell, planned or not."""
    run_id = f"gpt/{optimizer}/cpu#{seed}"
    if all(row["run_id"] != run_id for row in folder.plan):
        folder.planned(optimizer=optimizer, seed=seed)
    attempt = 1 + sum(row["run_id"] == run_id for row in folder.runs)
    lost = {"reason": "ended by SIGKILL"} if status == "lost" else {}
    status = "crashed" if status == "lost" else status
    figures = {name: of(loss) if status == "ok" else "" for name, of in FIGURES.items()}
    folder.ended(run_id, status, attempt, **LIMITS, **lost, **figures)


def verdict(*folders: Results, metric: str = "val_loss_final") -> Verdict | None:
    """On the new arm; None: no seed finished, so that nothing is compared."""
    sections = sections_of(*folders)
    families = [found for each in sections if (found := make_family(each, claimed(metric), 1))]
    return families[-1].comparisons[0].verdict if families else None


# --- one more failure, and the order of folders


attempts = st.lists(st.sampled_from(STATUSES), max_size=3)
seeds = st.lists(st.tuples(attempts, attempts, st.integers(-9, 9)), min_size=1, max_size=10)


def folder_of(path: Path, content: Sequence[tuple[list[str], list[str], int]]) -> Results:
    """Of each seed: the attempts of either arm, and by how much the new one is worse."""
    folder = Results(path)
    for seed, (base, new, worse) in enumerate(content, start=1):
        for optimizer, statuses in ((BASE, base), (NEW, new)):
            folder.planned(optimizer=optimizer, seed=seed)
            for status in statuses:
                loss = 2.0 + seed / 100 + (worse / 1000 if optimizer == NEW else 0.0)
                add(folder, optimizer, seed, status, loss)
    return folder


def as_replicates(*folders: Results) -> None:
    """The same of a program that seeds itself."""
    for folder in folders:
        for row in (*folder.plan, *folder.runs):
            row["settings"] = '{"program": {"seeds": "replicates"}}'


@pytest.mark.parametrize(
    ("prepare", "metric"),
    [*((lambda *folders: None, metric) for metric in FIGURES), (as_replicates, "val_loss_final")],
)
@SHORT
@given(seeds, seeds, st.sampled_from(FAILURES), st.sampled_from([BASE, NEW]), st.data())
def test_one_more_failure_makes_no_verdict_on_its_arm_kinder(
    tmp_path, prepare, metric, one, two, how, whose, data
):
    folders = [folder_of(tmp_path / "a", one), folder_of(tmp_path / "b", two)]
    prepare(*folders)
    before = verdict(*folders, metric=metric)
    seed = data.draw(st.integers(1, max(len(one), len(two))))
    into = data.draw(st.sampled_from([*folders, Results(tmp_path / "c")]))
    add(into, whose, seed, how, 2.0)
    prepare(into)
    after = verdict(*folders, *([] if into in folders else [into]), metric=metric)
    kind = KIND if whose == NEW else (Verdict.WORSE, Verdict.EQUIVALENT, Verdict.IDENTICAL)
    if after in kind:
        assert after is before


@pytest.mark.parametrize("metric", FIGURES)
@SHORT
@given(seeds, st.sampled_from([BASE, NEW]), st.data())
def test_one_figure_less_makes_no_verdict_on_its_arm_kinder(tmp_path, metric, one, whose, data):
    folder = folder_of(tmp_path / "a", one)
    before = verdict(folder, metric=metric)
    mine = [row for row in folder.runs if row["optimizer"] == whose]
    if not mine:
        return
    data.draw(st.sampled_from(mine))[metric] = ""
    after = verdict(folder, metric=metric)
    if after in (KIND if whose == NEW else (Verdict.WORSE, *KIND[1:])):
        assert after is before


@SHORT
@given(seeds, seeds)
def test_the_order_of_folders_decides_nothing(tmp_path, one, two):
    folders = [folder_of(tmp_path / "a", one), folder_of(tmp_path / "b", two)]
    assert verdict(*folders) is verdict(*reversed(folders))


# --- how often equal arms are "better" after what people do with bad seeds

N, BAD = 8, 0.31
Change = Callable[[Results, list[int], np.random.Generator], list[Results]]


def failed(how: str) -> Change:
    def change(folder: Results, bad: list[int], draw: np.random.Generator) -> list[Results]:
        for row in folder.runs:
            if row["optimizer"] == NEW and row["seed"] in bad:
                row |= {"status": how, "val_loss_final": "", "reason": "exit code 1"}
        return [folder]

    return change


def retried(how: str) -> Change:
    """Until each finishes with a figure that suits."""

    def change(folder: Results, bad: list[int], draw: np.random.Generator) -> list[Results]:
        [folder] = failed(how)(folder, bad, draw)
        for seed in bad:
            add(folder, NEW, seed, "ok", 1.9 - abs(draw.normal()))
        return [folder]

    return change


def retried_elsewhere(how: str) -> Change:
    def change(folder: Results, bad: list[int], draw: np.random.Generator) -> list[Results]:
        [folder] = failed(how)(folder, bad, draw)
        other = Results(folder.path.with_name("other"))
        for seed in bad:
            add(other, NEW, seed, "ok", 1.9 - abs(draw.normal()))
        return [other, folder]

    return change


def from_an_older_copy(folder: Results, bad: list[int], draw: np.random.Generator) -> list[Results]:
    """The state before the bad seeds, whose rows came last, beside the whole."""
    last = [row for row in folder.runs if row["seed"] in bad]
    first = [row for row in folder.runs if row["seed"] not in bad]
    older = Results(folder.path.with_name("older"), copy.deepcopy(folder.plan), first)
    return [older, Results(folder.path, folder.plan, [*first, *last])]


def run_again(folder: Results, bad: list[int], draw: np.random.Generator) -> list[Results]:
    """What finished and looks bad, in other folders: a repeat of choice."""
    others = [Results(folder.path.with_name(name)) for name in ("again", "and-again")]
    for other, seed in itertools.product(others, bad):
        add(other, NEW, seed, "ok", 2.0 + draw.normal() / 10)
        other.runs[-1] |= LATER
    return [*others, folder]


def run_again_under_other_code(
    folder: Results, bad: list[int], draw: np.random.Generator
) -> list[Results]:
    """All seeds but those that look bad, with the same figures."""
    for row in list(folder.runs):
        if row["seed"] not in bad:
            folder.runs.append(row | {"attempt": 2, "code_sha256": "code2", **LATER})
    return [folder]


def out_of_the_plan(folder: Results, bad: list[int], draw: np.random.Generator) -> list[Results]:
    kept = [row for row in folder.plan if row["seed"] not in bad]
    return [Results(folder.path, kept, folder.runs)]


def never_run(folder: Results, bad: list[int], draw: np.random.Generator) -> list[Results]:
    rows = [row for row in folder.runs if row["optimizer"] != NEW or row["seed"] not in bad]
    return [Results(folder.path, folder.plan, rows)]


CHANGES: dict[str, Change] = {
    "nothing": lambda folder, bad, draw: [folder],
    **{f"{how}": failed(how) for how in FAILURES},
    **{f"{how}, retried": retried(how) for how in FAILURES},
    **{f"{how}, retried elsewhere": retried_elsewhere(how) for how in FAILURES},
    "from an older copy": from_an_older_copy,
    "out of the plan": out_of_the_plan,
    "run again": run_again,
    "run again under other code": run_again_under_other_code,
    "never run": never_run,
}


def better(path: Path, change: Change, draws: int) -> int:
    """How many of so many pairs of equal arms are "better"."""
    found = 0
    for number in range(draws):
        draw = np.random.default_rng([7, number])
        figures = draw.normal(size=(2, N))  # baseline, new
        bad = [seed for seed in range(1, N + 1) if figures[1, seed - 1] > 0.5]
        folder = Results(path / "first")
        for seed, (arm, optimizer) in itertools.product(range(1, N + 1), enumerate((BASE, NEW))):
            add(folder, optimizer, seed, "ok", 2.0 + figures[arm, seed - 1] / 10)
        found += verdict(*change(folder, bad, draw)) is Verdict.BETTER
    return found


def most(draws: int) -> float:
    """Three standard deviations above what is nominal."""
    nominal = alpha_of_look(1) / 2
    return draws * nominal + 3 * np.sqrt(draws * nominal)


@pytest.mark.parametrize("how", ["diverged, retried", "oom, retried elsewhere", "run again"])
def test_equal_arms_are_not_better_for_their_failures(tmp_path, how):
    assert better(tmp_path, CHANGES[how], 60) <= most(60)


@pytest.mark.slow
@pytest.mark.parametrize("how", CHANGES)
def test_equal_arms_are_better_no_more_often_than_nominal(tmp_path, how):
    assert better(tmp_path, CHANGES[how], 150) <= most(150)
