"""What every worker runs with, and how it ends without its runner."""

from pathlib import Path

PROBE_ANSWER = "bench.worker.gpu_probe answers: "  # before its JSON: others may print as well
RUNNER_GONE = 143  # a worker's exit code when its runner is gone: 128 + SIGTERM
TERMINATED = "stopped by SIGTERM"  # why a worker that could still say so was interrupted

# A step frees what it allocates, up to a few MiB a tensor, and the next one wants it again. As it
# comes, glibc gives blocks of 128 KiB and more back to the kernel, which hands out new pages one
# fault each; so keep them, in huge pages where the kernel gives any. Another C library, or an older
# one, passes over what it does not know.
KEEP_MEMORY = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in {
        "mmap_threshold": 32 * 2**20,  # the most that glibc takes
        "trim_threshold": 2**30,
        "top_pad": 2**20,  # more of it is memory that huge pages fill
        "hugetlb": 1,
    }.items()
)


# What libraries and interpreter read, by how the names begin: env.json holds those that are set.
TOLD = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "NVPL_"),  # threads and kernels
    *("TORCH", "PYTORCH_", "ATEN_", "TRITON_", "INDUCTOR_"),
    *("CUDA_", "CUBLAS", "CUDNN_", "NCCL_", "NVIDIA_"),
    *("GLIBC_", "MALLOC_", "LD_", "PYTHON", "LC_"),
)
# Variables by which Python drops assertions and the texts of help and schema, makes errors of other
# packages' warnings, and goes on after its end. They are emptied, for Python has no other way back.
MEDDLING = ("PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONWARNINGS")
# What a machine may need to compute at all, and that may change a result: where libraries of CUDA
# lie on a cluster, which compilers torch.compile calls.
CHANGING = ("CC", "CXX", "LD_LIBRARY_PATH")


def compiler_environment(compiled: Path) -> dict[str, str]:
    """Where compilers keep what they make, as the worker sees it: nowhere that cells share."""
    return {"TORCHINDUCTOR_CACHE_DIR": str(compiled), "TRITON_CACHE_DIR": str(compiled / "triton")}


def worker_environment(threads: int) -> dict[str, str]:
    """Variables that every worker gets, in a container or not; they win over those of an image."""
    return {
        "GLIBC_TUNABLES": KEEP_MEMORY,
        "LC_ALL": "C.UTF-8",
        "OMP_DYNAMIC": "FALSE",  # else the load of the machine may take threads away
        "OMP_NUM_THREADS": str(threads),
        "OMP_THREAD_LIMIT": str(2**31 - 1),  # that of OpenMP itself: no lower one holds
        "MKL_NUM_THREADS": str(threads),
        # As many compilers at once. The headers that Inductor would precompile lie in a folder that
        # cells share, and each cell that has all else would precompile them.
        "TORCHINDUCTOR_COMPILE_THREADS": str(threads),
        "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",
        "USER": "bench",  # Inductor asks for a name, and our uid may have none
        **dict.fromkeys(MEDDLING, ""),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }
