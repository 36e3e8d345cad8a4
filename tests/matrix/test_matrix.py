"""Matrices that are wrong say so, all at once; matrices that are right give cells in order."""

import copy
import dataclasses
import json
import math
import re
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import bench
from bench.border.options import (
    MODEL_OPTIONS,
    OPTIMIZER_OPTIONS,
    AdamWOptions,
    EvalOptions,
    Limits,
    NanoKimiOptions,
    TrainOptions,
)
from bench.errors import BenchError, MatrixError, RequestError
from bench.matrix.expansion import Matrix, load_matrix
from bench.matrix.forms import json_schema
from bench.matrix.selection import axis_values, select
from bench.matrix.yamlfile import read_yaml
from bench.records.cells import Cell

SHIPPED = sorted((Path(bench.__file__).parent / "matrix").glob("*.yaml"))
ON_A_GPU = sorted((Path(__file__).parents[1] / "gpu").glob("*.yaml"))

# Every section once; the tests below break one line of it at a time.
SOUND = """\
name: trial
data: {corpus: input.txt}
train: {steps: 100, threads: 2}
eval: {every: 10}
matrix:
  model: [nanogpt, nanokimi]
  optimizer: [adamw, truemuon]
  device: [cpu]
  seed: [1, 2, 3]
exclude:
  - {model: nanogpt, seed: 3}
include:
  - {model: nanokimi-8, optimizer: adamw, device: cpu, seed: 4}
models:
  nanokimi-8: {base: nanokimi, n_experts: 8}
optimizers:
  slow: {base: adamw, lr: 3.0e-4}
limits: {timeout_s: 60, cpus: 2}
claim:
  baseline: {model: nanogpt, optimizer: adamw}
  metric: val_loss_final
  margin: 0.01
"""
END = SOUND.count("\n") + 1  # the line of what is appended

MINIMAL = """\
name: small
matrix: {model: [nanogpt], optimizer: [adamw], device: [cpu], seed: [7]}
"""


def load(folder: Path, text: str | bytes) -> Matrix:
    file = folder / "matrix.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_matrix(file)


def refusal(folder: Path, text: str | bytes) -> MatrixError:
    with pytest.raises(MatrixError) as caught:
        load(folder, text)
    return caught.value


def broken(old: str, new: str, source: str = SOUND) -> str:
    assert source.count(old) == 1, f"{old!r} is not one place of the sound matrix"
    return source.replace(old, new)


def cells_of(matrix: Matrix) -> list[tuple[str, str, str, int]]:
    return [
        (spec.model.name, spec.optimizer.name, spec.device, spec.seed)
        for spec in (cell.spec for cell in matrix.cells)
    ]


# --- One mistake --------------------------------------------------------------------------------

