"""What lines tell: numbers, patterns, JSON; and patterns that can tell nothing."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.program.reading import (
    GROUPS,
    OutputReader,
    number,
    why_no_expression,
    why_no_pattern,
)

STEADY = settings(deadline=None, derandomize=True, database=None)
LOSS = r"loss (?P<loss>\S+)"
STEP = r"step (?P<step>\S+)"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("3", 3), ("-0.5", -0.5), ("+1.5", 1.5), (".5", 0.5), ("5.", 5), (" 2 ", 2)),
        *(("1,234", 1234), ("1,234,567.5", 1234567.5), ("00010", 10), ("0.0", 0)),
        *(("1e-3", 0.001), ("1E3", 1000), ("1.5e+2", 150), ("1e400", math.inf)),
        *(("inf", math.inf), ("-Infinity", -math.inf), ("INF", math.inf)),
    ],
)
def test_numbers_as_programs_print_them(text, value):
    assert number(text) == value


@pytest.mark.parametrize("text", ["nan", "NaN", "-nan"])
def test_nan_is_a_number_that_is_none(text):
    assert math.isnan(number(text))


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "-", ".", "e5", "12%", "3.2,", "0x10", "1_000", "1e", "tensor(3.2)", "3.2ms"),
        *("3,14", "1,23", "0,123", "12,34,567", "1,2345", "1234,567", "1.234,5"),
        *("−1", "٣", "1 000", "info", "nans", "infinit", "--", "1-2", "1.2.3"),
    ],
)
def test_what_is_no_number_is_refused_and_quoted(text):
    with pytest.raises(ValueError, match="is no number") as refused:
        number(text)
    assert repr(text) in str(refused.value)


@STEADY
@given(st.floats(allow_nan=False))
def test_every_float_is_read_back_from_its_text(value):
    assert number(repr(value)) == value
    assert number(f"{value:.3e}") == float(f"{value:.3e}")
    assert number(f"{value:,.6f}") == float(f"{value:.6f}")


@STEADY
@given(st.text(alphabet="0123456789.,eE+-infatyNI_ %", max_size=12))
def test_a_text_is_a_number_or_refused_and_never_guessed(text):
    try:
        value = number(text)
    except ValueError:
        return
    plain = text.strip()
    groups = plain.split(".")[0].lower().split("e")[0].lstrip("+-").split(",")
    assert all(len(group) == 3 for group in groups[1:])
    expected = float(plain.replace(",", ""))
    assert value == expected or math.isnan(expected)


def test_a_long_text_is_shown_in_part():
    with pytest.raises(ValueError, match="is no number") as refused:
        number("x" * 1000)
    assert len(str(refused.value)) < 100


# --- Lines ---------------------------------------------------------------------------------------


def test_groups_of_a_pattern_are_read_from_the_middle_of_a_line():
    reader = OutputReader([rf"{STEP}/\d+ \| {LOSS},"])
    assert reader.read("[rank0] step 1,000/5000 | loss 2.5, 12 ms") == {"step": 1000, "loss": 2.5}
    assert reader.read("nothing here") == {}
    assert reader.lines == 2
    assert reader.silent == []


def test_patterns_of_one_line_add_up_and_the_first_wins():
    reader = OutputReader([STEP, LOSS, r"(?P<loss>\d+) ms"])
    assert reader.read("step 3 loss 2.5 in 40 ms") == {"step": 3, "loss": 2.5}
    assert [use.lines for use, _ in reader.uses] == [1, 1, 1]


def test_a_pattern_reads_the_first_place_that_it_finds():
    assert OutputReader([LOSS]).read("loss 1 loss 2") == {"loss": 1}


def test_a_group_that_took_no_part_reads_nothing():
    reader = OutputReader([rf"{STEP}(?: {LOSS})?"])
    assert reader.read("step 3") == {"step": 3}


def test_what_is_no_number_reads_as_none_with_its_reason():
    reader = OutputReader([LOSS, STEP])
    assert reader.read("step 2.5 loss 12%") == {"loss": None, "step": None}
    assert reader.refused == {"loss": "'12%' is no number", "step": "2.5 is no whole number"}


def test_patterns_that_met_nothing_are_told():
    reader = OutputReader([STEP, LOSS])
    reader.read("loss 3")
    assert reader.silent == [STEP]
    use, _ = reader.uses[1]
    assert (use.lines, use.first, use.first_record) == (1, "loss 3", {"loss": 3})


def test_json_lines_need_no_pattern():
    reader = OutputReader([], ["val_bpb"])
    line = json.dumps({"step": 5, "loss": 2.5, "val_bpb": 1.25, "lr": 1e-3, "note": None})
    assert reader.read(f"  {line}") == {"step": 5, "loss": 2.5, "val_bpb": 1.25}
    assert reader.json.lines == 1
    assert math.isnan(reader.read('{"loss": NaN}')["loss"])
    assert reader.read('{"loss": "1,234.5"}') == {"loss": 1234.5}


@pytest.mark.parametrize(
    ("content", "record"),
    [
        ({"step": 5, "loss": 2.5, "val_loss": None}, {"step": 5, "loss": 2.5}),
        ({"step": 5, "loss": None, "val_loss": None}, {"step": 5, "loss": None, "val_loss": None}),
        ({"step": 5, "val_loss": None}, {"step": 5, "val_loss": None}),
        ({"step": 5, "tokens": None}, {"step": 5}),
    ],
)
def test_null_is_not_known_but_where_no_loss_of_the_line_is_a_number(content, record):
    """Some write null for what is NaN: then the loss before it is not the last."""
    assert OutputReader([]).read(json.dumps(content)) == record


@pytest.mark.parametrize("value", ["true", "[1]", '{"a": 1}', '"12%"', "1" + "0" * 400])
def test_json_values_that_are_no_numbers_are_refused(value):
    reader = OutputReader([])
    assert reader.read(f'{{"loss": {value}}}') == {"loss": None}
    assert "loss" in reader.refused


@pytest.mark.parametrize(
    "line", ["{", "{}", "{'loss': 2.5}", "[1]", "{" * 5000, '{"a":' * 5000, '{"lr": 1}', "{1}"]
)
def test_what_is_no_json_of_ours_reads_nothing(line):
    reader = OutputReader([])
    assert reader.read(line) == {}
    assert reader.json.lines == 0


def test_dicts_as_python_prints_them_take_a_pattern():
    reader = OutputReader([r"'loss': (?P<loss>[^,}]+)"])
    assert reader.read("{'loss': 2.5, 'learning_rate': 5e-05}") == {"loss": 2.5}


# --- Patterns ------------------------------------------------------------------------------------


def test_good_patterns_have_nothing_wrong():
    for name in GROUPS:
        assert why_no_pattern(rf"{name}=(?P<{name}>\S+)", []) is None
    assert why_no_pattern(r"bpb: (?P<val_bpb>\S+)", ["val_bpb"]) is None
    assert why_no_expression("^trial") is None


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("loss (", "no regular expression of Python: missing ), unterminated subpattern at"),
        ("(?P<loss>a{99999999999999999999})", "no regular expression of Python"),
        (r"loss (\S+)", "no named group"),
        (r"(?P<loss>\S*)", "matches the empty text"),
        (r"(?P<val_los>\S+)", "called 'val_los'. Did you mean 'val_loss'? Known: bits_per_byte, "),
        (r"(?P<accuracy>\S+)", "`metrics: {accuracy: {better: lower}}`"),
        *(
            (rf"(?P<{name}>\d+)", f"is read as `step`: (?P<step>...), not (?P<{name}>...)")
            for name in ("epoch", "iter", "iteration")
        ),
        (r"(?P<val_bbp>\S+)", "Did you mean 'val_bpb'?"),
    ],
)
def test_what_is_wrong_with_a_pattern_is_said(pattern, told):
    why = why_no_pattern(pattern, ["val_bpb"])
    assert why is not None
    assert told in why
