"""Columns that the launching side adds to a worker's: bits a byte, the share of a GPU's peak."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from bench.border.program import Program
from bench.matrix.expansion import load_matrix
from bench.measure.gpus import Gpu, Gpus
from bench.records.folder import ResultsFolder
from bench.records.rows import Row
from bench.run.derived import derived_columns
from tests.builders.fake_launcher import NO_GPU, Bench, FakeLauncher

H100 = Gpus((Gpu("GPU-1", "NVIDIA H100 80GB HBM3"),), "580.1", None)
OTHER = Gpus((Gpu("GPU-1", "Stub GPU"),), "580.1", None)
MATRIX = """
name: tiny
data: {{corpus: text.txt{split}}}
train: {{steps: 4, block_size: 8, dtype: {dtype}}}
matrix: {{model: [nanogpt], optimizer: [adamw], device: [{device}], seed: [1]}}
"""
DID = {"flops_per_token": 1_000_000_000, "tokens_per_s": 494_700.0}


def row_of(
    place: Path,
    text: str = "abcdefghij" * 20,
    *,
    gpus: Gpus = NO_GPU,
    dtype: str = "float32",
    split: str = "",
    told: dict[str, float] | None = None,
    status: str = "ok",
) -> Row:
    """The row of a cell that told these figures, with a validation loss of 1.25."""
    (place / "text.txt").write_text(text, encoding="utf-8")
    matrix = place / "matrix.yaml"
    device = "cuda" if gpus.gpus else "cpu"
    matrix.write_text(MATRIX.format(split=split, dtype=dtype, device=device))
    bench = Bench(matrix, ResultsFolder(place / "results"), FakeLauncher(), gpus)
    bench.launcher.row = {**DID} if told is None else told
    bench.launcher.status = lambda job: status
    bench.run()
    (row,) = bench.rows()
    return row


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


def test_of_ascii_a_byte_is_a_character(tmp_path):
    row = row_of(tmp_path)
    assert float(row["bits_per_byte"]) == pytest.approx(1.25 / math.log(2))


@pytest.mark.parametrize(
    ("split", "bytes_a_character"),
    [("", 3.0), (", split: [0.5, 0.5]", 2.5), (", split: [0.5, 0.25, 0.25]", 2.0)],
)
def test_bytes_are_those_of_the_validation_split_alone(tmp_path, split, bytes_a_character):
    """50 characters of one byte, 25 of two and 25 of three, in this order."""
    text = "a" * 50 + "ä" * 25 + "€" * 25
    row = row_of(tmp_path, text, split=split, told={"test_loss_final": 1.5})
    assert float(row["bits_per_byte"]) == pytest.approx(1.25 / math.log(2) / bytes_a_character)


def test_a_run_without_a_final_loss_has_no_bits(tmp_path):
    row = row_of(tmp_path, told={"val_loss_final": None}, status="diverged")
    assert (row["status"], row["bits_per_byte"]) == ("diverged", "")


def test_a_loss_that_no_float_can_hold_in_bits_is_left_empty(tmp_path):
    assert row_of(tmp_path, told={"val_loss_final": 1.7e308})["bits_per_byte"] == ""


@pytest.mark.parametrize(
    ("dtype", "peak", "pct"), [("bfloat16", 989.4, 50.0), ("float32", 66.9, 739.46188)]
)
def test_a_known_gpu_has_its_peak_and_the_share_that_was_used(tmp_path, dtype, peak, pct):
    """10⁹ operations a token at 494,700 tokens/s: 494.7 TFLOP/s."""
    row = row_of(tmp_path, gpus=H100, dtype=dtype)
    assert float(row["peak_tflops"]) == peak
    assert float(row["mfu_pct"]) == pytest.approx(pct)


@pytest.mark.parametrize("gpus", [NO_GPU, OTHER])
def test_without_a_known_gpu_there_is_neither(tmp_path, gpus):
    row = row_of(tmp_path, gpus=gpus)
    assert (row["mfu_pct"], row["peak_tflops"]) == ("", "")


@pytest.mark.parametrize("unknown", DID)
def test_where_operations_or_their_time_are_unknown_there_is_no_share(tmp_path, unknown):
    """Those of a network that is pruned, or of a class that does not tell them."""
    row = row_of(tmp_path, gpus=H100, told={**DID, unknown: None})
    assert (row["mfu_pct"], row["peak_tflops"]) == ("", "66.9")


def test_of_a_program_nothing_is_reckoned(tmp_path):
    """It stays as the program printed it: neither its text nor its arithmetic is known."""
    (tmp_path / "matrix.yaml").write_text(MATRIX.format(split="", dtype="float32", device="cuda"))
    (cell,) = load_matrix(tmp_path / "matrix.yaml").cells
    row = {**DID, "val_loss_final": 1.25, "bits_per_byte": 0.9}
    spec = replace(cell.spec, program=Program("prog", "0" * 64, ("python", "train.py")))
    assert derived_columns(spec, row, H100.gpus[0].name, 1.0) == {}
    assert derived_columns(cell.spec, row, H100.gpus[0].name, None)["bits_per_byte"] is None