ONE_MISTAKE = {
    "misspelt key": (
        broken("steps: 100", "step: 100"),
        3,
        "train.step",
        "unknown key. Did you mean 'steps'? Allowed: batch_size, block_size, clip_norm, ",
    ),
    "misspelt section": (
        broken("limits:", "limit:"),
        18,
        "limit",
        "unknown key. Did you mean 'limits'? Allowed: claim, data, ",
    ),
    "misspelt axis": (
        broken("  device: [cpu]", "  device: [cpu]\n  seeds: [1]"),
        9,
        "matrix.seeds",
        "unknown key. Did you mean 'seed'? Allowed: device, model, optimizer, seed.",
    ),
    "misspelt setting of a variant": (
        broken("n_experts: 8", "n_expert: 8"),
        15,
        "models.nanokimi-8.n_expert",
        "unknown key. Did you mean 'n_experts'? Allowed: attention_scale, aux_coefficient, ",
    ),
    "misspelt key of a claim": (
        broken("  margin: 0.01", "  margin: 0.01\n  metrics: perplexity"),
        23,
        "claim.metrics",
        "unknown key. Did you mean 'metric'? Allowed: baseline, margin, metric, target.",
    ),
    "duplicate key": (
        broken("threads: 2}", "threads: 2,\n  steps: 5}"),
        4,
        "train.steps",
        "is set twice, first in line 3",
    ),
    "duplicate section": (SOUND + "name: other\n", END, "name", "is set twice, first in line 1"),
    "unknown model": (
        broken("  model: [nanogpt, nanokimi]", "  model:\n    - nanogpt\n    - nanokimo"),
        8,
        "matrix.model[1]",
        "nothing defines 'nanokimo'. Did you mean 'nanokimi'? Allowed: nanogpt, nanokimi, ",
    ),
    "unknown optimizer": (
        broken("truemuon]", "truemuo]"),
        7,
        "matrix.optimizer[1]",
        "nothing defines 'truemuo'. Did you mean 'truemuon'? Allowed: adamw, muon, "
        "muon-rms, muonclip, sgd, slow, truemuon.",
    ),
    "unknown device": (
        broken("[cpu]", "[gpu]"),
        8,
        "matrix.device[0]",
        "'gpu' is not allowed. Did you mean 'cpu'? Allowed: cpu, cuda.",
    ),
    "unknown model of an exclude": (
        broken("{model: nanogpt, seed: 3}", "{model: nanogtp, seed: 3}"),
        11,
        "exclude[0].model",
        "nothing defines 'nanogtp'. Did you mean 'nanogpt'?",
    ),
    "unknown model of an include": (
        broken("{model: nanokimi-8,", "{model: nanokimi-9,"),
        13,
        "include[0].model",
        "nothing defines 'nanokimi-9'. Did you mean 'nanokimi-8'?",
    ),
    "unknown model of a claim": (
        broken("baseline: {model: nanogpt", "baseline: {model: gpt"),
        20,
        "claim.baseline.model",
        "nothing defines 'gpt'. Did you mean 'nanogpt'?",
    ),
    "number that YAML reads as text": (
        broken("3.0e-4", "3e-4"),
        17,
        "optimizers.slow.lr",
        "'3e-4' is text to YAML, which wants a point and a sign. Write 3.0e-4.",
    ),
    "number without a sign in its exponent": (
        broken("3.0e-4", "3.0e4"),
        17,
        "optimizers.slow.lr",
        "Write 3.0e+4.",
    ),
    "seed that is text": (
        broken("[1, 2, 3]", '[1, "2", 3]'),
        9,
        "matrix.seed[1]",
        "'2' is text, not a whole number. Write it without quotes: 2.",
    ),
    "seed that is a word": (
        broken("[1, 2, 3]", "[1, two, 3]"),
        9,
        "matrix.seed[1]",
        "'two' is not a whole number.",
    ),
    "seed that is true": (
        broken("[1, 2, 3]", "[1, 2, true]"),
        9,
        "matrix.seed[2]",
        "True is not a whole number.",
    ),
    "seed that is yes": (  # text, as in YAML 1.2
        broken("[1, 2, 3]", "[1, 2, yes]"),
        9,
        "matrix.seed[2]",
        "'yes' is not a whole number.",
    ),
    "steps with a fraction": (
        broken("steps: 100", "steps: 100.5"),
        3,
        "train.steps",
        "100.5 is not a whole number.",
    ),
    "empty axis": (
        broken("[cpu]", "[]"),
        8,
        "matrix.device",
        "is empty. Give at least one value.",
    ),
    "value listed twice": (
        broken("[1, 2, 3]", "[1, 2, 3, 2]"),
        9,
        "matrix.seed[3]",
        "2 is listed twice. Remove one.",
    ),
    "exclude that matches nothing": (
        broken("seed: 3}", "seed: 9}"),
        11,
        "exclude[0]",
        "matches no cell of the matrix. Correct or remove it.",
    ),
    "excludes that leave nothing": (
        broken("  - {model: nanogpt, seed: 3}", "  - {device: cpu}")
        .replace("include:\n  - {model: nanokimi-8, optimizer: adamw, device: cpu, seed: 4}\n", "")
        .partition("claim:")[0],
        10,
        "exclude",
        "leaves no cell at all.",
    ),
    "name that is missing": (broken("name: trial\n", ""), 1, "name", "is required."),
    "axis that is missing": (broken("  device: [cpu]\n", ""), 5, "matrix.device", "is required."),
    "key of an include that is missing": (
        broken(", seed: 4}", "}"),
        13,
        "include[0].seed",
        "is required.",
    ),
    "section that is a word": (
        broken("{every: 10}", "often"),
        4,
        "eval",
        "'often' is not a mapping. Write {key: value}.",
    ),
    "axis that is no list": (
        broken("[cpu]", "cpu"),
        8,
        "matrix.device",
        "'cpu' is not a list. Write [value, value].",
    ),
    "variants that are a list": (
        broken("  slow: {base: adamw, lr: 3.0e-4}", "  - {base: adamw, lr: 3.0e-4}"),
        16,
        "optimizers",
        "is not a mapping. Write {key: value}.",
    ),
    "variant without a base": (
        broken("{base: adamw, lr: 3.0e-4}", "{lr: 3.0e-4}"),
        17,
        "optimizers.slow",
        "needs `base`, the built-in that it varies, or `class`, one of your own.",
    ),
    "variant of an unknown base": (
        broken("{base: adamw, lr", "{base: adam, lr"),
        17,
        "optimizers.slow",
        "base 'adam' is not a built-in. Did you mean 'adamw'? Allowed: adamw, muon, muonclip, "
        "sgd, truemuon.",
    ),
    "variant of another variant": (
        broken("lr: 3.0e-4}", "lr: 3.0e-4}\n  slower: {base: slow, lr: 1.0e-4}"),
        18,
        "optimizers.slower",
        "base 'slow' is not a built-in. Allowed: adamw, muon, muonclip, sgd, truemuon.",
    ),
    "variant with a built-in's name": (
        broken("slow: {", "adamw: {"),
        17,
        "optimizers.adamw",
        "'adamw' is a built-in's own name. Choose another for the variant.",
    ),
    "heads that do not divide the width": (
        broken("n_experts: 8", "n_head: 5"),
        15,
        "models.nanokimi-8",
        "n_embd 64 is not a multiple of n_head 5.",
    ),
    "variant with the name of settled settings": (
        broken("slow: {", "muon-rms: {"),
        17,
        "optimizers.muon-rms",
        "'muon-rms' is a built-in's own name. Choose another for the variant.",
    ),
    "warm-up without an end": (
        broken("steps: 100", "steps: 100, warmup_steps: 100"),
        3,
        "train",
        "warmup_steps 100 leaves nothing of steps 100: give at most 99.",
    ),
    "graphs of steps whose rates change": (
        broken("steps: 100", "steps: 100, graph_steps: 10, warmup_steps: 5"),
        3,
        "train",
        "graph_steps captures learning rates with the step, and the schedule changes them: leave "
        "out graph_steps, or schedule and warmup_steps.",
    ),
    "TF32 on a CPU": (
        broken("steps: 100", "steps: 100, matmul_precision: tf32"),
        3,
        "train.matmul_precision",
        "is for device cuda, and the matrix plans cells on cpu. Leave one out.",
    ),
    "graphs on a CPU": (
        broken("steps: 100", "steps: 100, graph_steps: 10"),
        3,
        "train.graph_steps",
        "is for device cuda, and the matrix plans cells on cpu. Leave one out.",
    ),
    "graphs of steps that differ": (
        "name: graphs\ntrain: {graph_steps: 10}\n"
        "matrix: {model: [nanogpt, sparse], optimizer: [adamw], device: [cuda], seed: [1]}\n"
        "models: {sparse: {base: nanokimi, gating: topk}}\n",
        2,
        "train.graph_steps",
        "repeats one step, and those of sparse differ (top-k, pruning). Leave one of them out.",
    ),
    "decay without its schedule": (
        broken("steps: 100", "steps: 100, schedule: cosine, decay_steps: 20"),
        3,
        "train",
        "decay_steps belongs to schedule wsd, and schedule is cosine: leave it out, or give "
        "schedule wsd.",
    ),
    "wsd without its decay": (
        broken("steps: 100", "steps: 100, schedule: wsd, warmup_steps: 10"),
        3,
        "train",
        "schedule wsd needs decay_steps, the length of its decay: for instance 18, a fifth of the "
        "steps after warm-up.",
    ),
    "decay and warm-up longer than the run": (
        broken("steps: 100", "steps: 100, schedule: wsd, warmup_steps: 50, decay_steps: 51"),
        3,
        "train",
        "decay_steps 51 and warmup_steps 50 are more than steps 100: give decay_steps of at most "
        "50.",
    ),
    "minimum of a schedule that has none": (
        broken("steps: 100", "steps: 100, min_lr_share: 0.1"),
        3,
        "train",
        "min_lr_share is where a decay ends, and schedule constant has none: leave it out, or give "
        "schedule cosine or wsd.",
    ),
    "unknown schedule": (
        broken("steps: 100", "steps: 100, schedule: cosin"),
        3,
        "train.schedule",
        "'cosin' is not allowed. Did you mean 'cosine'? Allowed: constant, cosine, wsd.",
    ),
    "more experts chosen than there are": (
        broken("n_experts: 8", "n_experts: 8, gating: topk, top_k: 9"),
        15,
        "models.nanokimi-8",
        "top_k 9 is more than n_experts 8: give at most that.",
    ),
    "section with the name that pydantic gives to keys": (
        broken("name: trial", "name: trial\n'[key]': 1"),
        2,
        "[key]",
        "unknown key. Allowed: claim, data, ",
    ),
    "zero steps": (
        broken("steps: 100", "steps: 0"),
        3,
        "train.steps",
        "0: input should be greater than or equal to 1.",
    ),
    "decay of one": (
        broken("lr: 3.0e-4", "beta2: 1.0"),
        17,
        "optimizers.slow.beta2",
        "1.0: input should be less than 1.",
    ),
    "negative seed": (
        broken("[1, 2, 3]", "[1, 2, 3, -4]"),
        9,
        "matrix.seed[3]",
        "-4: input should be greater than or equal to 0.",
    ),
    "seed beyond 63 bits": (
        broken("[1, 2, 3]", f"[1, 2, 3, {2**63}]"),
        9,
        "matrix.seed[3]",
        "input should be less than 9223372036854775808.",
    ),
    "margin of zero": (
        broken("0.01", "0.0"),
        22,
        "claim.margin",
        "0.0: input should be greater than 0.",
    ),
    "nan": (
        broken("3.0e-4", ".nan"),
        17,
        "optimizers.slow.lr",
        "nan: input should be a finite number.",
    ),
    "infinity": (
        broken("timeout_s: 60", "timeout_s: .inf"),
        18,
        "limits.timeout_s",
        "inf: input should be a finite number.",
    ),
    "number too large for a float": (
        broken("timeout_s: 60", "timeout_s: 1.0e+999"),
        18,
        "limits.timeout_s",
        "inf: input should be a finite number.",
    ),
    "option that is a choice": (
        broken("every: 10", "protocol: ful"),
        4,
        "eval.protocol",
        "'ful' is not allowed. Did you mean 'full'? Allowed: full, sampled.",
    ),
    "column that cannot be claimed": (
        broken("val_loss_final", "val_los_final"),
        21,
        "claim.metric",
        "'val_los_final' is not allowed. Did you mean 'val_loss_final'? Allowed: perplexity, ",
    ),
    "fewer CPUs than threads": (
        broken("cpus: 2", "cpus: 1"),
        18,
        "limits.cpus",
        "1 is less than train.threads, 2: the threads would take turns. Give at least 2.",
    ),
    "claim about an arm that does not run": (
        broken("optimizer: adamw}\n  metric", "optimizer: slow}\n  metric"),
        20,
        "claim.baseline",
        "no cell of the matrix is this arm.",
    ),
    "cell that an include repeats": (
        broken("model: nanokimi-8, optimizer", "model: nanokimi, optimizer").replace("4}", "1}"),
        5,
        "matrix",
        "nanokimi + adamw on cpu, seed 1 is planned twice. Remove one of them.",
    ),
    "cell that a renamed variant repeats": (
        broken("{base: nanokimi, n_experts: 8}", "{base: nanokimi, n_experts: 4}").replace(
            "4}\nmodels", "1}\nmodels"
        ),
        5,
        "matrix",
        "nanokimi-8 + adamw on cpu, seed 1 is planned twice, as nanokimi + adamw on cpu, seed 1.",
    ),
    "date": (
        broken("input.txt", "2024-01-01"),
        2,
        "data.corpus",
        "!!timestamp is not allowed. Use text, numbers, lists, mappings.",
    ),
    "key that is no text": (broken("corpus: input.txt", "1: x"), 2, "data[2]", "Put it in quotes."),
    "key that calls a list text": (
        broken("corpus: input.txt", "!!str [a]: x"),
        2,
        "data[2]",
        "the key at line 2 is not text. Put it in quotes.",
    ),
    "key that YAML reads as a truth value": (
        broken("input.txt", "input.txt, true: x"),
        2,
        "data[2]",
        "the key at line 2 is not text. Put it in quotes.",
    ),
    "list that is not closed": (
        broken("[1, 2, 3]", "[1, 2, 3"),
        10,
        "",
        "this is not YAML: expected ',' or ']', but got ':'. Check indents and quotes.",
    ),
    "tab for an indent": (
        broken("  optimizer: [", "\toptimizer: ["),
        7,
        "",
        "this is not YAML: found character '\\t' that cannot start any token. Check indents",
    ),
    "alias of nothing": (
        broken("[cpu]", "*devices"),
        8,
        "",
        "this is not YAML: found undefined alias 'devices'.",
    ),
    "second document": (SOUND + "---\nname: other\n", END, "", "found another document."),
    "list of matrices": ("- name: trial\n", 1, "", "must be a mapping with `name` and `matrix`."),
    "no axes": ("name: trial\n", 1, "matrix", "is required."),
}


