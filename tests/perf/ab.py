"""make perf: that a gate passes two equal versions and fails a slower one, end to end.

One round of `calibrate`, of HEAD. Leave the machine alone meanwhile: a gate that cannot decide
shows nothing.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from bench.records.rows import read_table
from tests.perf.rows import Row

ROOT = Path(__file__).parents[2]
RULE = "step_time_ms_p50>5%"
PAIRS, SLOWER = 6, 15
WANTED = {"again": "pass", f"slower-{SLOWER}": "fail"}  # of every arm


def rows(runtime: str) -> list[Row]:
    """How many arms came to the end that they must come to, of each side."""
    with tempfile.TemporaryDirectory(prefix="bench-perf-ab-") as out:
        command = [sys.executable, "-m", "bench", "calibrate", "HEAD", "ab", "--out", out]
        command += ["--rounds", "1", "--pairs", str(PAIRS), "--slower", str(SLOWER)]
        command += ["--fail-on", RULE, "--runtime", runtime]
        subprocess.run(command, cwd=ROOT, check=True)
        found = read_table(Path(out) / "rounds.csv")
    judged = {
        kind: [row["outcome"] == wanted for row in found if row["kind"] == kind]
        for kind, wanted in WANTED.items()
    }
    return [
        Row(f"{kind}, {RULE}: {WANTED[kind]}", (sum(right),), equals=len(right), unit="arms")
        for kind, right in judged.items()
    ]
