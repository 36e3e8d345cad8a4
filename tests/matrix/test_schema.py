"""The JSON Schema of a matrix knows what loading knows of keys, types and limits."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from bench.border.options import (
    MODEL_OPTIONS,
    OPTIMIZER_OPTIONS,
    EvalOptions,
    Limits,
    TrainOptions,
)
from bench.matrix.schema import json_schema, validated
from bench.matrix.yamlfile import read_yaml
from tests.builders.matrices import MINIMAL, SHIPPED, SOUND, broken, refusal
from tests.builders.mistakes import ONE_MISTAKE
from tests.builders.shared import ROOT

SCHEMA = json_schema()
EDITOR = Draft202012Validator(SCHEMA)
IN_DOCS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL))
    if "apiVersion:" not in block  # of Kubernetes: tests/launch/test_kubernetes.py
]
IN_FILES = [*SHIPPED, *sorted(ROOT.glob("results/*/matrix.yaml")), *ROOT.glob("tests/gpu/*.yaml")]


def read(folder: Path, text: str) -> Any:
    file = folder / "matrix.yaml"
    file.write_text(text)
    return read_yaml(file).data


def test_the_schema_is_one_of_its_own_draft():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("file", IN_FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_the_schema_accepts_every_matrix_of_the_repository(file):
    assert list(EDITOR.iter_errors(read_yaml(file).data)) == []


@pytest.mark.parametrize("block", IN_DOCS)
def test_the_schema_accepts_every_matrix_and_every_section_of_the_docs(tmp_path, block):
    content = yaml.safe_load(MINIMAL) | read(tmp_path, block)
    assert list(EDITOR.iter_errors(content)) == []
    assert validated(content)[1] == []


OWN = """\
optimizers:
  mine:
    class: torch.optim.AdamW
    betas: [0.9, 0.95]
    fused: null
    groups:
      hidden: {lr: 0.1}
      head: {base: adamw, lr: 1e-3}
      router: {class: torch.optim.SGD, lr: 0.5, leaves: matrices}
      other: {}
x-shared: [{width: &width 8, nothing: ~}]
models:
  narrow: &narrow {base: nanogpt, n_embd: *width }
  narrower: {<<: *narrow, n_embd: 4}
  brought: {class: my_package.model:build, path: ./my_package, n_layer: 3, name: text}
tune:
  trials: 4
  seeds: [7]
  space: {lr: {log: [1e-4, 1e-1]}, weight_decay: {linear: [0, 1]}, nesterov: [true, null, x, 1]}
"""


@pytest.mark.parametrize(
    "text", [SOUND, MINIMAL, MINIMAL + OWN], ids=["all sections", "minimal", "classes and merges"]
)
def test_the_schema_accepts_what_the_forms_accept(tmp_path, text):
    content = read(tmp_path, text)
    assert validated(content)[1] == []
    assert list(EDITOR.iter_errors(content)) == []


@pytest.mark.parametrize(
    "mistake",
    [
        "misspelt key",
        "misspelt section",
        "number that YAML reads as text",
        "decimal comma",
        "minutes and seconds",
        "whole number with an underscore",
        "name that is a number",
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
def test_an_editor_sees_what_the_schema_can_tell(tmp_path, mistake):
    text, *_ = ONE_MISTAKE[mistake]
    assert list(EDITOR.iter_errors(read(tmp_path, text)))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("class: torch.optim.AdamW", "class: AdamW"),
        ("hidden: {lr: 0.1}", "hiden: {lr: 0.1}"),
        ("{base: adamw, lr: 1e-3}", "{base: adam, lr: 1e-3}"),
        ("{base: adamw, lr: 1e-3}", "{base: adamw, lrr: 1e-3}"),
        ("leaves: matrices", "leaves: matrix"),
        ("narrower:", "narrow er:"),
        ("n_embd: 4", "n_embed: 4"),
        ("trials: 4", "trials: 1"),
        ("x-shared:", "xshared:"),
        ("{linear: [0, 1]}", "{line: [0, 1]}"),
        ("{linear: [0, 1]}", "{linear: [0, 1, 2]}"),
        ("{log: [1e-4, 1e-1]}", "{log: [0, 1]}"),
        ("[true, null, x, 1]", "[]"),
    ],
)
def test_an_editor_sees_what_the_forms_refuse_of_classes_and_tuning(tmp_path, right, wrong):
    content = read(tmp_path, MINIMAL + broken(right, wrong, OWN))
    assert validated(content)[1]
    assert list(EDITOR.iter_errors(content))


@pytest.mark.parametrize(
    "variant",
    [
        "{class: a.B, x: {beta1: 0.9}}",
        "{class: a.B, base: adamw}",
        "{class: a.B, groups: {other: {class: a.C, base: adamw}}}",
    ],
)
def test_an_editor_sees_what_cannot_be_an_argument(tmp_path, variant):
    text = f"{MINIMAL}optimizers:\n  mine: {variant}\n"
    assert refusal(tmp_path, text)
    assert list(EDITOR.iter_errors(read(tmp_path, text)))


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
