"""A process of its own that answers lines, as a worker would compute: one thread, on one CPU."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.border.surroundings import worker_environment


@contextmanager
def answering(module: str) -> Iterator["subprocess.Popen[str]"]:
    """`python -m MODULE`; it ends with its standard input."""
    cpu = min(os.sched_getaffinity(0))
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **worker_environment(1)},
    )
    os.sched_setaffinity(process.pid, [cpu])
    try:
        yield process
    finally:
        process.communicate()
