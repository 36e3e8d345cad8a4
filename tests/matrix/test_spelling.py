"""One value is one identity, however a matrix spells it; a class's own settings stay as written."""

import csv
import dataclasses
import hashlib
import random
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.border.options import MODEL_OPTIONS, OPTIMIZER_OPTIONS, EvalOptions, TrainOptions
from bench.border.spec import CorpusRef
from bench.errors import MatrixError
from bench.matrix.expansion import Matrix, load_matrix
from bench.records.rows import read_table
from tests.builders.options import NEEDED
from tests.builders.shared import ROOT

# --- Spellings ----------------------------------------------------------------------------------


def spellings(value: Any) -> list[str]:
    """What a person may write in YAML for a value."""
    if value is None:
        return ["null", "~", "Null", "NULL", ""]
    if isinstance(value, bool):
        word = "true" if value else "false"
        return [word, word.title(), word.upper(), f"!!bool {word}"]
    if isinstance(value, str):
        return [value, f"'{value}'", f'"{value}"', f"!!str {value}"]
    if isinstance(value, int):
        return [str(value), f"+{value}", f"!!int {value}", hex(value)]
    exact = f"{value:.17e}"  # Decimal: all its digits, and 2 for 2.0
    ways = [exact, f"+{exact}", exact.replace("e", "E"), f"{Decimal(value):f}", f"!!float {exact}"]
    return [*ways, "-0.0", "-0", ".0"] if value == 0 else ways


def values(option: "dataclasses.Field[Any]") -> st.SearchStrategy[Any]:
    """Valid values of an option, among them the ends and the whole numbers of its range."""
    if get_origin(option.type) is Literal:
        return st.sampled_from(get_args(option.type))
    if option.type is bool:
        return st.booleans()
    limits = option.metadata["limits"]
    low, high = limits.get("ge", limits.get("gt")), limits.get("lt", 64)
    if option.type is not float:
        none = [None] if type(None) in get_args(option.type) else []
        return st.sampled_from([*none, *range(low, high + 1)])
    out = {"exclude_min": "gt" in limits, "exclude_max": "lt" in limits}
    whole = range(low + out["exclude_min"], high + (not out["exclude_max"]))
    return st.floats(low, high, **out) | st.sampled_from([float(each) for each in whole] or [0.5])


OPTIONS = [
    (kind, base, option.name)
    for kind, bases in (("models", MODEL_OPTIONS), ("optimizers", OPTIMIZER_OPTIONS))
    for base, options in bases.items()
    for option in dataclasses.fields(options)
]
OPTIONS += [
    (section, "", option.name)
    for section, options in (("train", TrainOptions), ("eval", EvalOptions))
    for option in dataclasses.fields(options)
]
BESIDE = {"decay_steps": {"schedule": "wsd"}, "min_lr_share": {"schedule": "cosine"}}
MATRIX = """\
name: a
matrix: {{model: [{model}], optimizer: [{optimizer}], device: [{device}], seed: [1]}}
"""


def option_of(section: str, base: str, name: str) -> "dataclasses.Field[Any]":
    kinds: dict[str, Any] = {"train": TrainOptions, "eval": EvalOptions}
    options = kinds | MODEL_OPTIONS | OPTIMIZER_OPTIONS
    return next(each for each in dataclasses.fields(options[base or section]) if each.name == name)


def write(folder: Path, section: str, base: str, spelled: dict[str, Any]) -> Path:
    """A matrix with these settings, each as it is spelled, in any order."""
    mine = {"models": "model", "optimizers": "optimizer"}.get(section)
    names = {"model": "nanogpt", "optimizer": "adamw", "device": "cpu"}
    if spelled.keys() & {"graph_steps", "matmul_precision"}:
        names["device"] = "cuda"
    keys = [*spelled.items(), *([("base", base)] if mine else [])]
    random.Random(repr(keys)).shuffle(keys)
    form = "{" + ", ".join(f"{key}: {text}" for key, text in keys) + "}"
    if mine:
        names[mine], form = "mine", f"{{mine: {form}}}"
    file = folder / "spelled.yaml"
    file.write_text(MATRIX.format(**names) + f"{section}: {form}\n")
    return file


