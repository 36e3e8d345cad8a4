"""The check of a program: seconds of it, and what each pattern read."""

import json

import pytest

from bench.border.identity import program_code_sha256
from tests.builders.program_cells import STEP_LOSS, VAL, ProgramRun

ENDLESS = """
import itertools, time
print("step 0 val 4")
for step in itertools.count(1):
    print("step", step, "loss", 8 / step)
    time.sleep(0.01)
"""


def findings(run: ProgramRun, seconds: float = 60.0):
    ran = run.run(check_s=seconds)
    assert ran.code == 0
    assert ran.result["code_sha256"] == program_code_sha256()
    return {each["check"]: (each["ok"], each["text"]) for each in ran.result["findings"]}, ran


def test_it_ends_as_soon_as_every_pattern_has_read(tmp_path):
    found, ran = findings(ProgramRun(tmp_path, ENDLESS), 600)
    assert found == {
        "start": (True, "python main.py"),
        f"pattern {STEP_LOSS}": (True, "reads step 1, loss 8, in 'step 1 loss 8.0'"),
        f"pattern {VAL}": (True, "reads val_loss 4, in 'step 0 val 4'"),
    }
    assert ran.result["losses"][:2] == [["val_loss", None, 4], ["loss", 1, 8]]
    assert not (ran.folder / "program").exists()


def test_it_reads_on_where_the_first_losses_are_one_number(tmp_path):
    """As those of an output layer that begins at zero, which are the same for every seed."""
    _, ran = findings(ProgramRun(tmp_path, ENDLESS.replace("8 / step", "4 - step // 9")), 600)
    assert len({number for _, _, number in ran.result["losses"]}) >= 4


def test_what_met_nothing_is_told_with_what_was_printed(tmp_path):
    found, ran = findings(
        ProgramRun(tmp_path, ENDLESS, read=(STEP_LOSS, "test=(?P<test_loss>.)")), 1
    )
    ok, text = found["pattern test=(?P<test_loss>.)"]
    assert not ok
    assert text.startswith("met nothing in ")
    assert "it printed: step " in text
    assert found[f"pattern {STEP_LOSS}"][0]
    assert len(ran.result["losses"]) <= 100


def test_the_last_lines_are_quoted_as_a_terminal_shows_them(tmp_path):
    bars = r"print('\x1b[1mready\x1b[0m', end='\r\n'); print('10%', '20%', 'done', sep='\r')"
    for script, quoted in (
        ("for each in range(100): print(each)", "95 | 96 | 97 | 98 | 99"),
        (bars, "ready | done"),
    ):
        found, _ = findings(ProgramRun(tmp_path / quoted[:2], script, read=(VAL,)))
        assert found[f"pattern {VAL}"][1].endswith(f" lines; it printed: {quoted}")


@pytest.mark.parametrize(("trials", "ok"), [("step 0 ", True), ("begin", False)])
def test_what_begins_another_run_is_waited_for_and_told(tmp_path, trials, ok):
    asked = {"trials": trials, "seeds": "replicates"}
    found, _ = findings(ProgramRun(tmp_path, ENDLESS, asked=asked), 600 if ok else 1)
    assert found[f"trials {trials}"][0] == ok
    says = "begins a run, in 'step 0 val 4'" if ok else "met nothing in "
    assert found[f"trials {trials}"][1].startswith(says)


def test_the_command_is_told_as_filled(tmp_path):
    command = ("python", "main.py", "--lr={lr}", "--name=a b")
    run = ProgramRun(tmp_path, ENDLESS, settings={"lr": 0.5}, asked={"command": command})
    assert findings(run)[0]["start"] == (True, "python main.py --lr=0.5 '--name=a b'")


@pytest.mark.parametrize("code", [1, 3])
def test_a_program_that_fails_is_a_finding(tmp_path, code):
    found, _ = findings(ProgramRun(tmp_path, f"print('no such option'); exit({code})"))
    ok, text = found["start"]
    assert not ok
    assert text == f"python main.py ends with {code}; it printed: no such option"
    assert found[f"pattern {VAL}"] == (False, "met nothing in 1 lines before it failed")


def test_what_cannot_be_laid_out_or_started_is_the_only_finding(tmp_path):
    run = ProgramRun(tmp_path / "a", "pass", asked={"replace": {"main.py": {"seed": "1"}}})
    found, _ = findings(run)
    assert list(found) == ["start"]
    assert "'seed' stands 0 times in main.py" in found["start"][1]
    run = ProgramRun(tmp_path / "b", "pass", asked={"command": ("nothing-of-this-name",)})
    assert "cannot be started" in findings(run)[0]["start"][1]


def test_what_is_no_number_is_a_finding(tmp_path):
    found, _ = findings(ProgramRun(tmp_path, "print('val 12%')", read=(VAL,)))
    ok, text = found[f"pattern {VAL}"]
    assert (ok, text) == (
        False,
        "reads nothing, in 'val 12%'; val_loss: '12%' is no number",
    )


def test_lines_of_json_are_told_and_nan_is_a_text(tmp_path):
    script = "import json\nfor n in (1.5, float('nan')): print(json.dumps({'loss': n}))"
    found, ran = findings(ProgramRun(tmp_path, script, read=()))
    assert found["lines of JSON"] == (True, """reads loss 1.5, in '{"loss": 1.5}'""")
    assert ran.result["losses"] == [["loss", None, 1.5], ["loss", None, "nan"]]
    assert json.loads((ran.folder / "check.json").read_text()) == {"seconds": 60}


def test_nothing_to_read_at_all_is_a_finding(tmp_path):
    found, _ = findings(ProgramRun(tmp_path, "print('hello')", read=()))
    assert found["lines of JSON"] == (False, "met nothing in 1 lines; it printed: hello")