@pytest.mark.parametrize(
    ("text", "line", "where", "says"), ONE_MISTAKE.values(), ids=ONE_MISTAKE.keys()
)
def test_a_mistake_is_shown_once_with_file_line_and_remedy(tmp_path, text, line, where, says):
    error = refusal(tmp_path, text)
    assert [(mistake.line, mistake.where) for mistake in error.mistakes] == [(line, where)]
    assert says in error.mistakes[0].what
    shown = str(error).splitlines()
    place = f"  {tmp_path / 'matrix.yaml'}:{line}: {where + ': ' if where else ''}"
    assert shown[0] == f"1 mistake in {tmp_path / 'matrix.yaml'}; nothing was run."
    assert shown[1].startswith(place)
    assert len(shown) == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty. `name` and `matrix` are required."),
        (b"# only a remark\n", "is empty. `name` and `matrix` are required."),
        (b"name: caf\xe9\n", "is not UTF-8: byte 9 is 0xe9."),
        (b"#" * 1_000_001, "has more than 1,000,000 bytes."),
        (b"name: a\x07b\n", "this is not YAML: unacceptable character #x0007"),
        (b"data: " + b"[" * 5_000, "this is not YAML: "),
    ],
    ids=["empty", "remark", "latin-1", "too long", "bell", "brackets"],
)
def test_a_file_that_is_wrong_as_a_whole_is_named(tmp_path, content, says):
    error = refusal(tmp_path, content)
    assert f"  {tmp_path / 'matrix.yaml'}: {says}" in str(error)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MatrixError, match=r"absent.yaml: cannot be read: No such file"):
        load_matrix(tmp_path / "absent.yaml")