def run_ids(matrix: Matrix) -> list[str]:
    return [cell.spec.run_id for cell in matrix.cells]


@pytest.mark.parametrize("where", OPTIONS, ids=".".join)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_every_spelling_of_a_value_is_one_run_id(where, data, tmp_path_factory):
    section, base, name = where
    option, folder = option_of(*where), tmp_path_factory.getbasetemp()
    beside = {**NEEDED.get(name, {}), **BESIDE.get(name, {})}
    texts = spellings(data.draw(values(option)))
    found = {said_of(write(folder, section, base, {**beside, name: text})) for text in texts}
    assert len(found) == 1
    assert option.type is not float or found != {"refused"}  # other kinds may not go with the rest


def said_of(file: Path) -> str:
    """The run_id, or that there is none."""
    try:
        (run_id,) = run_ids(load_matrix(file))
    except MatrixError:
        return "refused"
    return run_id


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 0.001), ("'0.001'", 0.001), ("1", True), ("'true'", True)]
)
def test_what_may_be_another_value_is_that_value_or_refused(text, value, tmp_path):
    name = "nesterov" if value is True else "lr"
    right, found = (
        said_of(write(tmp_path, "optimizers", "sgd", {name: each})) for each in (value, text)
    )
    assert right != "refused"
    assert found in (right, "refused")


@pytest.mark.parametrize(
    ("one", "other"),
    [("[0.9, 0.1]", "[.9, 1.0e-1]"), ("[0.8, 0.1, 0.1]", "[8.0e-1, 0.10, .1]")],
)
def test_every_spelling_of_a_split_is_one_run_id(one, other, tmp_path):
    found = [
        run_ids(load_matrix(write(tmp_path, "data", "", {"split": text}))) for text in (one, other)
    ]
    assert found[0] == found[1]


# --- What is tuned ------------------------------------------------------------------------------

TUNE = "tune: {{trials: {trials}, seeds: [7], sampler: grid, space: {{{key}: [{values}]}}}}\n"


def tuned(folder: Path, key: str, texts: list[str], trials: int, optimizer: str) -> Matrix:
    file = folder / "tuned.yaml"
    names = MATRIX.format(model="nanogpt", optimizer="mine", device="cpu")
    space = TUNE.format(trials=trials, key=key, values=", ".join(texts))
    file.write_text(f"{names}optimizers: {{mine: {optimizer}}}\n{space}")
    return load_matrix(file)


def trials_of(matrix: Matrix) -> dict[str, str]:
    return {
        cell.spec.run_id: cell.tried.settings
        for cell in matrix.cells
        if cell.tried and cell.part == "trial"
    }


@pytest.mark.parametrize(
    "where", [where for where in OPTIONS if where[0] == "optimizers"], ids=".".join
)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_every_spelling_of_what_is_tried_is_one_trial(where, data, tmp_path_factory):
    folder, (_, base, name) = tmp_path_factory.getbasetemp(), where
    default = option_of(*where).default
    value = data.draw(values(option_of(*where)).filter(lambda each: each != default))
    lists = [*([text] for text in spellings(value)), spellings(value)]  # each alone, and together
    given = ", ".join(
        f"{key}: {each}" for key, each in {"base": base, **NEEDED.get(name, {})}.items()
    )
    found = [trials_of(tuned(folder, name, texts, 2, f"{{{given}}}")) for texts in lists]
    assert found == [found[0]] * len(lists)


def test_a_zero_in_a_list_is_the_zero_of_its_option(tmp_path):
    whole, fraction = (
        tuned(tmp_path, "weight_decay", texts, 2, "{base: adamw}")
        for texts in (["0", "0.01"], ["0.0", "0.01"])
    )
    assert run_ids(whole) == run_ids(fraction)
    assert list(trials_of(whole).values()) == ['{"weight_decay":0.01}', '{"weight_decay":0.0}']


