"""Numbers are read as YAML 1.2 reads them; what only looks like one is told with a remedy."""

import math
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import MatrixError
from bench.matrix.expansion import Matrix, load_matrix
from tests.builders.matrices import MINIMAL, load, refusal

ARM = "matrix: {{model: [{model}], optimizer: [{optimizer}], device: [cpu], seed: [7]}}\n"
CLASS = "optimizers:\n  mine:\n    class: torch.optim.Any\n"
OWN = f"name: small\n{ARM.format(model='nanogpt', optimizer='mine')}{CLASS}"

# --- What YAML 1.2 says -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("007", 7),
        ("-08", -8),
        ("+5", 5),
        ("0o10", 8),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("1e-3", 0.001),
        ("1.E+3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("010.5", 10.5),
        ("'1:30 pm'", "1:30 pm"),
        ("'1:30'", "1:30"),
        ("2024-05-01", "2024-05-01"),
        ("2024-05-01 10:00:00", "2024-05-01 10:00:00"),
        ("=", "="),
        ("'nan'", "nan"),
        ("'inf'", "inf"),
        ("'none'", "none"),
        ("'n'", "n"),
        ("'No'", "No"),
        ("'$x'", "$x"),
        ("'1d-3'", "1d-3"),
        ("'0.9 0.95'", "0.9 0.95"),
        ('""', ""),
        ("1k", "1k"),
        ("3d", "3d"),
        ("1d3", "1d3"),
        ("nano", "nano"),
        ("[010, 1, 10]", [10, 1, 10]),
        ("cosine", "cosine"),
        ("bfloat16", "bfloat16"),
        ("1d", "1d"),
        ("7b", "7b"),
        ("16f", "16f"),
        ("'no'", "no"),
        ("'0,1'", "0,1"),
        ("'128 256'", "128 256"),
        ("'10%'", "10%"),
        ("'0, 1, 2'", "0, 1, 2"),
        ("2.1.0", "2.1.0"),
        ("null", None),
        ("~", None),
        ("TRUE", True),
    ],
)
def test_an_argument_of_a_class_is_what_yaml_1_2_says(tmp_path, text, value):
    (cell,) = load(tmp_path, f"{OWN}    x: {text}\n").cells
    found = cell.spec.optimizer.options.settings["x"]
    assert (found, type(found)) == (value, type(value))


def test_whole_numbers_of_a_section_have_no_octal(tmp_path):
    text = MINIMAL.replace("[7]", "[007, 010, 012]") + "train: {steps: 0100, batch_size: 016}\n"
    cells = load(tmp_path, text).cells
    assert [cell.spec.seed for cell in cells] == [7, 10, 12]
    assert {(cell.spec.train.steps, cell.spec.train.batch_size) for cell in cells} == {(100, 16)}


@pytest.mark.parametrize("name", ["1e-3", "3E4", "nan", "2024-05-01", "1_000", "'20240501'", "off"])
def test_a_name_may_be_written_like_a_number_that_yaml_1_1_took_for_text(tmp_path, name):
    text = f"name: {name}\n{ARM.format(model='nanogpt', optimizer=name)}"
    text += f"optimizers: {{{name}: {{base: adamw, lr: 1e-4}}}}\n"
    text += f"claim: {{baseline: {{model: nanogpt, optimizer: {name}}}, margin: 1e-2,\n"
    text += "        metric: perplexity}\n"
    matrix = load(tmp_path, text)
    assert {matrix.name, matrix.cells[0].spec.optimizer.name} == {name.strip("'")}
    assert matrix.cells[0].spec.optimizer.options.lr == 0.0001


@pytest.mark.parametrize("name", ["20240501", "0x1F", "1.5", "true", "~"])
def test_a_name_that_is_none_to_yaml_is_told_with_quotes(tmp_path, name):
    text = f"{MINIMAL}optimizers: {{{name}: {{base: adamw, lr: 0.1}}}}\n"
    (mistake,) = refusal(tmp_path, text).mistakes
    assert (mistake.line, mistake.where) == (3, f"optimizers.{name}")
    assert "not text. Put it in quotes." in mistake.what