def test_a_folder_is_no_matrix(tmp_path):
    with pytest.raises(MatrixError, match=r"cannot be read: Is a directory"):
        load_matrix(tmp_path)


# --- Several mistakes ---------------------------------------------------------------------------


def test_all_mistakes_are_shown_in_the_order_of_their_lines(tmp_path):
    text = broken("[1, 2, 3]", "[1, two, 3]")
    text = broken("steps: 100", "step: 100", text)
    text = broken("3.0e-4", "3e-4", text)
    text = "eval: {evry: 10}\n" + broken("eval: {every: 10}\n", "", text)
    error = refusal(tmp_path, text)
    assert [(mistake.line, mistake.where) for mistake in error.mistakes] == [
        (1, "eval.evry"),
        (4, "train.step"),
        (9, "matrix.seed[1]"),
        (17, "optimizers.slow.lr"),
    ]
    assert str(error).startswith("4 mistakes in ")


def test_sections_are_checked_against_each_other_beside_a_broken_one(tmp_path):
    text = broken("every: 10", "evry: 10")
    text = broken("truemuon]", "truemuo]", text)
    text = broken("seed: 3}", "seed: 9}", text)
    error = refusal(tmp_path, text)
    found = [(mistake.line, mistake.where) for mistake in error.mistakes]
    assert found == [(4, "eval.evry"), (7, "matrix.optimizer[1]"), (11, "exclude[0]")]


def test_a_duplicate_key_does_not_hide_another_mistake(tmp_path):
    error = refusal(tmp_path, broken("steps: 100", "steps: 100, steps: 5, step: 1"))
    assert sorted(mistake.where for mistake in error.mistakes) == ["train.step", "train.steps"]


def test_a_refused_variant_is_one_mistake_wherever_it_is_named(tmp_path):
    error = refusal(tmp_path, broken("n_experts: 8", "n_experts: 0"))
    assert [mistake.where for mistake in error.mistakes] == ["models.nanokimi-8.n_experts"]


def test_every_cell_of_two_equal_variants_is_named(tmp_path):
    text = broken("[adamw, truemuon]", "[adamw, slow]").replace("3.0e-4", "1.0e-3")
    error = refusal(tmp_path, text)
    assert len(error.mistakes) == 5  # cells of nanogpt and nanokimi in three seeds, less one
    assert "nanogpt + slow on cpu, seed 1 is planned twice, as nanogpt + adamw" in str(error)


# --- Hostile files ------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["off", "'off'"])
def test_off_is_text_as_whoever_writes_it_means(tmp_path, word):
    file = tmp_path / "matrix.yaml"
    file.write_text(SOUND.replace("steps: 100", f"steps: 100, step_timing: {word}"))
    assert {cell.spec.train.step_timing for cell in load_matrix(file).cells} == {"off"}


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system"])
@pytest.mark.parametrize(
    "place", ["trial", "input.txt", "[1, 2, 3]", "3.0e-4", "{timeout_s: 60, cpus: 2}"]
)
def test_a_python_tag_is_refused_and_nothing_is_executed(tmp_path, monkeypatch, place, tag):
    calls = []
    monkeypatch.setattr("os.system", calls.append)
    error = refusal(tmp_path, broken(place, f'{tag} ["touch {tmp_path}/made"]'))
    assert f"{tag} is not allowed. Use text, numbers, lists, mappings." in str(error)
    assert calls == []
    assert not (tmp_path / "made").exists()


def test_an_alias_bomb_is_refused_within_a_little_memory(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 6)]
    tracemalloc.start()
    try:
        error = refusal(tmp_path, "\n".join(lines))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "expands to more than 100,000 values" in str(error)
    assert peak < 100e6  # all 1,000,000 of them take 500 MB


