"""Programs that print what nobody expects, read by the real runner."""

import pytest

from bench.program.lines import MAX_LINE
from bench.program.output import FIRST, LAST
from tests.builders.program_cells import LOSS, STEP_LOSS, VAL, ProgramRun

MOST_MIB = 100  # of the runner's memory, whatever a program prints


@pytest.mark.slow
def test_a_gigabyte_on_one_line(tmp_path):
    ran = ProgramRun(
        tmp_path,
        """
        import sys
        print("step 1 loss 2.5")
        for _ in range(1024):
            sys.stdout.write("x" * 2**20)
        print("\\nval 1.5")
        """,
    ).run()
    assert ran.end == ("ok", None)
    assert ran.row["val_loss_final"] == 1.5
    assert 10 < ran.rss_mib < MOST_MIB
    assert len(ran.log) < FIRST + LAST + 1000
    assert (
        b"\n[%d bytes left out]\n" % (2**30 + len("step 1 loss 2.5\n\nval 1.5\n") - FIRST - LAST)
        in ran.log
    )
    assert ran.log.startswith(b"step 1 loss 2.5\nxxx")
    assert ran.log.endswith(b"xxx\nval 1.5\n")


def test_the_log_holds_all_of_what_is_not_too_much(tmp_path):
    script = """
    for line in range(55_000):
        print(f"{line:07d}", "x" * 80)
    print("val 1.5")
    """
    ran = ProgramRun(tmp_path, script).run()
    assert b"left out" not in ran.log
    assert [int(line.split()[0]) for line in ran.log.splitlines()[:-1]] == list(range(55_000))


def test_a_number_at_the_end_of_too_long_a_line_is_refused(tmp_path):
    script = f"print('val', 'x' * {MAX_LINE}, 'val 1.5')"
    ran = ProgramRun(tmp_path, script, read=(r"x val (?P<val_loss>\S+)",)).run()
    status, reason = ran.end
    assert status == "crashed"
    assert "there was no val_loss" in reason
    assert "1 lines were longer than is read" in reason


def test_binary_and_no_newline_at_the_end(tmp_path):
    script = """
    import sys
    sys.stdout.buffer.write(bytes(range(256)) * 100 + b"\\n\\xff val 1.5")
    """
    assert ProgramRun(tmp_path, script).run().row["val_loss_final"] == 1.5


def test_progress_bars_and_colours(tmp_path):
    script = r"""
    for step in range(1, 101):
        print(f"\r{step}%|####| step {step} \x1b[32mloss {1 / step}\x1b[0m ", end="")
    print("\r\x1b[1mval\x1b[0m 1.5")
    """
    ran = ProgramRun(tmp_path, script).run()
    assert (ran.row["steps"], ran.row["train_loss_final"]) == (100, 0.01)
    assert ran.row["val_loss_final"] == 1.5
    assert len(ran.table("steps.csv")) == 100


def test_errors_stand_between_lines_where_they_came(tmp_path):
    script = """
    import sys
    for step in range(1, 4):
        print("step", step, "loss 1")
        print("a warning", step, file=sys.stderr)
        print("val", step, file=sys.stderr)
    """
    ran = ProgramRun(tmp_path, script).run()
    assert ran.log.decode().split("\n")[3:6] == ["step 2 loss 1", "a warning 2", "val 2"]
    assert [point["val_loss"] for point in ran.table("curve.csv")] == ["1.0", "2.0", "3.0"]


def test_ten_thousand_lines_a_second_are_all_read(tmp_path):
    script = """
    for step in range(1, 30_001):
        print(f"step {step:,} loss {step / 4} and some more words, as programs print them")
    print("val 1e-3")
    """
    ran = ProgramRun(tmp_path, script).run()
    assert (ran.row["steps"], ran.row["val_loss_final"]) == (30_000, 0.001)
    steps = ran.table("steps.csv")
    assert [row["loss"] for row in steps] == [str(step / 4) for step in range(1, 30_001)]
    times = [int(row["steps"]) for row in steps if row["time_ms"]]
    assert sum(times) == 30_000 - int(first_step(steps))
    assert ran.rss_mib < MOST_MIB


