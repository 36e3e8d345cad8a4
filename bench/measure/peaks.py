"""What a GPU can do at most, by NVIDIA's own figures, and how much of it a run did."""

from bench.border.options import TrainOptions

_FORMATS = ("bfloat16", "tf32", "float32")
# TFLOP/s of dense products in these formats: where a source tells figures with sparsity alone, half
# of them. bfloat16 and TF32 are of tensor cores that sum in float32. None: no such products.
_Peaks = tuple[float | None, float | None, float | None]

_H100: _Peaks = (989.4, 494.7, 66.9)  # SXM5. H100 GPU architecture whitepaper, 2022 (v1.04: 2023)
_H100_PCIE: _Peaks = (756.0, 378.0, 51.2)  # the same
_H100_NVL: _Peaks = (835.5, 417.5, 60.0)  # H100 datasheet, 2024; H200 datasheet, 2024, of its NVL
_A100: _Peaks = (312.0, 156.0, 19.5)  # A100 datasheet, 2021: of all four boards
_V100_SXM2: _Peaks = (None, None, 15.7)  # V100 datasheet, 2020
_V100_PCIE: _Peaks = (None, None, 14.0)  # the same

# By NVML's name, without the "NVIDIA " that drivers from 2021 on put before it. One chip on another
# board has another rate: only these very names are known.
PEAKS: dict[str, _Peaks] = {
    "B200": (2250.0, 1100.0, 80.0),  # Blackwell architecture technical brief, 2024: HGX B200
    "H200": _H100,  # H200 datasheet, 2024: that of H100 SXM5
    "H200 NVL": _H100_NVL,
    "GH200 480GB": _H100,  # GH200 datasheet, 2023: likewise
    "H100 80GB HBM3": _H100,
    "H100 PCIe": _H100_PCIE,
    "H100 NVL": _H100_NVL,
    "A100-SXM4-40GB": _A100,
    "A100-SXM4-80GB": _A100,
    "A100-PCIE-40GB": _A100,
    "A100 80GB PCIe": _A100,
    "L40S": (362.05, 183.0, 91.6),  # L40S datasheet, 2023
    "L40": (181.05, 90.5, 90.5),  # L40 datasheet, 2022
    "L4": (121.0, 60.0, 30.3),  # L4 datasheet, 2023
    "A40": (149.7, 74.8, 37.4),  # A40 datasheet, 2021
    "A30": (165.0, 82.0, 10.3),  # A30 datasheet, 2021
    "A10": (125.0, 62.5, 31.2),  # A10 datasheet, 2021
    "GeForce RTX 3090": (71.0, 35.6, 35.6),  # GA102 GPU architecture whitepaper, 2020
    "GeForce RTX 4090": (165.2, 82.6, 82.6),  # Ada GPU architecture whitepaper, 2022
    "GeForce RTX 5090": (209.5, 104.8, 104.8),  # RTX Blackwell architecture whitepaper, 2025
    "Tesla T4": (None, None, 8.1),  # T4 datasheet, 2018
    "Tesla V100-SXM2-16GB": _V100_SXM2,
    "Tesla V100-SXM2-32GB": _V100_SXM2,
    "Tesla V100-PCIE-16GB": _V100_PCIE,
    "Tesla V100-PCIE-32GB": _V100_PCIE,
}


def peak_tflops(gpu_name: str | None, train: TrainOptions) -> float | None:
    """TFLOP/s of a GPU in the format that training computes its products in.

    None for a CPU, several GPUs, an instance of one (MIG), a GPU that is not known here, and a
    format that it has no products in.
    """
    peaks = PEAKS.get((gpu_name or "").removeprefix("NVIDIA "))
    if peaks is None:
        return None
    products = train.dtype if train.dtype == "bfloat16" else train.matmul_precision
    return peaks[_FORMATS.index(products)]


def mfu_pct(
    flops_per_token: float | None, tokens_per_s: float | None, peak: float | None
) -> float | None:
    """Model FLOPs utilisation (Chowdhery et al. 2022, appendix B): of `peak` TFLOP/s, what the
    model's own arithmetic took; None where any of them is not known.
    """
    if flops_per_token is None or tokens_per_s is None or peak is None:
        return None
    return 100 * flops_per_token * tokens_per_s / (peak * 1e12)
