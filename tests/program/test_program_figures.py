"""Figures of what was read: times by stamps and as told, finals, percentiles."""

import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.border.program import Program
from bench.program.figures import CURVE, Figures, percentiles
from bench.program.reading import OutputReader
from bench.program.verdict import LOG_TAIL, Ended, verdict
from bench.records import endings
from bench.records.columns import RUN_COLUMNS
from bench.worker.training import Point

STEADY = settings(deadline=None, derandomize=True, database=None)


def figures_of(*lines: tuple[float, dict[str, float | None]], metrics: tuple[str, ...] = ()):
    figures = Figures(metrics, 0.0)
    for at, record in lines:
        figures.add(record, at)
    return figures


def step(number: float, **more: float) -> dict[str, float | None]:
    return {"step": number, "loss": 2.0, **more}


def judged(figures: Figures, *, code: int = 0, tail: str = "the end", **asked):
    program = Program("prog", "0", ("python",), **asked)
    reader = OutputReader(program.read, program.metrics)
    return verdict(Ended(code, tail), figures, program, reader)


# --- Times by stamps -----------------------------------------------------------------------------


def test_step_times_are_those_between_step_lines():
    figures = figures_of((10, step(1)), (11, step(2)), (13, step(3)))
    row = figures.row(True)
    assert row["train_time_s"] == 3
    assert row["step_time_ms_p50"] == 1500
    assert row["step_time_source"] == "stamps"
    assert figures.clock.spans == [("train", 10, 13)]
    assert list(figures.steps.rows()) == [(1, 1, None, 2), (2, 1, 1000, 2), (3, 1, 2000, 2)]


def test_a_line_every_few_steps_tells_the_time_of_all_of_them():
    row = figures_of((0, step(10)), (1, step(20)), (3, step(30))).row(True)
    assert row["step_time_ms_p50"] == pytest.approx(150)
    assert row["step_time_ms_p99"] == pytest.approx(200)


def test_lines_of_one_moment_share_its_time():
    """What a program holds back, and prints at once, must not be steps of no time."""
    figures = figures_of((0, step(1)), (8, step(2)), (8, step(3)), (8, step(5)))
    row = figures.row(True)
    assert row["step_time_ms_p50"] == row["step_time_ms_p99"] == 2000
    assert [each[1:3] for each in figures.steps.rows()] == [
        (1, None),
        (1, None),
        (1, None),
        (4, 8000),
    ]


def test_an_evaluation_is_no_training_and_ends_with_its_line():
    lines = [(0, step(1)), (1, step(2)), (5, {"val_loss": 3.0}), (6, step(3)), (7, step(4))]
    figures = figures_of(*lines)
    row = figures.row(True)
    assert figures.clock.spans == [("train", 0, 1), ("eval", 1, 5), ("train", 5, 7)]
    assert (row["train_time_s"], row["eval_time_s"]) == (3, 4)
    assert row["step_time_ms_p50"] == 1000
    assert [each[2] for each in figures.steps.rows()] == [None, 1000, None, 1000]
    assert [each[2] for each in figures.curve_rows()] == [1]


def test_two_lines_of_one_evaluation_are_one_point_and_one_span():
    figures = figures_of((0, step(1)), (2, {"train_loss": 1.5}), (3, {"val_loss": 3.0}))
    figures.row(True)
    assert figures.clock.spans == [("eval", 0, 3)]
    assert [row[:5] for row in figures.curve_rows()] == [[1, None, None, 1.5, 3.0]]


def test_evaluation_time_is_unknown_where_steps_lie_unseen_before_it():
    seen = figures_of((0, step(1)), (3, {"step": 2, "val_loss": 1.0}), (4, step(2)))
    unseen = figures_of((0, step(10)), (9, {"step": 20, "val_loss": 1.0}), (10, step(20)))
    assert seen.row(True)["eval_time_s"] == 3
    assert unseen.row(True)["eval_time_s"] is None
    assert unseen.row(True)["train_time_s"] == 1


def test_a_line_with_both_losses_cannot_tell_training_from_evaluation():
    figures = figures_of(
        (0, step(1, val_loss=3)), (5, step(2, val_loss=2)), (9, step(3, val_loss=1))
    )
    row = figures.row(True)
    assert row["train_time_s"] is None
    assert row["step_time_source"] is None
    assert row["val_loss_final"] == 1


def test_the_same_line_of_another_process_is_no_step():
    row = figures_of((0, step(1)), (1, step(2)), (1.5, step(2)), (2, step(3))).row(True)
    assert row["train_time_s"] == 2
    assert row["step_time_ms_p99"] == 1000


def test_steps_that_begin_anew_have_no_time_across():
    figures = figures_of((0, step(8)), (1, step(9)), (5, step(1)), (6, step(2)))
    assert figures.row(True)["step_time_ms_p99"] == 1000


