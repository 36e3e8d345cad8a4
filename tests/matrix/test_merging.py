"""Anchors repeat a value, and `<<` merges mappings, with each mistake where it is written."""

import pytest

from bench.matrix.yamlfile import read_yaml
from tests.builders.matrices import MINIMAL, load, refusal

PAIR = """\
models:
  tiny: &tiny {base: nanogpt, n_embd: 8, n_layer: 1, n_head: 2}
  tiny2:
    <<: *tiny
    n_layer: 2
"""


def data_of(tmp_path, text):
    file = tmp_path / "any.yaml"
    file.write_text(text)
    document = read_yaml(file)
    assert document.mistakes == ()
    return document.data


def test_a_variant_may_be_another_one_with_a_change(tmp_path):
    text = MINIMAL.replace("[nanogpt]", "[tiny, tiny2]") + PAIR
    one, two = (cell.spec.model.options for cell in load(tmp_path, text).cells)
    assert (one.n_embd, one.n_layer) == (8, 1)
    assert (two.n_embd, two.n_layer) == (8, 2)


@pytest.mark.parametrize("shared", ["{base: nanogpt, n_embd: 8}", "{n_embd: 9, n_layer: ~}"])
def test_what_is_shared_at_the_top_means_nothing_itself(tmp_path, shared):
    text = MINIMAL.replace("[nanogpt]", "[mine]")
    (alone,) = load(tmp_path, f"{text}models: {{mine: {{base: nanogpt, n_embd: 8}}}}\n").cells
    variant = "{<<: *common, base: nanogpt, n_embd: 8, n_layer: 4}"
    merged = f"x-common: &common {shared}\nx-: [~]\n{text}models: {{mine: {variant}}}\n"
    (cell,) = load(tmp_path, merged).cells
    assert cell.spec.run_id == alone.spec.run_id


@pytest.mark.parametrize(
    ("merging", "found"),
    [
        ("{<<: *a}", {"x": 1, "y": 2}),
        ("{<<: *a, y: 3}", {"x": 1, "y": 3}),
        ("{y: 3, <<: *a}", {"x": 1, "y": 3}),
        ("{<<: [*a, *b]}", {"x": 1, "y": 2, "z": 9}),
        ("{<<: [*b, *a]}", {"x": 8, "y": 2, "z": 9}),
        ("{<<: [*b, *a], z: 0}", {"x": 8, "y": 2, "z": 0}),
        ("{<<: []}", {}),
        ("{<<: {x: 5, <<: *a}}", {"x": 5, "y": 2}),
        ("{<<: *c}", {"x": 8, "z": 7}),
        ("{a: <<}", {"a": "<<"}),
    ],
)
def test_what_stands_in_a_mapping_wins_and_then_what_is_merged_first(tmp_path, merging, found):
    text = f"a: &a {{x: 1, y: 2}}\nb: &b {{x: 8, z: 9}}\nc: &c {{<<: *b, z: 7}}\nd: {merging}\n"
    assert data_of(tmp_path, text)["d"] == found


def test_a_mistake_of_a_merged_value_is_at_its_own_line(tmp_path):
    text = MINIMAL + PAIR.replace("n_embd: 8", "n_embd: 0")
    error = refusal(tmp_path, text)
    assert [(mistake.line, mistake.where) for mistake in error.mistakes] == [
        (4, "models.tiny.n_embd"),
        (4, "models.tiny2.n_embd"),
    ]
    error = refusal(tmp_path, MINIMAL + PAIR.replace("n_layer: 2", "n_layer: 0"))
    assert [(mistake.line, mistake.where) for mistake in error.mistakes] == [
        (7, "models.tiny2.n_layer")
    ]


def test_a_key_that_is_none_is_told_once_where_it_stands(tmp_path):
    error = refusal(tmp_path, MINIMAL + PAIR.replace("n_head: 2", "n_head: 2, 1: x"))
    assert [(mistake.line, mistake.where) for mistake in error.mistakes] == [(4, "models.tiny.1")]


@pytest.mark.parametrize(
    "bomb",
    [
        "&a {<<: *a, x: 1}",
        "&a {<<: [*a, *a], x: 1}",
        "\n"
        + "\n".join(
            f"  k{n}: &k{n} {{<<: [{', '.join([f'*k{n - 1}'] * 10) if n else '{x: 1}'}]}}"
            for n in range(7)
        ),
    ],
    ids=["itself", "itself twice", "tens"],
)
def test_merges_that_multiply_are_refused(tmp_path, bomb):
    error = refusal(tmp_path, f"{MINIMAL}models: {bomb}\n")
    assert "expands to more than 100,000 values or 50 levels" in str(error)
