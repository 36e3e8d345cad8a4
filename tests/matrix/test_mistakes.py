"""A matrix that is wrong says so, all at once, each mistake with its line, place and remedy."""

import os
import re
import threading

import pytest

from bench.errors import MatrixError
from bench.matrix.expansion import load_matrix
from tests.builders.matrices import SOUND, broken, load, refusal
from tests.builders.mistakes import ONE_MISTAKE

# --- One mistake --------------------------------------------------------------------------------


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


def test_a_pipe_is_read_to_its_end(tmp_path):
    """As a shell has them for `bench plan <(...)`: the other end is open before this one."""
    file, content = tmp_path / "matrix.yaml", SOUND.encode()
    os.mkfifo(file)
    handle = os.open(file, os.O_RDWR)
    os.write(handle, content[:100])

    def write_the_rest() -> None:
        os.write(handle, content[100:])
        os.close(handle)

    threading.Timer(0.5, write_the_rest).start()
    assert load_matrix(file).name == "trial"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (os.mkfifo, "is empty."),  # nobody writes to it
        (lambda file: file.symlink_to("/dev/zero"), "has more than 1,000,000 bytes."),
    ],
    ids=["pipe", "device"],
)
def test_what_never_ends_is_no_matrix(tmp_path, make, says):
    file = tmp_path / "matrix.yaml"
    make(file)
    with pytest.raises(MatrixError, match=re.escape(says)):
        load_matrix(file)


# --- Several mistakes ---------------------------------------------------------------------------


def test_all_mistakes_are_shown_in_the_order_of_their_lines(tmp_path):
    text = broken("[1, 2, 3]", "[1, two, 3]")
    text = broken("steps: 100", "step: 100", text)
    text = broken("3.0e-4", "3_0e-4", text)
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


def test_clipping_what_is_normalised_is_told_of_the_model_and_of_the_optimizer(tmp_path):
    text = broken("truemuon]", "muonclip, tight]")
    text = broken("[nanogpt, nanokimi]", "[nanogpt, modern]", text)
    text = broken("models:\n", "models:\n  modern: {base: nanokimi, qk_norm: true}\n", text)
    text = broken("optimizers:\n", "optimizers:\n  tight: {base: muonclip, tau: 3}\n", text)
    error = refusal(tmp_path, text)
    assert [(mistake.line, mistake.where) for mistake in error.mistakes] == [
        (7, "matrix.optimizer[1]"),
        (15, "models.modern.qk_norm"),
        (15, "models.modern.qk_norm"),
        (18, "optimizers.tight"),
    ]
    of_optimizer, of_model, *_ = (mistake.what for mistake in error.mistakes)
    assert "clipping would do nothing. Take muon, or exclude the two." in of_optimizer
    assert "model modern take no notice" in of_optimizer
    assert "optimizer muonclip (MuonClip) scales down: clipping would do nothing" in of_model
    apart = broken("{model: nanogpt, seed: 3}", "{model: modern, optimizer: muonclip}", text)
    apart = broken("include:", "  - {model: modern, optimizer: tight}\ninclude:", apart)
    assert load(tmp_path, apart).cells


def test_clipping_in_a_group_of_a_class_is_clipping(tmp_path):
    (tmp_path / "mine.py").write_text("class Mine: ...\n")
    group = "groups: {hidden: {base: muonclip}, other: {}}"
    text = broken(
        "slow: {base: adamw, lr: 3.0e-4}", f"slow: {{class: mine.Mine, path: ./mine.py, {group}}}"
    )
    text = broken("truemuon]", "slow]", text)
    text = broken("n_experts: 8}", "n_experts: 8, qk_norm: true}", text)
    text = broken("[nanogpt, nanokimi]", "[nanogpt, nanokimi-8]", text)
    assert [mistake.where for mistake in refusal(tmp_path, text).mistakes] == [
        "models.nanokimi-8.qk_norm",
        "optimizers.slow",
    ]


def test_a_refused_variant_is_one_mistake_wherever_it_is_named(tmp_path):
    error = refusal(tmp_path, broken("n_experts: 8", "n_experts: 0"))
    assert [mistake.where for mistake in error.mistakes] == ["models.nanokimi-8.n_experts"]


def test_every_cell_of_two_equal_variants_is_named(tmp_path):
    text = broken("[adamw, truemuon]", "[adamw, slow]").replace("3.0e-4", "1.0e-3")
    error = refusal(tmp_path, text)
    assert len(error.mistakes) == 5  # cells of nanogpt and nanokimi in three seeds, less one
    assert "nanogpt + slow on cpu, seed 1 is planned twice, as nanogpt + adamw" in str(error)
