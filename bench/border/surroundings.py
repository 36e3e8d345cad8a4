"""What every worker runs with, and how it ends without its runner."""

RUNNER_GONE = 143  # a worker's exit code when its runner is gone: 128 + SIGTERM

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


def worker_environment(threads: int) -> dict[str, str]:
    """Variables that every worker gets, in a container or not."""
    return {
        "GLIBC_TUNABLES": KEEP_MEMORY,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
    }