def test_axes_that_repeat_a_value_do_not_multiply_first(tmp_path):
    """A megabyte of repeated names would multiply to more cells than any memory holds."""
    text = SOUND.replace("[nanogpt, nanokimi]", str(["nanogpt"] * 40))
    text = text.replace("[adamw, truemuon]", str(["adamw"] * 40))
    text = text.replace("[cpu]", str(["cpu"] * 40))
    tracemalloc.start()
    try:
        error = refusal(tmp_path, text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "'nanogpt' is listed twice. Remove one." in str(error)
    assert peak < 3e6  # 64,000 arms take 6 MB


@pytest.mark.parametrize("name", ["exclude", "models"])
def test_a_value_that_holds_itself_is_refused(tmp_path, name):
    text = f"{MINIMAL}{name}: &self {{inner: *self}}\n"
    assert "expands to more than 100,000 values or 50 levels" in str(refusal(tmp_path, text))


def test_deep_nesting_is_refused(tmp_path):
    error = refusal(tmp_path, f"{MINIMAL}data: {'[' * 60}{']' * 60}\n")
    assert "50 levels. Write lists out" in str(error)
    assert error.mistakes[0].line == 3


@pytest.mark.parametrize(
    "name",
    ["a'; touch x", "../../x", "a/b", "..", ".hidden", "-rf", "x" * 300, "a\n", "a b", "ä", ""],
)
def test_a_name_that_could_harm_a_path_or_a_command_is_refused(tmp_path, name):
    quoted = yaml.safe_dump(name, default_style='"', width=1_000).strip()
    error = refusal(tmp_path, broken("name: trial", f"name: {quoted}"))
    assert [(mistake.line, mistake.where) for mistake in error.mistakes] == [(1, "name")]
    assert "cannot be a name. Use 1 to 64 letters, digits" in error.mistakes[0].what
    assert max(map(len, str(error).splitlines())) < 250 + len(str(tmp_path))

    error = refusal(tmp_path, f"{MINIMAL}models:\n  {quoted}: {{base: nanogpt}}\n")
    assert error.mistakes[0].line == 4
    assert "cannot be a name" in error.mistakes[0].what


@pytest.mark.parametrize(
    "value",
    [
        "!!bool maybe",
        '!!int ""',
        '!!float ""',
        "1" + ":59" * 200 + ".5",  # base 60, beyond a float
        "0x" + "f" * 5_000,  # more digits than Python prints
        "1" + ":59" * 3_000,
        "9" * 5_000,
        r'"\U00110000"',  # no character
        r'"\ud800"',  # half a character
    ],
    ids=lambda value: value[:12],
)
def test_a_value_that_python_cannot_hold_is_a_mistake(tmp_path, value):
    error = refusal(tmp_path, broken("100", value))
    assert {mistake.line for mistake in error.mistakes} <= {0, 3}
    assert str(error).encode()  # can be shown


@pytest.mark.parametrize("section", ["", "data: "])
def test_a_key_that_is_half_a_character_is_a_mistake(tmp_path, section):
    inner = r'{"\ud800": 1}' if section else r'"\ud800": 1'
    error = refusal(tmp_path, f"{MINIMAL}{section}{inner}\n")
    assert str(error).encode()


# --- Cells --------------------------------------------------------------------------------------


def test_a_minimal_matrix_has_all_defaults(tmp_path):
    matrix = load(tmp_path, MINIMAL)
    (cell,) = matrix.cells
    assert (matrix.name, matrix.text, matrix.corpus, matrix.claim) == ("small", MINIMAL, None, None)
    assert cells_of(matrix) == [("nanogpt", "adamw", "cpu", 7)]
    assert cell.spec.train == TrainOptions()
    assert cell.spec.eval == EvalOptions()
    assert cell.limits == Limits(cpus=1)
    assert cell.order_in_seed == 0


def test_what_the_file_sets_reaches_every_cell(tmp_path):
    matrix = load(tmp_path, SOUND)
    assert (matrix.name, matrix.text, matrix.corpus) == ("trial", SOUND, "input.txt")
    assert matrix.claim is not None
    assert (matrix.claim.baseline.model, matrix.claim.margin) == ("nanogpt", 0.01)
    for cell in matrix.cells:
        assert cell.spec.train == TrainOptions(steps=100, threads=2)
        assert cell.spec.eval == EvalOptions(every=10)
        assert cell.limits == Limits(timeout_s=60.0, cpus=2)


def test_variants_carry_their_settings_and_their_base(tmp_path):
    cells = load(tmp_path, SOUND.replace("[adamw, truemuon]", "[adamw, slow]")).cells
    (kimi,) = {cell.spec.model for cell in cells if cell.spec.model.name == "nanokimi-8"}
    (slow,) = {cell.spec.optimizer for cell in cells if cell.spec.optimizer.name == "slow"}
    assert (kimi.base, kimi.options) == ("nanokimi", NanoKimiOptions(n_experts=8))
    assert (slow.base, slow.options) == ("adamw", AdamWOptions(lr=3e-4))


def test_a_name_of_settled_settings_is_the_variant_that_it_stands_for(tmp_path):
    own = "optimizers: {mine: {base: muon, adjust_lr: match_rms_adamw}}\n"
    (named,) = load(tmp_path, MINIMAL.replace("adamw", "muon-rms")).cells
    (spelt,) = load(tmp_path, MINIMAL.replace("adamw", "mine") + own).cells
    assert named.spec.optimizer.name == "muon-rms"
    assert named.spec.run_id == spelt.spec.run_id
    error = refusal(tmp_path, MINIMAL.replace("[adamw]", "[muon-rms, mine]") + own)
    assert "nanogpt + mine on cpu, seed 7 is planned twice, as nanogpt + muon-rms" in str(error)


def test_a_refused_train_section_hides_no_other_mistake(tmp_path):
    text = broken("steps: 100", "steps: 100, warmup_steps: 100").replace("[cpu]", "[gpu]")
    assert {mistake.where for mistake in refusal(tmp_path, text).mistakes} >= {"matrix.device[0]"}


def test_cpus_follow_the_threads_where_they_are_not_given(tmp_path):
    (cell,) = load(tmp_path, MINIMAL + "train: {threads: 3}\n").cells
    assert cell.limits.cpus == 3


@pytest.mark.parametrize("file", ON_A_GPU, ids=lambda file: file.stem)
def test_what_runs_on_a_gpu_alone_is_sound(file):
    assert {cell.spec.device for cell in load_matrix(file).cells} == {"cuda"}


def test_cells_run_seed_by_seed_with_the_arms_rotated(tmp_path):
    matrix = load(
        tmp_path,
        "name: order\n"
        "matrix: {model: [nanogpt, nanokimi], optimizer: [adamw, truemuon], device: [cpu], "
        "seed: [5, 3]}\n",
    )
    assert cells_of(matrix) == [
        ("nanogpt", "adamw", "cpu", 5),
        ("nanogpt", "truemuon", "cpu", 5),
        ("nanokimi", "adamw", "cpu", 5),
        ("nanokimi", "truemuon", "cpu", 5),
        ("nanogpt", "truemuon", "cpu", 3),
        ("nanokimi", "adamw", "cpu", 3),
        ("nanokimi", "truemuon", "cpu", 3),
        ("nanogpt", "adamw", "cpu", 3),
    ]
    assert [cell.order_in_seed for cell in matrix.cells] == [0, 1, 2, 3] * 2


def test_over_as_many_seeds_as_arms_each_arm_takes_each_place_once(tmp_path):
    seeds = list(range(10, 18))
    matrix = load(
        tmp_path,
        "name: order\n"
        "matrix: {model: [nanogpt, nanokimi], optimizer: [adamw, truemuon], device: [cpu, cuda], "
        f"seed: {seeds}}}\n",
    )
    places = {(cell.spec.arm_id, cell.order_in_seed) for cell in matrix.cells}
    assert len(places) == 8 * 8
    assert [seed for seed, _ in groupby(cell.spec.seed for cell in matrix.cells)] == seeds


def test_excludes_come_before_includes(tmp_path):
    """An include may name a cell that an exclude has just removed: it comes back, as the last."""
    matrix = load(
        tmp_path,
        broken(
            "nanokimi-8, optimizer: adamw, device: cpu, seed: 4",
            ("nanogpt, optimizer: adamw, device: cpu, seed: 3"),
        ),
    )
    assert cells_of(matrix)[-3:] == [
        ("nanokimi", "adamw", "cpu", 3),
        ("nanokimi", "truemuon", "cpu", 3),
        ("nanogpt", "adamw", "cpu", 3),
    ]
    assert [cell.order_in_seed for cell in matrix.cells[-3:]] == [0, 1, 2]


def test_an_include_joins_its_seed(tmp_path):
    matrix = load(tmp_path, broken("cpu, seed: 4", "cpu, seed: 1"))
    assert cells_of(matrix)[4] == ("nanokimi-8", "adamw", "cpu", 1)
    assert matrix.cells[4].order_in_seed == 4
    assert [seed for seed, _ in groupby(cell.spec.seed for cell in matrix.cells)] == [1, 2, 3]


def test_an_exclude_removes_what_matches_all_its_keys(tmp_path):
    cells = cells_of(load(tmp_path, SOUND))
    assert len(cells) == 12 - 2 + 1
    assert not [cell for cell in cells if cell[0] == "nanogpt" and cell[3] == 3]
    assert len([cell for cell in cells if cell[0] == "nanogpt"]) == 4
    assert len([cell for cell in cells if cell[3] == 3]) == 2


def test_a_file_with_a_byte_order_mark_and_windows_line_ends_loads(tmp_path):
    text = b"\xef\xbb\xbf" + SOUND.replace("\n", "\r\n").encode()
    assert cells_of(load(tmp_path, text)) == cells_of(load(tmp_path, SOUND))


def test_the_original_has_40_cells():
    matrix = load_matrix(next(file for file in SHIPPED if file.name == "original.yaml"))
    assert len(matrix.cells) == 40
    assert len({cell.spec.run_id for cell in matrix.cells}) == 40
    assert len({cell.spec.arm_id for cell in matrix.cells}) == 8


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_matrix_loads_under_its_own_name(file):
    assert load_matrix(file).name == file.stem


# --- Selecting ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cells() -> tuple[Cell, ...]:
    return load_matrix(next(file for file in SHIPPED if file.name == "original.yaml")).cells


def names(cells: tuple[Cell, ...], selected: set[str]) -> list[str]:
    return [" ".join(axis_values(cell).values()) for cell in cells if cell.spec.run_id in selected]


def test_without_options_every_cell_is_selected(cells):
    assert select(cells, [], None) == {cell.spec.run_id for cell in cells}


def test_only_takes_the_cells_with_a_value(cells):
    selected = select(cells, ["seed=2"], None)
    assert len(selected) == 8
    assert all(name.endswith(" 2") for name in names(cells, selected))


def test_several_values_of_one_key_are_alternatives_and_keys_must_all_hold(cells):
    only = ["seed=1", "model=nanokimi", "seed=3", "optimizer=adamw", "device=cpu"]
    assert sorted(names(cells, select(cells, only, None))) == [
        "nanokimi adamw cpu 1",
        "nanokimi adamw cpu 3",
    ]


def test_shards_are_consecutive_parts_that_together_are_the_matrix(cells):
    run_ids = [cell.spec.run_id for cell in cells]
    for count in range(1, len(cells) + 10):
        shards = [select(cells, [], f"{index}/{count}") for index in range(1, count + 1)]
        place = iter(run_ids)
        assert all({next(place) for _ in shard} == shard for shard in shards)
        assert next(place, None) is None
        sizes = {len(shard) for shard in shards}
        assert max(sizes) - min(sizes) <= 1


def test_a_shard_keeps_the_arms_of_a_seed_together_where_it_can(cells):
    assert select(cells, [], "2/5") == select(cells, ["seed=2"], None)


def test_only_holds_within_a_shard(cells):
    selected = select(cells, ["device=cpu"], "1/5")
    assert selected == select(cells, ["seed=1", "device=cpu"], None)


@pytest.mark.parametrize(
    ("only", "says"),
    [
        ("modle=nanogpt", "--only modle=nanogpt: no such key. Did you mean 'model'? Allowed: "),
        ("model=nanogtp", "no cell has it. Did you mean 'nanogpt'? Allowed: nanogpt, nanokimi."),
        ("seed=6", "no cell has it. Allowed: 1, 2, 3, 4, 5."),
        ("seed=01", "no cell has it."),
        ("seed", "no cell has it."),
        ("=1", "no such key."),
        ("", "no such key."),
    ],
)
def test_an_only_that_means_no_cell_is_refused(cells, only, says):
    with pytest.raises(RequestError, match=re.escape(says)):
        select(cells, [only], None)


@pytest.mark.parametrize(
    "shard",
    [
        "0/3",
        "4/3",
        "1/0",
        "-1/3",
        "1",
        "1/",
        "/3",
        "/",
        "a/b",
        "1/3/4",
        "1.0/3",
        "²/3",
        " ",
        "",
        "1/" + "9" * 5_000,
    ],
)
def test_a_shard_that_does_not_exist_is_refused(cells, shard):
    with pytest.raises(RequestError, match=r"write I/N with 1 <= I <= N, such as 2/5"):
        select(cells, [], shard)


# --- Schema -------------------------------------------------------------------------------------

SCHEMA = json_schema()
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
REMARKS = {"title", "type", "description", "default", "discriminator", "$defs", "$schema"}


def violations(value: Any, schema: dict[str, Any], where: str = "") -> Iterator[str]:
    """What of `value` the schema does not accept; knows the keywords that our schema uses."""
    wanted = schema.get("type")
    if wanted is not None and (isinstance(value, bool) or not isinstance(value, TYPES[wanted])):
        yield f"{where}: not of type {wanted}"
        return
    for keyword, limit in schema.items():
        match keyword:
            case "$ref":
                yield from violations(value, SCHEMA["$defs"][limit.rpartition("/")[2]], where)
            case "properties":
                for key in value.keys() & limit.keys():
                    yield from violations(value[key], limit[key], f"{where}.{key}")
            case "additionalProperties" if limit is False:
                unknown = value.keys() - schema["properties"].keys()
                yield from (f"{where}: unknown {key}" for key in unknown)
            case "additionalProperties" if isinstance(limit, dict):
                for key in value.keys() - schema.get("properties", {}).keys():
                    yield from violations(value[key], limit, f"{where}.{key}")
            case "propertyNames":
                for key in value:
                    yield from violations(key, limit, f"{where}.{key}")
            case "patternProperties":
                for key, form in (
                    (k, f) for k in value for p, f in limit.items() if re.search(p, k)
                ):
                    yield from violations(value[key], form, f"{where}.{key}")
            case "required":
                yield from (f"{where}: no {key}" for key in set(limit) - value.keys())
            case "items":
                for index, item in enumerate(value):
                    yield from violations(item, limit, f"{where}[{index}]")
            case "anyOf":
                if all(list(violations(value, form)) for form in limit):
                    yield f"{where}: none of the forms"
            case "oneOf":
                if sum(not list(violations(value, form)) for form in limit) != 1:
                    yield f"{where}: not exactly one of the forms"
            case _ if keyword not in REMARKS:
                if not holds(keyword, limit, value):
                    yield f"{where}: {keyword} {limit}"


def holds(keyword: str, limit: Any, value: Any) -> bool:
    match keyword:
        case "enum":
            return value in limit
        case "const":
            return value == limit
        case "pattern":
            return re.search(limit, value) is not None
        case "minLength" | "minItems" | "minProperties":
            return len(value) >= limit
        case "maxItems" | "maxProperties":
            return len(value) <= limit
        case "minimum":
            return value >= limit
        case "maximum":
            return value <= limit
        case "exclusiveMinimum":
            return value > limit
        case "exclusiveMaximum":
            return value < limit
    raise NotImplementedError(keyword)


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


# --- Any file -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Raw:
    """YAML that is put into the file as it stands."""

    text: str


TEXTS = ["nanogpt", "nanokimi", "nanogtp", "adamw", "cpu", "base", "seed", "pydoc", "3e-4", "a.b"]
TEXTS += ["", " ", "[key]", "[/red]", "a'; touch x", "../../x", "a\nb", "x" * 300, "=cmd()", "$(x)"]
TEXTS += [
    "\0",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202e",
    "\ufeff",
    "é",
    "日本",
    "😀",
    "\ud800",
]
TAGS = ["!!python/object/apply:os.system [touch x]", "!!python/name:os.system", "!x a", "!!set {a}"]
TAGS += [
    "!!binary aGk=",
    "!!int ''",
    "!!int 1_",
    "!!float x",
    "!!bool maybe",
    "!!null x",
    "!!str 1",
]
TAGS += ["!!timestamp 2001-99-99", "2001-01-01", "2001-99-99", "!!map []", "!!seq {}", "!!omap [1]"]
MARKS = [".nan", ".inf", "-.inf", "1e999", "0x_", "0b", "08", "1:60:60", "1_000", "9" * 5_000, "~"]
MARKS += [
    "&a [*a]",
    "&a x",
    "*a",
    "{<<: {a: 1}}",
    "{<<: 1}",
    "=",
    "{? [a] : b}",
    "{1: 2}",
    "{null: 1}",
]
MARKS += [
    "[" * 60 + "]" * 60,
    "{a: " * 60 + "1" + "}" * 60,
    "[" * 200,
    "'",
    '"',
    "@",
    "`",
    "%",
    "|",
]
SCALARS = st.one_of(
    st.integers(0, 9),
    st.integers() | st.sampled_from([-1, 2**63 - 1, 2**63, 2**64, 10**400]),
    st.floats(0, 1) | st.floats(),
    st.sampled_from([None, True, False]),
    st.sampled_from(TEXTS),
    st.text(max_size=8),
    st.sampled_from([*TAGS, *MARKS]).map(Raw),
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(SCALARS, SCALARS, max_size=2)
PARTS = [
    "!!int ",
    "!!str ",
    "!!float '' #",
    "!x ",
    "&a ",
    "*a",
    "<<: ",
    "? ",
    "%",
    "---\n",
    "...\n",
]
PARTS += [
    "{",
    "]",
    "}",
    '"',
    "'",
    ":",
    "\n",
    "\r",
    "\t",
    " ",
    "- ",
    "|",
    ">",
    "#",
    ",",
    "\\",
    "\\x00",
]
PARTS += [
    "\0",
    "\x1b",
    "\x85",
    "\u2028",
    "\ufeff",
    "😀",
    "~",
    ".inf",
    "=",
    "0x",
    "1:2",
    "%YAML 9.9\n---\n",
]


def flow(value: Any) -> str:
    """A value in YAML's flow style. Much faster than a dump by PyYAML, and it can be broken."""
    match value:
        case Raw(text):
            return text
        case list():
            return f"[{', '.join(map(flow, value))}]"
        case dict():
            return f"{{{', '.join(f'{flow(key)}: {flow(inner)}' for key, inner in value.items())}}}"
        case float():
            return str(value).replace("nan", ".nan").replace("inf", ".inf")
    return json.dumps(value, ensure_ascii=isinstance(value, str) and value.isascii())


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (holder, key or index) in a structure."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


INDICES = st.integers(
    0, 2**16
)  # made once: hypothesis takes longer to make a strategy than to draw


def pick(draw: st.DrawFn, options: Sequence[Any]) -> Any:
    return options[draw(INDICES) % len(options)]


def mutate(draw: st.DrawFn, content: dict[str, Any]) -> None:
    """One key or value changed, dropped, doubled, misspelt or added, wherever it is."""
    holder, key = pick(draw, list(places(content)) or [(content, "name")])
    action = pick(draw, ["change", "change", "drop", "double", "misspell", "add"])
    if action == "change":
        holder[key] = draw(VALUES)
    elif action == "drop":
        holder.pop(key, None) if isinstance(holder, dict) else holder.pop(key)
    elif isinstance(holder, list):
        holder.append(holder[key] if action == "double" else draw(VALUES))
    elif action == "double":
        holder[Raw(flow(key))] = holder.get(key)
    elif action == "misspell":
        holder[draw(SCALARS)] = holder.pop(key, None)
    else:
        holder[draw(SCALARS)] = draw(VALUES)


SECTIONS = yaml.safe_load(SOUND)
OPTIONAL = [key for key in SECTIONS if key not in ("name", "matrix", "models")]
SCRIBBLES = st.sampled_from(PARTS) | st.text(max_size=5)


@st.composite
def matrices(draw: st.DrawFn) -> bytes:
    """A part of the sound matrix with up to three mutations and up to two scribbles."""
    left_out = {pick(draw, OPTIONAL) for _ in range(12)}
    content = copy.deepcopy({key: SECTIONS[key] for key in SECTIONS if key not in left_out})
    for _ in range(pick(draw, [0, 1, 2, 3])):
        mutate(draw, content)
    end = pick(draw, ["\n", "\n", "\n", "\r\n", "\r"])
    text = "".join(f"{flow(key)}: {flow(value)}{end}" for key, value in content.items())
    for _ in range(pick(draw, [0, 0, 0, 1, 2])):
        at, cut = draw(INDICES) % (len(text) + 1), pick(draw, [0, 0, 1, 5])
        text = text[:at] + draw(SCRIBBLES) + text[at + cut :]
    text = pick(draw, ["", "", "", "\ufeff", "---\n"]) + text
    return text.encode("utf-8", "surrogatepass")


RAW_TEXT = st.lists(st.sampled_from([*PARTS, *MARKS, *TAGS]) | st.text(max_size=20), max_size=9)
RAW_FILES = RAW_TEXT.map(lambda parts: "".join(parts).encode()) | st.binary(max_size=40)
FILES = st.integers(0, 9).flatmap(lambda tenth: matrices() if tenth else RAW_FILES)


def load_any(file: Path) -> str:
    """Load one file; how it went. Whatever else than a BenchError it raises is a defect."""
    try:
        matrix = load_matrix(file)
    except BenchError as error:
        check_refusal(error)
        return "refused"
    check_matrix(matrix, file)
    return "accepted"


def check_refusal(error: BenchError) -> None:
    """A line a mistake, and nothing that commands a terminal."""
    lines = str(error).split("\n")
    assert isinstance(error, MatrixError)
    assert len(lines) == 1 + len(error.mistakes)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", "".join(lines))


def check_matrix(matrix: Matrix, file: Path) -> None:
    """Distinct cells, bounded in time, with harmless names, from a file that fits the schema."""
    specs = [cell.spec for cell in matrix.cells]
    assert 0 < len({spec.run_id for spec in specs}) == len(specs)
    assert all(math.isfinite(cell.limits.timeout_s) for cell in matrix.cells)
    names = {matrix.name, *(name for s in specs for name in (s.model.name, s.optimizer.name))}
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) for name in names)
    assert list(violations(read_yaml(file).data, SCHEMA)) == []


@pytest.mark.parametrize("examples", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_any_file_loads_or_is_refused_and_what_loads_fits_the_schema(tmp_path, examples):
    file, seen = tmp_path / "any.yaml", Counter()

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(content=FILES)
    def check(content: bytes) -> None:
        file.unlink(missing_ok=True)  # quicker: ext4 flushes a file that is truncated and rewritten
        file.write_bytes(content)
        seen[load_any(file)] += 1

    check()
    assert seen.total() >= examples
    assert min(seen["accepted"], seen["refused"]) >= examples / 10
