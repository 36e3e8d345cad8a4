"""How often a gate is wrong: rounds of one revision beside itself and beside slower steps."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.compare import sides as sides_module
from bench.compare.alarms import (
    FIELDS,
    Judged,
    as_json,
    as_line,
    as_markdown,
    as_text,
    judged,
    tallies,
)
from bench.compare.calibrate import changes
from bench.compare.judge import GateStatus
from bench.compare.planted import TRAINING, slow_down
from bench.compare.sides import changed
from bench.compare.turns import orders
from bench.errors import RequestError
from bench.records.rows import Row, read_table
from tests.builders.revisions import LOCAL, append, checkouts, git, one_arm
from tests.builders.shared import ROOT
from tests.builders.sides import STEP, Sides

SIDES = ("base", "again", "slower-50")
ROUNDS = ("round-01", "round-02")
PASS, UNDECIDED, FAIL = GateStatus


def command(*arguments: str | Path) -> list[str]:
    options = ("--rounds", "2", "--pairs", "1", "--slower", "50", *LOCAL)
    return [sys.executable, "-m", "bench", "calibrate", *options, *map(str, arguments)]


def calibrate(repository: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=repository, capture_output=True, text=True, timeout=300
    )


def rows_of(out: Path, side: str) -> list[Row]:
    return [row for name in ROUNDS for row in read_table(out / name / side / "runs.csv")]


def stop_in_round_two(repository: Path, *arguments: str | Path, out: Path) -> str:
    with subprocess.Popen(
        command(*arguments, "--out", out), cwd=repository, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not list(out.glob("round-02/*/runs.csv")):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, said
    return said


@pytest.mark.slow
def test_rounds_go_on_after_an_interruption_and_are_judged_again_without_a_run(
    repository: Path, tmp_path: Path
) -> None:
    matrix, out = one_arm(tmp_path, 1), tmp_path / "out"
    said = stop_in_round_two(repository, "v1", matrix, out=out)
    assert "the same command goes on where it stopped" in said
    first = {side: read_table(out / "round-01" / side / "runs.csv") for side in SIDES}
    assert [row["round"] for row in read_table(out / "rounds.csv")] == ["1", "1"]

    answer = calibrate(repository, "v1", matrix, "--out", out)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "round 1/2, " not in answer.stderr, "a round that was done ran again"
    assert "again 0 of 2 failed, 2 undecided; slower-50 0 of 2 failed" in answer.stderr
    assert checkouts(repository) == 1
    for side, found in first.items():
        assert rows_of(out, side)[: len(found)] == found

    again = calibrate(repository, "v1", matrix, "--out", out, "--fail-on", "val_loss_final>0.01")
    assert again.returncode == 0, again.stderr
    assert "round " not in again.stderr, "it ran, only to judge"
    told = [line.split()[:5] for line in again.stdout.splitlines()[1:]]
    assert told == [["again", "2", "0", "2", "0"], ["slower-50", "2", "0", "2", "0"]]
    found = read_table(out / "rounds.csv")
    assert [(row["round"], row["kind"], row["outcome"]) for row in found] == [
        (number, kind, "pass") for number in "12" for kind in SIDES[1:]
    ]

    ok = {side: [row for row in rows_of(out, side) if row["status"] == "ok"] for side in SIDES}
    assert {side: len(found) for side, found in ok.items()} == dict.fromkeys(SIDES, 2)
    assert len({row["val_loss_final"] for found in ok.values() for row in found}) == 1
    codes = {side: {row["code_sha256"] for row in found} for side, found in ok.items()}
    assert codes["base"] == codes["again"] != codes["slower-50"]

    other = calibrate(repository, "v1", one_arm(tmp_path, 2), "--pairs", "2", "--out", out)
    assert other.returncode == 2
    assert "holds rounds of another matrix" in other.stderr


# --- Checkouts -----------------------------------------------------------------------------------


def test_every_side_of_the_working_tree_is_a_copy_of_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides_module, "ROOT", repository)
    training = repository / TRAINING
    append(repository, "run/progress.py", "\n# as a person is changing it\n")
    (repository / "bench" / "new.py").write_text("# not yet known to git\n")
    (repository / "bench" / "run" / "plan.py").unlink()
    before = training.read_text()
    try:
        with changed(".", changes([15])) as copies:
            for copy in copies:
                assert copy.root != repository
                assert (copy.root / "bench" / "new.py").is_file()
                assert not (copy.root / "bench" / "run" / "plan.py").exists()
                assert "changing it" in (copy.root / "bench" / "run" / "progress.py").read_text()
            base, again, slower = copies
            assert base.identity == again.identity != slower.identity
            assert (slower.root / TRAINING).read_text() != before
        assert training.read_text() == before
        assert not base.root.exists()
    finally:
        git(repository, "clean", "--quiet", "--force")
        git(repository, "checkout", "--quiet", "--", ".")
    assert checkouts(repository) == 1


def test_a_revision_whose_steps_are_timed_otherwise_is_told(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides_module, "ROOT", repository)
    training = repository / TRAINING
    training.write_text(training.read_text().replace("self.timer.steps_done(", "self.timer.mark("))
    try:
        with (
            pytest.raises(RequestError, match=r"training\.py has no `self\.timer\.steps_done\(`"),
            changed(".", changes([5])),
        ):
            pass
    finally:
        git(repository, "checkout", "--quiet", "--", ".")
    assert checkouts(repository) == 1


PLANTED = """
import json, sys, time
from bench.worker import training
from bench.worker.training import StepTimer

