"""The JSON Schema of a matrix knows what loading knows of keys, types and limits."""

import dataclasses

import pytest
import yaml

from bench.border.options import (
    MODEL_OPTIONS,
    OPTIMIZER_OPTIONS,
    EvalOptions,
    Limits,
    TrainOptions,
)
from tests.builders.matrices import MINIMAL, SHIPPED, SOUND, load
from tests.builders.mistakes import ONE_MISTAKE
from tests.builders.schema import SCHEMA, violations


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_schema_accepts_every_shipped_matrix(file):
    assert list(violations(yaml.safe_load(file.read_text()), SCHEMA)) == []


@pytest.mark.parametrize("text", [SOUND, MINIMAL], ids=["all sections", "minimal"])
def test_the_schema_accepts_matrices_that_load(tmp_path, text):
    load(tmp_path, text)
    assert list(violations(yaml.safe_load(text), SCHEMA)) == []


@pytest.mark.parametrize(
    "mistake",
    [
        "misspelt key",
        "misspelt section",
        "number that YAML reads as text",
        "unknown device",
        "empty axis",
        "name that is missing",
        "axis that is missing",
        "variant without a base",
        "variant of an unknown base",
        "misspelt setting of a variant",
        "zero steps",
        "decay of one",
        "seed beyond 63 bits",
        "margin of zero",
        "option that is a choice",
    ],
)
def test_an_editor_sees_what_the_schema_can_tell(mistake):
    text, *_ = ONE_MISTAKE[mistake]
    assert list(violations(yaml.safe_load(text), SCHEMA))


@pytest.mark.parametrize(
    ("options", "form"),
    [
        (TrainOptions, "Train"),
        (EvalOptions, "Eval"),
        (Limits, "Limits"),
        *((options, f"{base}_variant") for base, options in MODEL_OPTIONS.items()),
        *((options, f"{base}_variant") for base, options in OPTIMIZER_OPTIONS.items()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_schema_names_every_option_with_its_default_and_meaning(options, form):
    properties = {
        key: of for key, of in SCHEMA["$defs"][form]["properties"].items() if key != "base"
    }
    assert {key: (of["default"], of["description"]) for key, of in properties.items()} == {
        option.name: (option.default, option.metadata["doc"])
        for option in dataclasses.fields(options)
    }
