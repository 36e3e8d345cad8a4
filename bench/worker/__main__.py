"""python -m bench.worker [--in-turn] CELL_FOLDER TOKENS... [CODE...]: one run, from spec to result.

TOKENS: as many files as spec.json tells. CODE: folders to import from, after all others, what the
matrix brings along. --in-turn: it trains in turn with others (bench/border/turns.py).
"""

import time

STARTED = time.monotonic()  # before anything heavy is imported

import sys  # noqa: E402

from bench.border.identity import code_sha256  # noqa: E402
from bench.border.spec import read_arguments  # noqa: E402
from bench.border.surroundings import RUNNER_GONE  # noqa: E402
from bench.border.turns import IN_TURN  # noqa: E402
from bench.worker.lifeline import TerminatedError, hold_on_to_runner  # noqa: E402
from bench.worker.protocol import Speaker  # noqa: E402


def main() -> int:
    hold_on_to_runner()
    try:
        return run()
    except TerminatedError:  # before there was anything to write down
        return RUNNER_GONE


def run() -> int:
    code_sha256()  # now, of the files that are about to be imported; it is remembered
    say = Speaker()
    say(stage="import")
    from bench.worker.cell import run_cell

    in_turn = sys.argv[1] == IN_TURN
    files, tokens, code = read_arguments(sys.argv[1 + in_turn :])
    sys.path += code  # now: torch, too, imports packages where there are some of that name
    return run_cell(files.folder, tokens, STARTED, say, in_turn)


if __name__ == "__main__":
    sys.exit(main())
