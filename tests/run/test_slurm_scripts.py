"""The scripts that sbatch is given: as they are written, and as bash runs them."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.run.slurm.resources import Resources
from bench.run.slurm.script import NO_FURTHER_SAYS, JobPlace, array_script, report_script

PLACE = JobPlace("/opt/py/bin/python", Path("/opt/bench"), Path("/home/a b"), Path("/data/it's"))
ON_GPU = Resources(cpus=4, memory_mib=8704, gpus=2, minutes=90)

# What follows is compared as it stands: it is what a site's people read.
ARRAY = r"""#!/bin/bash
#SBATCH --job-name=bench-0a1b2c3d-cuda-2
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=8704M
#SBATCH --gres=gpu:2
#SBATCH --time=90
#SBATCH --array=1-3,5
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120

cd '/home/a b' || exit 1
export PYTHONPATH=/opt/bench
runner= signalled= nearly_over=
trap 'signalled=1 nearly_over=1; [ -z "$runner" ] || kill -TERM "$runner"' USR1
trap 'signalled=1; [ -z "$runner" ] || kill -TERM "$runner" 2>/dev/null' TERM
/opt/py/bin/python -m bench task '/data/it'"'"'s' "$((1000 + SLURM_ARRAY_TASK_ID))" &
runner=$!
wait "$runner"; code=$?
while [ "$code" -gt 128 ] && [ "$signalled" ]; do
    signalled=; wait "$runner"; code=$?
done
# 130: it ended its cells as it was told to; the same task goes on where they were.
if [ "$nearly_over" ] && [ "$code" -eq 130 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
elif [ "$nearly_over" ] && [ "$code" -eq 3 ]; then
    echo SAYS >&2
fi
exit "$code"
"""

REPORT = r"""#!/bin/bash
#SBATCH --job-name=bench-0a1b2c3d-report
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=4096M
#SBATCH --open-mode=append

cd '/home/a b' || exit 1
export PYTHONPATH=/opt/bench
exec /opt/py/bin/python -m bench report '/data/it'"'"'s'
"""


def test_the_script_of_an_array_is_as_recorded() -> None:
    assert array_script("bench-0a1b2c3d-cuda-2", "1-3,5", 1000, ON_GPU, PLACE) == ARRAY.replace(
        "SAYS", f"'{NO_FURTHER_SAYS}'"
    )


def test_the_script_of_the_report_is_as_recorded() -> None:
    assert report_script("bench-0a1b2c3d-report", PLACE) == REPORT


def test_without_an_estimate_the_site_says_how_long() -> None:
    unknown = Resources(cpus=1, memory_mib=1, gpus=0, minutes=None)
    text = array_script("n", "1", 0, unknown, PLACE)
    assert "#SBATCH --time" not in text
    assert "--gres" not in text


# --- as bash runs them ---

# In the place of Python: what it was called with, then as a runner that is told to end.
RUNNER = r"""#!/bin/bash
printf '%s\0' "$PWD" "$PYTHONPATH" "$@" >"$TOLD"
trap 'kill "$sleeper"; exit "$ENDS_WITH"' TERM
sleep 60 &
sleeper=$!
[ -z "$WAITS" ] && { kill "$sleeper"; exit "$ENDS_WITH"; }
wait
"""


@pytest.fixture
def stands(tmp_path: Path) -> Path:
    """A folder with stand-ins for Python and scontrol."""
    for name, text in {
        "python": RUNNER,
        "scontrol": '#!/bin/bash\necho "$@" >>"$ASKED"\n',
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def start(stands: Path, place: JobPlace, ends_with: int, waits: bool) -> "subprocess.Popen[bytes]":
    text = array_script("n", "1-9", 10, Resources(1, 1, 0, None), place)
    (stands / "script").write_text(text)
    variables = {
        "PATH": f"{stands}:{os.environ['PATH']}",
        "TOLD": str(stands / "told"),
        "ASKED": str(stands / "asked"),
        "ENDS_WITH": str(ends_with),
        "WAITS": "1" if waits else "",
        "SLURM_ARRAY_JOB_ID": "77",
        "SLURM_ARRAY_TASK_ID": "5",
    }
    return subprocess.Popen(["bash", stands / "script"], env=variables)


def ended(stands: Path, ends_with: int, told: signal.Signals | None) -> tuple[int, str]:
    """The exit code of the script, and what it asked of the queue."""
    place = JobPlace(str(stands / "python"), Path("/opt/bench"), stands, stands / "out")
    with start(stands, place, ends_with, waits=told is not None) as script:
        while not (stands / "told").exists() or not (stands / "told").read_bytes():
            time.sleep(0.01)
        time.sleep(0.2)  # until it waits
        if told:
            script.send_signal(told)
        code = script.wait()
    asked = stands / "asked"
    return code, asked.read_text() if asked.exists() else ""


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_a_task_ends_as_its_runner_did(stands: Path, code: int) -> None:
    assert ended(stands, code, None) == (code, "")


def test_told_that_its_time_is_nearly_up_it_goes_back_to_the_queue(stands: Path) -> None:
    assert ended(stands, 130, signal.SIGUSR1) == (130, "requeue 77_5\n")


def test_a_runner_that_was_through_by_then_does_not(stands: Path) -> None:
    assert ended(stands, 0, signal.SIGUSR1) == (0, "")


def test_a_runner_that_came_no_further_does_not(stands: Path) -> None:
    assert ended(stands, 3, signal.SIGUSR1) == (3, "")


def test_a_cancelled_task_does_not(stands: Path) -> None:
    assert ended(stands, 130, signal.SIGTERM) == (130, "")


# Of file names all but what ends one, and what SLURM drops (SlurmFiles.at refuses that).
NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/\\\n\r", exclude_categories=("Cs",)),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in (".", ".."))


@settings(max_examples=25, deadline=None)
@given(here=NAMES, out=NAMES)
@example(here="a'; echo foo", out='$(touch x) "b')
@example(here="-n", out="`id` %j #")
def test_any_name_reaches_the_runner(
    tmp_path_factory: pytest.TempPathFactory, here: str, out: str
) -> None:
    stands = tmp_path_factory.mktemp("named")
    (stands / "python").write_text(RUNNER)
    (stands / "python").chmod(0o755)
    folder = stands / "x" / here
    folder.mkdir(parents=True)
    place = JobPlace(str(stands / "python"), stands / out, folder, stands / out)
    with start(stands, place, 0, waits=False) as script:
        assert script.wait() == 0
    told = (stands / "told").read_bytes().decode().split("\0")
    assert told == [
        *(str(folder), str(stands / out)),
        *("-m", "bench", "task", str(stands / out), "15", ""),
    ]