# --- Classes ------------------------------------------------------------------------------------

DIFFERENT = ["1", "1.0", "true", "'a'", "[1]", "[1.0]"]


def of_class(folder: Path, spelled: str) -> str:
    file = folder / "own.yaml"
    names = MATRIX.format(model="nanogpt", optimizer="mine", device="cpu")
    file.write_text(f"{names}optimizers: {{mine: {{class: torch.optim.Any, {spelled}}}}}\n")
    (run_id,) = run_ids(load_matrix(file))
    return run_id


def test_settings_of_a_class_are_as_they_are_written(tmp_path):
    """Its constructor may tell 1 from 1.0, and nothing here knows which it wants."""
    found = {of_class(tmp_path, f"value: {text}") for text in DIFFERENT}
    assert len(found) == len(DIFFERENT)


def test_spellings_of_what_python_calls_the_same_are_one_setting_of_a_class(tmp_path):
    for same in (
        ["0.001", "1.0e-3", ".001"],
        ["'a'", '"a"', "a"],
        ["true", "True"],
        ["16", "0x10"],
    ):
        assert len({of_class(tmp_path, f"value: {text}") for text in same}) == 1


def test_what_is_tried_of_a_class_is_as_it_is_written_too(tmp_path):
    tried = tuned(tmp_path, "value", DIFFERENT, 6, "{class: torch.optim.Any, value: 1.0}")
    written = ['{"value":1.0}', '{"value":1}', '{"value":true}', '{"value":"a"}']
    assert list(trials_of(tried).values()) == [*written, '{"value":[1]}', '{"value":[1.0]}']


def test_the_order_of_a_classs_settings_and_groups_is_no_setting(tmp_path):
    one = "a: 1, b: 2, groups: {hidden: {lr: 1.0, x: 1}, head: {base: adamw}, other: {}}"
    other = "groups: {other: {}, head: {base: adamw}, hidden: {x: 1, lr: 1.0}}, b: 2, a: 1"
    found = []
    for spelled in (one, other):
        run_id = of_class(tmp_path, spelled)
        (cell,) = load_matrix(tmp_path / "own.yaml").cells
        found.append((run_id, list(cell.spec.optimizer.options.groups)))  # as they are built
    assert found[0] == found[1]


# --- What was published -------------------------------------------------------------------------

RESULTS = [plan.parent for plan in sorted((ROOT / "results").glob("*/plan.csv"))]
# Of the run_ids of our own matrices, in running order. No line ever changes while its file stays.
PLANNED = {
    "ab.yaml": (20, "303a5eb3f64d636d"),
    "calibrate.yaml": (5, "94c35dea3cacfa77"),
    "cpu.yaml": (20, "5fcde7e88dfc074d"),
    "gpu.yaml": (20, "1eb86b52b8170e72"),
    "optimizers.yaml": (250, "97fa7c2c6ba2a31d"),
    "original-sampled.yaml": (40, "60171b6b39d037c2"),
    "original.yaml": (40, "c23ab5cc56257581"),
    "tuned.yaml": (200, "5038ff0274f8535a"),
}


@pytest.mark.parametrize("results", RESULTS, ids=lambda folder: folder.name)
def test_published_run_ids_stay(results):
    with (results / "plan.csv").open(newline="") as file:
        planned = [row["run_id"] for row in csv.DictReader(file)]
    rows = read_table(results / "runs.csv")
    (sha256,) = {row["corpus_sha256"] for row in rows}
    matrix = load_matrix(results / "matrix.yaml").with_corpus(CorpusRef("text", sha256))
    assert sorted(run_ids(matrix.decided(rows))) == sorted(planned)


@pytest.mark.parametrize("name", PLANNED)
def test_run_ids_of_our_own_matrices_stay(name):
    matrix = load_matrix(ROOT / "bench" / "matrix" / name)
    found = run_ids(matrix.with_corpus(CorpusRef("text", "0" * 64)))
    total = hashlib.sha256("\n".join(found).encode()).hexdigest()[:16]
    assert (len(found), total) == PLANNED[name]
