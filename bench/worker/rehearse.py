"""python -m bench.worker.rehearse CELL_FOLDER TOKENS... [CODE...]: a run's first steps, checked."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.border.spec import CellFiles, RunSpec
from bench.worker.check import Finding, main
from bench.worker.protocol import Speaker


def examine(
    files: CellFiles, spec: RunSpec, tokens: Sequence[Path], say: Speaker
) -> Iterator[Finding]:
    from bench.worker.rehearsal import rehearse

    yield from rehearse(files, spec, tokens, say)


if __name__ == "__main__":
    sys.exit(main(examine))