def test_a_metric_on_a_line_of_its_own_is_an_evaluation_and_beside_a_loss_is_not():
    alone = figures_of((0, step(1)), (4, {"bpb": 1.0}), (5, step(2)), metrics=("bpb",))
    beside = figures_of((0, step(1, bpb=2.0)), (4, step(2, bpb=1.0)), metrics=("bpb",))
    assert (alone.row(True)["train_time_s"], beside.row(True)["train_time_s"]) == (1, 4)


def test_one_step_line_tells_no_time():
    row = figures_of((3, step(1))).row(True)
    times = ("train_time_s", "eval_time_s", "step_time_ms_p50", "tokens_per_s", "step_time_source")
    assert [row.get(name) for name in times] == [None] * len(times)


# --- Times as told -------------------------------------------------------------------------------


def test_told_step_times_win_over_stamps():
    lines = [(at, step(at, step_time_ms=40.0)) for at in range(1, 5)]
    figures = figures_of((0, step(0)), *lines)
    row = figures.row(True)
    assert row["step_time_source"] == "told"
    assert row["step_time_ms_p50"] == row["step_time_ms_p99"] == 40
    assert row["train_time_s"] == 4  # of which the program says nothing
    assert next(figures.steps.rows()) == (0, 1, None, 2)


def test_seconds_and_milliseconds_are_one_column():
    seconds = figures_of((0, step(1, step_time_s=0.04, train_time_s=2.5))).row(True)
    milliseconds = figures_of((0, step(1, step_time_ms=40, train_time_ms=2500))).row(True)
    assert seconds == milliseconds
    assert seconds["train_time_s"] == 2.5


def test_told_training_time_gives_the_times_of_steps_as_well():
    """As programs print it that stop their clock for evaluations."""
    figures = figures_of(
        (0, {"step": 0, "val_loss": 9.0, "train_time_ms": 0.0}),
        (70, {"step": 100, "val_loss": 4.0, "train_time_ms": 20_000.0}),
        (99, {"step": 200, "val_loss": 3.0, "train_time_ms": 30_000.0}),
    )
    row = figures.row(True)
    assert row["train_time_s"] == 30
    assert row["step_time_source"] == "told"
    assert row["step_time_ms_p50"] == pytest.approx(150)
    assert [point[2] for point in figures.curve_rows()] == [0, 20, 30]
    assert row["eval_time_s"] is None


def test_tokens_a_second_are_told_or_follow_from_what_is():
    told = figures_of((0, {"tokens_per_s": 5}), (1, {"tokens_per_s": 9}), (2, {"tokens_per_s": 7}))
    assert told.row(True)["tokens_per_s"] == 7  # the median: one moment may be slow
    both = figures_of((0, step(1, tokens=800, train_time_s=4)))
    assert both.row(True)["tokens_per_s"] == 200
    stamped = figures_of(
        (0, step(1, tokens=100)),
        (1, step(2, tokens=200)),
        (9, {"val_loss": 1.0}),
        (10, step(3, tokens=300)),
        (12, step(4, tokens=400)),
    )
    assert stamped.row(True)["tokens_per_s"] == pytest.approx(200 / 3)
    assert stamped.row(True)["tokens"] == 400


# --- Columns -------------------------------------------------------------------------------------


def test_the_last_is_the_final_and_the_lowest_the_best():
    lines = [{"step": 1, "val_loss": 3.0}, {"val_loss": 1.0}, {"step": 2, "val_loss": 2.0}]
    row = figures_of(*enumerate(lines)).row(True)
    assert (row["val_loss_final"], row["val_loss_best"], row["steps"]) == (2, 1, 2)


def test_nothing_is_final_that_did_not_end():
    row = figures_of((0, {"val_loss": 2.0, "bpb": 1.0}), metrics=("bpb",)).row(False)
    assert "val_loss_final" not in row
    assert row.get("metrics") is None
    assert row["val_loss_best"] == 2


def test_the_last_loss_is_the_training_loss_where_none_is_evaluated():
    assert figures_of((0, step(1))).row(True)["train_loss_final"] == 2
    evaluated = figures_of((0, {"train_loss": 1.5}), (1, step(1)))
    assert evaluated.row(True)["train_loss_final"] == 1.5


def test_a_row_has_columns_of_runs_csv_alone_and_counts_are_whole():
    told = dict.fromkeys(("step", "tokens", "n_params", "tokens_per_s"), 3.0)
    told |= dict.fromkeys(("perplexity", "bits_per_char", "bits_per_byte"), 0.5)
    losses = {"loss": 1.0, "train_loss": 1.0, "val_loss": 1.0, "test_loss": 1.0, "bpb": 0.5}
    row = figures_of((0, {**told, **losses}), metrics=("bpb",)).row(True)
    assert set(row) <= set(RUN_COLUMNS)
    assert [type(row[name]) for name in ("steps", "tokens", "n_params")] == [int] * 3
    assert (row["bits_per_char"], row["bits_per_byte"]) == (0.5, 0.5)
    assert json.loads(row["metrics"]) == {"bpb": 0.5}