def first_step(steps):
    """The last step of the first moment: from there on there are times."""
    timed = next(index for index, row in enumerate(steps) if row["time_ms"])
    return int(steps[timed]["step"]) - int(steps[timed]["steps"])


@pytest.mark.parametrize(
    ("text", "value"), [("1,234", 1234), ("1e-3", 0.001), ("-0.5", -0.5), ("0003", 3)]
)
def test_numbers_of_any_spelling(tmp_path, text, value):
    ran = ProgramRun(tmp_path, f"print('val {text}')").run()
    assert ran.row["val_loss_final"] == value


@pytest.mark.parametrize("text", ["inf", "nan", "-inf", "NaN"])
def test_a_loss_that_is_not_finite_diverges(tmp_path, text):
    script = f"print('val 2.5'); print('step 3 loss {text}'); raise SystemExit(7)"
    ran = ProgramRun(tmp_path, script).run()
    assert ran.code == 0
    assert ran.end == ("diverged", f"loss is {float(text)} at step 3; none was finite")


def test_what_is_no_number_is_refused_with_its_text(tmp_path):
    ran = ProgramRun(tmp_path, "print('val 2.5'); print('val 12%')").run()
    status, reason = ran.end
    assert (ran.code, status) == (1, "crashed")
    assert "val_loss: '12%' is no number" in reason


def test_nothing_printed_and_nothing_read(tmp_path):
    status, reason = ProgramRun(tmp_path, "pass").run().end
    assert status == "crashed"
    assert reason.startswith("exit code 0, and in 0 lines there was no val_loss; nothing matches")
    assert reason.endswith("; it printed nothing")


def test_what_was_printed_is_quoted_where_nothing_was_read(tmp_path):
    ran = ProgramRun(tmp_path, "print('validation: 2.5')", read=(STEP_LOSS, VAL)).run()
    status, reason = ran.end
    assert status == "crashed"
    assert all(repr(pattern) in reason for pattern in (STEP_LOSS, VAL))
    assert reason.endswith("; its log ends: validation: 2.5")


def test_json_lines_need_no_pattern(tmp_path):
    script = """
    import json
    print(json.dumps({"step": 1, "loss": 2.5}))
    print(json.dumps({"val_loss": 2.0, "val_bpb": 1.25, "other": [1]}))
    """
    ran = ProgramRun(tmp_path, script, read=(), asked={"metrics": {"val_bpb": "lower"}}).run()
    assert ran.end == ("ok", None)
    assert ran.row["val_loss_final"] == 2.0
    assert ran.row["metrics"] == '{"val_bpb": 1.25}'


def test_a_pattern_that_takes_for_ever_is_told_and_ends_the_program(tmp_path):
    script = """
    import time
    print("a" * 60 + "b")
    time.sleep(600)
    """
    ran = ProgramRun(tmp_path, script, read=(r"(a+)+$(?P<loss>x)",)).run()
    status, reason = ran.end
    assert status == "crashed"
    assert reason.startswith("the pattern '(a+)+$(?P<loss>x)' takes longer than 1 s for a line")


def test_output_that_is_closed_does_not_end_the_program(tmp_path):
    script = """
    import os, time
    print("val 2.5")
    os.close(1)
    os.close(2)
    time.sleep(0.3)
    os._exit(3)
    """
    assert ProgramRun(tmp_path, script).run().end[1].startswith("exit code 3; its log ends: val")


def test_the_launching_side_hears_while_the_program_prints(tmp_path):
    script = """
    import time
    print("loading")
    time.sleep(0.7)
    for step in range(1, 13):
        print("step", step, "loss 2.5")
        time.sleep(0.1)
    print("val 1.5")
    """
    ran = ProgramRun(tmp_path, script).run()
    stages = [event["stage"] for event in ran.events]
    assert stages[0] == "start"
    assert stages[-1] == "train"
    assert 3 <= len(stages) <= 8
    told = [event["step"] for event in ran.events if "step" in event]
    assert told == sorted(told)
    assert ran.events[-1]["loss"] == 2.5


def test_more_patterns_than_one_read_a_line(tmp_path):
    ran = ProgramRun(tmp_path, "print('step 4 loss 2 val 3')", read=(LOSS, VAL)).run()
    assert (ran.row["val_loss_final"], ran.row["train_loss_final"]) == (3, 2)
