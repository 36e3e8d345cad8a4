"""A matrix that is right gives its cells, with their settings, in the order in which they run."""

from itertools import groupby
from pathlib import Path

import pytest
import yaml

from bench.border.options import (
    AdamWOptions,
    EvalOptions,
    Limits,
    NanoKimiOptions,
    TrainOptions,
)
from bench.errors import MatrixError
from bench.matrix.expansion import load_matrix
from bench.matrix.schema import validated
from bench.records.corpora import find_corpus
from tests.builders.matrices import MINIMAL, SHIPPED, SOUND, broken, cells_of, load, refusal
from tests.builders.shared import bench

ON_A_GPU = sorted((Path(__file__).parents[1] / "gpu").glob("*.yaml"))


def test_a_minimal_matrix_has_all_defaults(tmp_path):
    matrix = load(tmp_path, MINIMAL)
    (cell,) = matrix.cells
    assert (matrix.name, matrix.text, matrix.corpus) == ("small", MINIMAL, None)
    assert validated(yaml.safe_load(MINIMAL))[0].claim is None
    assert cells_of(matrix) == [("nanogpt", "adamw", "cpu", 7)]
    assert cell.spec.train == TrainOptions()
    assert cell.spec.eval == EvalOptions()
    assert cell.limits == Limits(cpus=1)
    assert cell.order_in_seed == 0


def test_what_the_file_sets_reaches_every_cell(tmp_path):
    matrix = load(tmp_path, SOUND)
    assert (matrix.name, matrix.text, matrix.corpus) == ("trial", SOUND, "input.txt")
    claim = validated(yaml.safe_load(SOUND))[0].claim  # no cell has it: the report reads it
    assert (claim.baseline.model, claim.margin) == ("nanogpt", 0.01)
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


def test_the_name_of_a_built_ins_variant_is_the_variant_that_it_stands_for(tmp_path):
    own = "optimizers: {mine: {base: muon, adjust_lr: match_rms_adamw}}\n"
    (named,) = load(tmp_path, MINIMAL.replace("adamw", "muon-rms")).cells
    (spelt,) = load(tmp_path, MINIMAL.replace("adamw", "mine") + own).cells
    assert named.spec.optimizer.name == "muon-rms"
    assert named.spec.run_id == spelt.spec.run_id
    error = refusal(tmp_path, MINIMAL.replace("[adamw]", "[muon-rms, mine]") + own)
    assert "nanogpt + mine on cpu, seed 7 is planned twice, as nanogpt + muon-rms" in str(error)


def test_a_relative_corpus_is_beside_the_matrix_wherever_one_is(tmp_path):
    """A command is in another folder, that of the repository."""
    text = MINIMAL + "data: {corpus: texts/mine.txt}\n"
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "mine.txt").write_text("a text of some length\n" * 100)
    matrix = load(tmp_path, text)
    found = find_corpus(matrix.corpus, matrix.folder)
    assert found.ref == find_corpus(str(tmp_path / "texts" / "mine.txt")).ref
    answer = bench(
        "plan", tmp_path / "matrix.yaml", "--runtime", "local", "--out", tmp_path / "out"
    )
    assert answer.returncode == 0, answer.stderr
    assert f"corpus   {tmp_path / 'texts' / 'mine.txt'}" in answer.stdout


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


@pytest.mark.parametrize(
    ("corpus", "line", "says"),
    [
        ("absent.txt", 2, "corpus absent.txt: No such file or directory"),
        ("latin.txt", 2, "corpus latin.txt: not UTF-8, byte 3 is 0xe9."),
        ("empty.txt", 2, "corpus empty.txt: the file is empty. Give a text."),
        ("short.txt", 2, "Use a text of at least 321 characters or a smaller train.block_size"),
    ],
)
def test_a_text_that_cannot_be_used_is_told_with_the_line_that_names_it(
    tmp_path, corpus, line, says
):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text("short " * 20)
    matrix = load(tmp_path, broken("corpus: input.txt", f"corpus: {corpus}"))
    with pytest.raises(MatrixError) as caught:
        matrix.find_corpus()
    (mistake,) = caught.value.mistakes
    assert (mistake.line, mistake.where) == (line, "data.corpus")
    assert says in mistake.what


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ("[0.9]", "has too few: 1. Give at least 2."),
        ("[]", "is empty. Give at least 2 values."),
        ("[0.5, 0.3]", "sums to 0.8. Give shares that sum to 1, such as [0.8, 0.1, 0.1]."),
        ("[0.3333333, 0.3333333, 0.3333333]", "sums to 0.9999999. Give shares that sum to 1"),
    ],
)
def test_a_split_that_is_none_says_why(tmp_path, split, says):
    text = broken("corpus: input.txt", f"corpus: input.txt, split: {split}")
    (mistake,) = refusal(tmp_path, text).mistakes
    assert (mistake.line, mistake.where) == (2, "data.split")
    assert says in mistake.what


def test_a_claim_in_bytes_needs_to_know_them(tmp_path):
    for split in ("train", "val"):
        (tmp_path / f"{split}.bin").write_bytes(split.encode() * 400)
    tokens = "{tokens: {train: [train.bin], val: [val.bin]}, vocab_size: 65536}"
    text = SOUND.replace("{corpus: input.txt}", tokens).replace("val_loss_final", "bits_per_byte")
    with pytest.raises(MatrixError, match=r"no tokens.json beside its files tells it"):
        load(tmp_path, text).find_corpus()