def test_what_is_no_finite_number_is_no_column():
    row = figures_of((0, {"step": 1, "perplexity": float("inf"), "n_params": None})).row(False)
    assert row["perplexity"] is None
    assert row["n_params"] is None


def test_files_have_the_columns_of_the_worker():
    assert tuple(field.name for field in fields(Point)) == CURVE


@STEADY
@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 9)), min_size=1, max_size=20),
    st.integers(0, 100),
)
def test_percentiles_are_those_of_numpy(weighted, rank):
    values, counts = zip(*weighted, strict=True)
    expected = np.percentile(np.repeat(values, counts), rank)
    assert percentiles(weighted, rank)[0] == pytest.approx(expected, rel=1e-9, abs=1e-9)


# --- Verdicts ------------------------------------------------------------------------------------

VAL = (r"val (?P<val_loss>\S+)",)


@pytest.mark.parametrize("name", ["loss", "train_loss", "val_loss", "test_loss"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("code", [0, 1, -9])
def test_a_loss_that_was_ever_not_finite_is_a_divergence(name, value, code):
    figures = figures_of(
        (0, {"step": 7, name: 2.5}), (1, {"step": 8, name: value}), (2, {"step": 9, name: 2.0})
    )
    told = f"{name} is {value} at step 8; the last finite was 2.5"
    assert judged(figures, code=code, read=VAL) == ("diverged", told)


def test_a_metric_may_be_infinite_but_not_at_the_end():
    recovered = figures_of((0, {"bpb": float("inf")}), (1, {"bpb": 1.0}), metrics=("bpb",))
    assert judged(recovered, metrics={"bpb": "lower"}) == ("ok", None)
    ended = figures_of((0, {"bpb": 1.0}), (1, {"bpb": float("inf")}), metrics=("bpb",))
    assert judged(ended, metrics={"bpb": "lower"}) == ("diverged", "bpb is inf at the end")


@pytest.mark.parametrize("name", ["loss", "train_loss", "val_loss", "test_loss"])
def test_any_loss_will_do_where_none_is_asked_for(name):
    assert judged(figures_of((0, {name: 2.0}))) == ("ok", None)
    assert judged(figures_of((0, {"step": 2}))) != ("ok", None)


def test_what_patterns_and_metrics_name_must_be_there():
    figures = figures_of((0, {"loss": 2.0, "bpb": 1.0}), metrics=("bpb",))
    status, reason = judged(figures, read=VAL, metrics={"bpb": "lower"})
    assert status == "crashed"
    assert "there was no val_loss" in reason
    assert "nothing matches 'val (?P<val_loss>" in reason
    assert reason.endswith("; its log ends: the end")


def test_a_final_that_is_no_number_is_none():
    figures = figures_of((0, {"val_loss": 2.0}), (1, {"val_loss": None}))
    assert judged(figures, read=VAL)[0] == "crashed"


def test_where_steps_are_given_the_last_must_be_reached():
    figures = figures_of((0, {"step": 80, "val_loss": 2.0}), (1, step(99)))
    assert judged(figures, read=VAL) == ("ok", None)
    assert judged(figures, read=VAL, steps=80) == ("ok", None)
    status, reason = judged(figures, read=VAL, steps=100)
    assert status == "crashed"
    assert reason.startswith("val_loss was last read at step 80, and the matrix says steps: 100; ")
    unknown = figures_of((0, {"val_loss": 2.0}))
    assert "at step unknown" in str(judged(unknown, read=VAL, steps=100)[1])


@pytest.mark.parametrize(
    "line",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "torch.cuda.OutOfMemoryError: CUDA out of memory.",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory",
        "MemoryError",
    ],
)
def test_the_words_of_a_lack_of_memory_are_known(line):
    tail = f"Traceback\n{line}\nmore"
    assert judged(Figures((), 0.0), code=1, tail=tail) == ("oom", f"exit code 1: {line}")
    assert judged(figures_of((0, {"loss": 1.0})), tail=tail) == ("ok", None)


@pytest.mark.parametrize(
    ("code", "words"), [(3, "exit code 3"), (-9, "ended by SIGKILL"), (-11, "ended by SIGSEGV")]
)
def test_other_ends_are_crashes_with_their_code_or_signal(code, words):
    figures = figures_of((0, {"val_loss": 1.0}))
    assert judged(figures, code=code) == ("crashed", f"{words}; its log ends: the end")
    assert judged(figures, code=code, tail="") == ("crashed", f"{words}; it printed nothing")


def test_the_launching_side_finds_the_words_of_a_log():
    assert LOG_TAIL == endings.LOG_TAIL
