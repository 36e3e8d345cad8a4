"""What GPUs can do at most, and the share of it that was used: figures worked by hand."""

import pytest

from bench.border.options import TrainOptions
from bench.measure.peaks import PEAKS, mfu_pct, peak_tflops

FLOAT32, TF32 = TrainOptions(), TrainOptions(matmul_precision="tf32")
BFLOAT16 = TrainOptions(dtype="bfloat16")


@pytest.mark.parametrize(
    ("name", "train", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", BFLOAT16, 989.4),
        ("NVIDIA H100 80GB HBM3", TF32, 494.7),
        ("NVIDIA H100 80GB HBM3", FLOAT32, 66.9),
        ("NVIDIA H100 PCIe", BFLOAT16, 756.0),
        ("NVIDIA A100-SXM4-80GB", TF32, 156.0),
        ("A100-SXM4-40GB", FLOAT32, 19.5),  # as drivers before 2021 name it
        ("Tesla T4", FLOAT32, 8.1),
        ("NVIDIA L4", BFLOAT16, 121.0),
        # What a matrix asks of float32 products means nothing where they are of bfloat16.
        ("NVIDIA L4", TrainOptions(dtype="bfloat16", matmul_precision="tf32"), 121.0),
    ],
)
def test_the_peak_is_that_of_the_format_of_products(name, train, peak):
    assert peak_tflops(name, train) == peak


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "Stub GPU",
        "2 x NVIDIA H100 80GB HBM3",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA H100",
        "NVIDIA A100-SXM4-80GB ",
        "nvidia l4",
    ],
)
def test_of_what_is_no_known_gpu_nothing_is_guessed(name):
    assert peak_tflops(name, BFLOAT16) is None


@pytest.mark.parametrize("train", [BFLOAT16, TF32])
def test_a_gpu_without_products_in_a_format_has_no_peak_in_it(train):
    assert peak_tflops("Tesla V100-SXM2-16GB", train) is None
    assert peak_tflops("Tesla T4", train) is None


def test_a_narrower_format_is_no_slower():
    for name, peaks in PEAKS.items():
        known = [peak for peak in peaks if peak is not None]
        assert known == sorted(known, reverse=True), name
        assert peaks[-1] is not None, name


def test_the_share_is_of_operations_a_second():
    """Of GPT-2 with 124 M parameters, 0.75 GFLOPs a token: 500,000 tokens/s are 375 TFLOP/s."""
    assert mfu_pct(0.75e9, 500_000.0, 989.4) == pytest.approx(37.9018, abs=1e-4)
    assert mfu_pct(19.5e6, 1e6, 19.5) == pytest.approx(100)
    assert mfu_pct(0, 1e6, 19.5) == 0


@pytest.mark.parametrize("unknown", [0, 1, 2])
def test_what_is_not_known_makes_no_share(unknown):
    figures: list[float | None] = [1e9, 1e5, 66.9]
    figures[unknown] = None
    assert mfu_pct(*figures) is None