now = 0.0

def clock():
    global now
    now += 1e-4  # what it takes to look
    return now

time.perf_counter = clock
time.monotonic_ns = lambda: round(1e9 * now)
import torch
timer = training.StepTimer(torch.device("cpu"), sys.argv[1])
timer.begin_span()
for launched, seconds in ((1, 1.0), (1, 3.0), (10, 8.0)):
    now += seconds
    timer.steps_done(launched)
timer.mark_rest()
timer.end_span()
print(json.dumps([[sample.steps, sample.time_ms] for sample in timer.samples]))
"""


@pytest.mark.parametrize("timing", ["sampled", "every"])
def test_a_planted_share_is_a_share_of_what_the_timer_sees(timing: str, tmp_path: Path) -> None:
    """On a clock of the test's: of steps one by one, and of a launch of ten."""
    file = tmp_path / TRAINING
    file.parent.mkdir(parents=True)
    file.write_text((ROOT / TRAINING).read_text())
    slow_down(tmp_path, 0.15)
    script = f"import runpy, sys; sys.modules.pop('x', None)\nfile = {str(file)!r}\n"
    script += "import importlib.util as u, bench.worker\n"
    script += "spec = u.spec_from_file_location('bench.worker.training', file)\n"
    script += "module = u.module_from_spec(spec); sys.modules[spec.name] = module\n"
    script += "bench.worker.training = module; spec.loader.exec_module(module)\n" + PLANTED
    answer = subprocess.run(
        [sys.executable, "-c", script, timing],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(answer.stdout)
    assert [steps for steps, _ in found] == [1, 1, 10]
    assert [ms for _, ms in found] == pytest.approx([1150, 3450, 9200], abs=2)


# --- Without cells -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(2, 8))
def test_each_side_is_as_often_at_each_place_and_beside_each_other(count: int) -> None:
    found = orders(count)
    assert all(sorted(order) == list(range(count)) for order in found)
    assert len(set(found)) == len(found) == (2 * count if count % 2 else count)
    for place in range(count):
        assert len(set(Counter(order[place] for order in found).values())) == 1
    beside = Counter(pair for order in found for pair in pairwise(order))
    assert len(beside) == count * (count - 1)
    assert len(set(beside.values())) == 1


def test_two_sides_alternate() -> None:
    assert orders(2) == ((0, 1), (1, 0))


@pytest.mark.parametrize(
    ("slower", "words"),
    [
        ([0.0], "--slower 0: write a percentage above 0"),
        ([-5.0], "--slower -5: write"),
        ([float("nan")], "--slower nan: write"),
        ([5.0, 5.0], "--slower 5 is given twice"),
    ],
)
def test_a_slowdown_that_cannot_be_is_refused(slower: list[float], words: str) -> None:
    with pytest.raises(RequestError, match=re.escape(words)):
        changes(slower)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--rounds", "0"), "--rounds 0: give a number from 1 to 10,000"),
        (("--fail-on", "speed>5%"), "no such metric"),
        (("--slower", "0"), "--slower 0: write a percentage"),
        (("--pairs", "0"), "--pairs 0: give a number from 1"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(
    options: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    matrix, out = one_arm(tmp_path, 1), tmp_path / "out"
    asked = ["calibrate", "HEAD", str(matrix), "--out", str(out), *LOCAL, *options]
    answer = subprocess.run(
        [sys.executable, "-m", "bench", *asked], cwd=ROOT, capture_output=True, text=True
    )
    assert answer.returncode == 2
    assert words in answer.stderr
    assert not out.exists()


@pytest.mark.parametrize(("ratio", "outcome"), [(1.0, PASS), (1.05, UNDECIDED), (1.2, FAIL)])
def test_a_finding_has_its_change_with_its_interval(
    ratio: float, outcome: GateStatus, sides: Sides
) -> None:
    sides.times(ratio)
    (row,) = judged(3, "again", sides.compared(STEP, keep=True))
    assert (row.round, row.kind, row.rule, row.outcome) == (3, "again", STEP, outcome)
    assert row.arm.endswith("+ adamw, cpu")
    assert row.pairs == 5
    assert row.change == pytest.approx(ratio - 1, abs=0.01)
    assert row.low is not None
    assert row.high is not None
    assert row.low < row.change < row.high


def test_an_interval_too_wide_for_a_double_ends_no_measurement(sides: Sides) -> None:
    for seed, ratio in ((1, 1e-200), (2, 1e200), (3, 1e200)):
        sides.pair(seed, {"step_time_ms_p50": 10.0}, {"step_time_ms_p50": 10.0 * ratio})
    (row,) = judged(1, "again", sides.compared(STEP, keep=True))
    assert (row.outcome, row.high, row.width) == (UNDECIDED, None, None)


def test_cells_that_fail_are_found_without_a_rule(sides: Sides) -> None:
    sides.times(1.0)
    sides.pair(6, {"step_time_ms_p50": 16.0}, {"status": "crashed"})
    found = list(judged(1, "again", sides.compared(STEP, keep=True)))
    assert [(row.rule, row.outcome) for row in found] == [("", FAIL), (STEP, PASS)]
    assert [tally.failed for tally in tallies(found)] == [1]


def made_up(outcomes: dict[str, list[list[GateStatus]]]) -> list[Judged]:
    """Of each kind its rounds, of each round what was found in it, an arm each."""
    return [
        Judged(number, kind, f"arm {arm}", STEP, outcome, 5, 0.01, -0.01, 0.03)
        for kind, rounds in outcomes.items()
        for number, found in enumerate(rounds, start=1)
        for arm, outcome in enumerate(found, start=1)
    ]


MADE_UP = {
    "again": [[PASS, PASS]] * 37 + [[PASS, UNDECIDED], [UNDECIDED, UNDECIDED], [FAIL, PASS]],
    "slower-15": [[FAIL, UNDECIDED]] * 36 + [[UNDECIDED, PASS]] * 4,
}


def test_a_round_ends_as_the_worst_of_what_was_found_in_it() -> None:
    found = made_up(MADE_UP)
    again, slower = tallies(found)
    assert again.outcomes == {PASS: 37, UNDECIDED: 2, FAIL: 1}
    assert slower.outcomes == {FAIL: 36, UNDECIDED: 4}
    assert (again.rounds, again.failed) == (40, 1)
    assert as_text(found) == (
        "side       rounds  failed  passed  undecided    share failed (95 %)\n"
        "again          40       1      37          2    2.5 % (0.1 to 13.2)\n"
        "slower-15      40      36       0          4  90.0 % (76.3 to 97.2)\n"
    )
    assert as_line(found) == (
        "again 1 of 40 failed, 2 undecided; slower-15 36 of 40 failed, 4 undecided"
    )


def test_what_is_left_names_command_and_machine() -> None:
    found = made_up(MADE_UP)
    facts = {"runtime": "docker", "host_cpu_model": "a | b"}
    page = as_markdown(found, "bench calibrate HEAD calibrate --rounds 40", facts)
    assert "    bench calibrate HEAD calibrate --rounds 40\n" in page
    assert "| again | 40 | 1 | 37 | 2 | 2.5 % (0.1 to 13.2) |" in page
    assert "| slower-15 | arm 1 |" in page
    assert "| 1 % | 0 % | 4 % |" in page  # mean change, its sd, mean width of the interval
    assert "- host\\_cpu\\_model: a \\| b\n" in page
    content = json.loads(as_json(found, "bench", facts))
    assert content["ran_on"] == facts
    assert content["sides"][0] == {
        **{"kind": "again", "rounds": 40, "fail": 1, "undecided": 2, "pass": 37},
        **{"share_failed": 0.025, "low": pytest.approx(0.000633, abs=1e-6)},
        "high": pytest.approx(0.131586, abs=1e-6),
    }
    assert tuple(content["rounds"][0]) == FIELDS


KINDS = st.sampled_from(["again", "slower-5"])
FINDINGS = st.lists(st.tuples(KINDS, st.integers(1, 9), st.sampled_from(GateStatus)), min_size=1)


@settings(deadline=None)
@given(FINDINGS)
def test_every_round_is_counted_once(found: list[tuple[str, int, GateStatus]]) -> None:
    rows = [
        Judged(number, kind, "arm", STEP, outcome, 5, None, None, None)
        for kind, number, outcome in found
    ]
    for tally in tallies(rows):
        mine = [(number, outcome) for kind, number, outcome in found if kind == tally.kind]
        assert tally.rounds == len({number for number, _ in mine})
        assert tally.failed == len({number for number, outcome in mine if outcome is FAIL})
        assert tally.interval.low <= tally.failed / tally.rounds <= tally.interval.high


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ((), 'ab "v1" "." "bench/matrix/ab.yaml"'),
        (("ROUNDS=3",), 'calibrate "v1" "bench/matrix/calibrate.yaml" --rounds 3'),
        (("ROUNDS=3", "MATRIX=own.yaml"), 'calibrate "v1" "own.yaml" --rounds 3'),
    ],
)
def test_make_ab_with_rounds_calibrates(asked: tuple[str, ...], wanted: str) -> None:
    answer = subprocess.run(
        ["make", "--dry-run", "ab", "BASE=v1", "RUNTIME=local", "PAIRS=5", *asked],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"bench {wanted}" in answer.stdout
    assert "--runtime local --pairs 5 --fail-on 'step_time_ms_p50>5%'" in answer.stdout