# --- Slips --------------------------------------------------------------------------------------

SLIPS = [
    ("(0.9, 0.95)", "'(0.9, 0.95)' is text. Write [0.9, 0.95]."),
    ("0.9, 0.95", "Write [0.9, 0.95], or put it in quotes"),
    ("(0.9)", "Write 0.9."),
    ("(0.9,)", "Write [0.9]."),
    ("0,001", "'0,001' is text. Write 0.001, or put it in quotes to keep the text."),
    ("1,000", "Write 1000 or 1.000, or put it in quotes"),
    ("1,000,000.5", "Write 1000000.5, or put"),
    ("1 000", "Write 1000, or put"),
    ("1e−3", "'1e−3' is text. Write 1e-3."),
    ("–5", "Write -5."),
    ("", "has no value. Write one; null is Python's None."),
    ("10**-3", "Write 0.001."),
    ("10^-3", "Write 0.001."),
    ("2 * 64", "Write 128, or put"),
    ("1_0.5", "Write 10.5."),
    ("0b101", "Write 5."),
    ("0x1_0", "Write 0x10."),
    ("-0x10", "Write -16."),
    ("0.1f", "Write 0.1."),
    ("10%", "Write 0.1, or put"),
    ("'1e-3 '", "Write 1e-3."),
    ("'0.1'", "'0.1' is text. Write it without quotes: 0.1."),
    ("٣", "Write 3."),
    ("1:30.5", "'1:30.5' is text. Write 90.5, or put it in quotes to keep the text."),
    ("1/4", "Write 0.25, or put it in quotes"),
    ("no", "'no' is text. Write false, or put it in quotes to keep the text."),
    ("On", "Write true, or put it in quotes"),
    (".inf", "inf cannot be an argument."),
    ("None", "'None' is text. Write null."),
    ("'None'", "'None' is text. Write null."),
    ("none", "Write null, or put it in quotes"),
    ("Nil", "Write null, or put it in quotes"),
    ("'False'", "'False' is text. Write it without quotes: false."),
    ("'true'", "'true' is text. Write it without quotes: true."),
    ("'TRUE'", "Write it without quotes: true."),
    ("tRUE", "'tRUE' is text. Write true."),
    ("'False,'", "'False,' is text. Write false."),
    ("'None,'", "Write null."),
    ("true;", "'true;' is text. Write true."),
    ("y", "Write true, or put it in quotes"),
    ("N", "Write false, or put it in quotes"),
    ("no;", "'no;' is text. Write false, or put it in quotes"),
    ("1e-3;", "'1e-3;' is text. Write 1e-3."),
    ("'1e-3,'", "Write 1e-3."),
    ("1 e-8", "'1 e-8' is text. Write 1e-8."),
    ("3 e− 4", "Write 3e-4."),
    ("= 1e-3", "Write 1e-3."),
    ("=5", "Write 5."),
    ("1*10^-3", "Write 0.001."),
    ("3 × 10**-4", "Write 0.0003."),
    ("1d-3", "Write 1e-3, or put it in quotes"),
    ("1e-3#note", "Write 1e-3 with a space before the #, or put"),
    ("-inf", "Write a finite number, or put it in quotes"),
    ("nan", "Write a finite number, or put it in quotes"),
    ("${lr}", "Write the value itself (nothing fills it in, as Hydra would), or put"),
    ("0.9 0.95", "Write [0.9, 0.95], or put it in quotes"),
    ("0.9; 0.95", "Write [0.9, 0.95], or put it in quotes"),
    ("'[0.9, 0.95]'", "Write it without quotes: [0.9, 0.95]."),
    ("tuple(0.9, 0.95)", "Write [0.9, 0.95]."),
    ("tuple([0.9, 0.95])", "Write [0.9, 0.95]."),
]
SPACE = "    x: 1\ntune:\n  trials: 2\n  seeds: [8]\n  space:\n    x:\n    - 1\n    - "
SPACE_OF_X = f"{OWN}    x: 1\ntune:\n  trials: 2\n  seeds: [8]\n  space:\n    x: "
PLACES = {  # up to the value
    "optimizers.mine.x": f"{OWN}    y: 1\n    x: ",
    "optimizers.mine.x[1]": f"{OWN}    x:\n    - 1\n    - ",
    "optimizers.mine.groups.other.x": f"{OWN}    groups:\n      other:\n        x: ",
    "models.mine.x": f"{MINIMAL}models:\n  mine:\n    class: a.B\n    x: ",
    "tune.space.x[1]": f"{OWN}{SPACE}",
}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(("text", "says"), SLIPS, ids=[text for text, _ in SLIPS])
def test_an_argument_that_can_only_be_a_slip_is_told_before_anything_runs(
    tmp_path, where, text, says
):
    before = PLACES[where]
    (mistake,) = refusal(tmp_path, f"{before}{text}\n").mistakes
    assert (mistake.line, mistake.where) == (before.count("\n") + 1, where)
    assert says in mistake.what


