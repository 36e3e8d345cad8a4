"""make perf: every figure that has a target, measured and held against it.

`python -m tests.perf [PART...]` prints a table of each part's rows; exit code 0 only if all pass.
Leave the machine alone meanwhile.
"""

import argparse
import sys
from collections.abc import Callable

from bench.launch.choose import RUNTIMES
from tests.perf import ab, around, beside, compiled, jobs, measuring, reading, topk, training
from tests.perf.rows import Row, table

PARTS: dict[str, Callable[[str], list[Row]]] = {
    "training": training.rows,
    "topk": topk.rows,
    "beside": beside.rows,
    "compiled": compiled.rows,
    "around": around.rows,
    "jobs": jobs.rows,
    "measuring": measuring.rows,
    "ab": ab.rows,
    "reading": reading.rows,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.perf", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    found: list[Row] = []
    for part in asked.parts or PARTS:
        found += (rows := PARTS[part](asked.runtime))
        print(f"\n## {part}\n\n{table(rows)}", flush=True)
    short = [row.what for row in found if not row.passes]
    print(f"\n{len(found)} rows, {len(short)} short" + "".join(f"\n- {what}" for what in short))
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
