"""make perf: that `ab` passes two equal versions and fails a slower one, end to end.

In a clone of this repository a commit is made whose every training step sleeps for a share of its
own time; HEAD is run beside itself, then beside that commit. Leave the machine alone meanwhile: a
gate that cannot decide shows nothing.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.launch.choose import RUNTIMES
from tests.perf.rows import Row, table

ROOT = Path(__file__).parents[2]
INTERRUPTED = 130
RULE = "step_time_ms_p50>5%"
SLOWDOWN = 0.15  # of each step's own time
TRAINING = Path("bench") / "worker" / "training.py"

SLEEP = f"""

_step = Trainer.step


def _slow_step(self: Trainer, positions: Tensor) -> Tensor:
    begun = time.perf_counter()
    loss = _step(self, positions)
    time.sleep({SLOWDOWN} * (time.perf_counter() - begun))
    return loss


Trainer.step = _slow_step  # type: ignore[method-assign]
"""


def git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def clone(place: Path) -> Path:
    """The last commit of this repository, in a repository of its own, with the same wheels."""
    repository = place / "repository"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(repository)], check=True)
    wheels = ROOT / "docker" / "wheels"
    if wheels.is_dir():
        (repository / "docker" / "wheels").symlink_to(wheels.resolve())
    return repository


def slow_down(repository: Path) -> str:
    """Commit the sleep; the commit."""
    file = repository / TRAINING
    text = file.read_text(encoding="utf-8")
    assert "class Trainer:" in text, f"{TRAINING} has no Trainer"
    assert "    def step(self, positions: Tensor) -> Tensor:" in text, "Trainer has another step"
    file.write_text(text + SLEEP, encoding="utf-8")
    who = ("-c", "user.name=perf", "-c", "user.email=perf@localhost")
    git(repository, *who, "commit", "--quiet", "--all", "--message", "Sleep in each step")
    return git(repository, "rev-parse", "HEAD")


def ab(repository: Path, base: str, head: str, asked: argparse.Namespace, out: Path) -> int:
    """Its exit code; what it says goes to the terminal."""
    command = [sys.executable, "-m", "bench", "ab", base, head, str(asked.matrix.absolute())]
    command += [
        "--pairs",
        str(asked.seeds),
        "--out",
        str(out),
        "--fail-on",
        RULE,
        "--runtime",
        asked.runtime,
    ]
    command += ["--worker-python", asked.worker_python] if asked.worker_python else []
    begun = time.monotonic()
    code = subprocess.run(command, cwd=repository).returncode
    print(f"\nexit code {code} after {time.monotonic() - begun:.0f} s\n", flush=True)
    return code


def exit_codes(asked: argparse.Namespace) -> tuple[int, int]:
    """Of HEAD beside itself, and of HEAD beside longer steps."""
    with tempfile.TemporaryDirectory(prefix="bench-perf-ab-") as place:
        out = asked.out.absolute() if asked.out else Path(place)
        repository = clone(Path(place))
        head = git(repository, "rev-parse", "HEAD")
        print(f"HEAD beside itself must pass {RULE}\n", flush=True)
        alike = ab(repository, head, head, asked, out / "aa")
        if alike == INTERRUPTED:
            raise KeyboardInterrupt
        slower = slow_down(repository)
        print(f"HEAD beside steps that are {SLOWDOWN:.0%} longer must fail it\n", flush=True)
        return alike, ab(repository, head, slower, asked, out / "slowed")


def rows(runtime: str, words: Sequence[str] = ()) -> list[Row]:
    alike, slowed = exit_codes(options().parse_args(["--runtime", runtime, *words]))
    return [
        Row(f"ab, equal versions, {RULE}", (alike,), equals=0, unit="exit code"),
        Row(f"ab, steps {SLOWDOWN:.0%} longer, {RULE}", (slowed,), equals=1, unit="exit code"),
    ]


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--matrix", type=Path, default=ROOT / "bench" / "matrix" / "ab.yaml")
    parser.add_argument("--seeds", type=int, default=6, help="pairs of each arm")
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto")
    parser.add_argument("--worker-python")
    parser.add_argument("--out", type=Path, help="keep both sides' results, in aa/ and slowed/")
    return parser


def main() -> int:
    asked = options().parse_args()
    found = rows(asked.runtime, sys.argv[1:])
    print(table(found))
    return 0 if all(row.passes for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