def test_what_braces_tore_apart_at_a_comma_is_told(tmp_path):
    text = OWN.replace("\n    class: torch.optim.Any", " {class: a.B, betas: (0.9, 0.95)}")
    one, other = refusal(tmp_path, text).mistakes
    assert (one.line, one.where, other.where) == (
        4,
        "optimizers.mine.0.95)",
        "optimizers.mine.betas",
    )
    assert "in {...} a comma ends the one before. Write a list as [0.9, 0.95]" in one.what
    assert other.what == "'(0.9' is text. Write a list in square brackets, such as [0.9, 0.95]."


@pytest.mark.parametrize(
    ("where", "before"),
    [
        ("optimizers.mine.x", f"{OWN}    x: "),
        ("tune.space.x", SPACE_OF_X),
    ],
)
def test_decimal_commas_in_a_list_are_told_by_their_zeros(tmp_path, where, before):
    found = refusal(tmp_path, f"{before}[0,001, 1,05, 7]\n").mistakes
    assert [(each.where, each.what) for each in found] == [
        (f"{where}[{index}]", f"{text} has a zero in front: a decimal comma? Write {right}.")
        for index, text, right in (
            (1, "001", "0.001, or 1 for the whole number"),
            (3, "05", "1.05, or 5 for the whole number"),
        )
    ]


@pytest.mark.parametrize(
    ("values", "at", "what"),
    [
        ("[0,5, 0,1]", 2, "0 is"),
        ("[8, 16, 8]", 2, "8 is"),
    ],
)
def test_a_whole_number_that_is_tried_twice_is_told(tmp_path, values, at, what):
    (mistake,) = refusal(tmp_path, f"{SPACE_OF_X}{values}\n").mistakes
    assert mistake.where == f"tune.space.x[{at}]"
    assert mistake.what.startswith(f"{what} listed twice. Remove one;")


@pytest.mark.parametrize("key", ["weight-decay", "1st", "'a b'"])
def test_an_argument_has_a_name_that_a_call_can_have(tmp_path, key):
    (mistake,) = refusal(tmp_path, f"{OWN}    {key}: 1\n").mistakes
    assert (mistake.line, mistake.where) == (6, f"optimizers.mine.{key.strip(chr(39))}")
    assert "cannot be an argument's name. Use letters, digits and '_'." in mistake.what


# --- Whatever is written ------------------------------------------------------------------------

DIGITS = st.text("0123456789", min_size=1, max_size=4)
PARTS = st.sampled_from(
    [*"0123456789"] * 2 + [*"+-._,:eExXobBfF%*/^()[]'\" \u2212\u2013٣½", "**", "e-", "0x"]
)
BUILT = st.lists(PARTS, min_size=1, max_size=7).map("".join)
SHAPED = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "", "-", "+", "\u2212", "(", "'", '"', "0x", "0o", "0b"]),
    DIGITS,
    st.sampled_from(
        ["", ".", ",", "_", ":", " ", "e", "e-", "E+", "**", "/", "e\u2212", ", ", "'"]
    ),
    DIGITS,
    st.sampled_from(["", "", "e-3", "f", "%", ")", "'", '"', " ms", ".5", "_0", ",5"]),
)
# YAML 1.2.2, section 10.3.2, but for what is not finite.
WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
NUMBER = re.compile(rf"{WHOLE.pattern}|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NUMERIC = {
    "train.steps": f"{MINIMAL}train:\n  steps: ",
    "limits.timeout_s": f"{MINIMAL}limits:\n  timeout_s: ",
    "optimizers.mine.x": PLACES["optimizers.mine.x"],
    "optimizers.mine.groups.other.x": PLACES["optimizers.mine.groups.other.x"],
}
REMEDY = re.compile(r"Write (?:it without quotes: )?(\[.*?\]|[^ ,]+?)(?:\.$| or |, or )")
OF_RANGE = re.compile(r"should be (greater|less)|is not a whole number\. Write|cannot be read as")


def value_in(matrix: Matrix, where: str) -> object:
    (cell,) = matrix.cells
    if where == "train.steps":
        return cell.spec.train.steps
    if where == "limits.timeout_s":
        return cell.limits.timeout_s
    options = cell.spec.optimizer.options
    settings = options.groups["other"]["settings"] if "groups" in where else options.settings
    return settings["x"]


def oracle(text: str) -> int | float:
    if not WHOLE.fullmatch(text):
        return float(text)
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def outcome(file: Path, where: str, text: str, followed: bool = False) -> str:
    """What became of a scalar; the assertions are on what a person sees."""
    file.unlink(missing_ok=True)
    file.write_text(f"{NUMERIC[where]}{text}\n")
    try:
        value = value_in(load_matrix(file), where)
    except MatrixError as error:
        return refused(file, where, text, error, followed)
    text = text.strip()
    if NUMBER.fullmatch(text):
        assert value == oracle(text)
        return "number"
    assert where.startswith("optimizers.")  # nothing but a number is one of ours
    assert not isinstance(value, int | float) or isinstance(value, bool)
    assert not reads_as_finite(value)
    return "text"


def refused(file: Path, where: str, text: str, error: MatrixError, followed: bool) -> str:
    mistake = error.mistakes[0]
    if "this is not YAML" in mistake.what:
        return "no YAML"
    line = NUMERIC[where].count("\n") + 1
    assert all(each.line == line and each.where.startswith(where) for each in error.mistakes)
    if len(error.mistakes) > 1 or mistake.where != where:  # a list of several
        return "refused"
    if NUMBER.fullmatch(text.strip()):
        in_range = reads_as_finite(text) and abs(float(text)) < 1e8
        assert OF_RANGE.search(mistake.what) or not in_range, mistake.what
        return "out of range"
    if (found := REMEDY.search(mistake.what)) and not followed:
        outcome(file, where, found[1], followed=True)
        return "slip"
    assert mistake.what.endswith(".")
    assert not followed or OF_RANGE.search(mistake.what), (text, mistake.what)
    return "refused"


def reads_as_finite(value: object) -> bool:
    """Whether Python would take a text for a number, as many classes do."""
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


@pytest.mark.parametrize("where", NUMERIC)
@pytest.mark.parametrize("examples", [150, pytest.param(5_000, marks=pytest.mark.slow)])
def test_whatever_stands_for_a_number_is_yaml_1_2_or_told_with_a_remedy_that_works(
    tmp_path, where, examples
):
    seen: Counter[str] = Counter()

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(text=SHAPED | BUILT)
    def check(text: str) -> None:
        seen[outcome(tmp_path / "any.yaml", where, text)] += 1

    check()
    assert seen["number"] + seen["out of range"] > examples / 40
    assert seen["slip"] > examples / 40
