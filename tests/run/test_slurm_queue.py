"""SLURM's commands as recorded, and what is read of its answers, which are real ones."""

from pathlib import Path

import pytest

from bench.errors import MissingError, QueueError, RequestError
from bench.run.slurm import queue
from bench.run.slurm.queue import Queued

# Of SLURM 22.05.
SQUEUE = """\
bench-194f7662-cpu-1|1|0|n1|2026-11-29T20:06:14|RUNNING|None
bench-194f7662-cpu-1|2|1||2026-11-29T20:08:05|PENDING|BeginTime
bench-194f7662-report|N/A|0||N/A|PENDING|Dependency
"""
JOB = """\
JobId=11 ArrayJobId=11 ArrayTaskId=1 JobName=tiny
   NodeList=n2
   BatchHost=n2
   NumNodes=2 NumCPUs=3 NumTasks=1 CPUs/Task=1 ReqB:S:C:T=0:0:*:*
     Nodes=n1 CPU_IDs=1 Mem=0 GRES=
     Nodes=n2 CPU_IDs=0-1,6 Mem=0 GRES=
   Command=/tmp/Nodes=n2 CPU_IDs=9
"""


def test_commands_are_as_recorded() -> None:
    script = Path("/data/it's 5%/slurm/cpu-1.sbatch")
    assert queue.sbatch(script, "%A_%a.log", ["-p", "long"], ["4", "5"]) == [
        "sbatch",
        "--parsable",
        "--output=/data/it's 5%%/slurm/%A_%a.log",
        "-p",
        "long",
        "--dependency=afterany:4:5",
        "/data/it's 5%/slurm/cpu-1.sbatch",
    ]
    assert queue.squeue(["a", "b"]) == [
        "squeue",
        "--noheader",
        "--array",
        "--name=a,b",
        "--Format=Name:|,ArrayTaskID:|,RestartCnt:|,NodeList:|,StartTime:|,State:|,Reason:|",
    ]
    assert queue.show_job("7") == ["scontrol", "show", "job", "-d", "7"]


def test_the_queue_is_read() -> None:
    assert queue.read_queue(SQUEUE) == [
        Queued("bench-194f7662-cpu-1", 1, "RUNNING", "n1", "2026-11-29T20:06:14", 0, "None"),
        Queued("bench-194f7662-cpu-1", 2, "PENDING", "", "2026-11-29T20:08:05", 1, "BeginTime"),
        Queued("bench-194f7662-report", None, "PENDING", "", "", 0, "Dependency"),
    ]
    assert queue.read_queue("") == []
    with pytest.raises(QueueError, match="squeue answered"):
        queue.read_queue("slurm_load_jobs error\n")


def test_the_number_of_a_job_is_read() -> None:
    assert queue.read_job_id("12\n") == "12"
    assert queue.read_job_id("12;cluster\n") == "12"
    with pytest.raises(QueueError, match="in place of the number of a job"):
        queue.read_job_id("Submitted batch job 12\n")


def test_the_largest_index_is_one_less_than_the_size() -> None:
    assert queue.read_largest_index("KillWait = 30 sec\nMaxArraySize            = 1001\n") == 1000
    for answer in ("", "MaxArraySize = 0\n", "MaxArraySize = 1\n"):
        with pytest.raises(QueueError, match="MaxArraySize"):
            queue.read_largest_index(answer)


def test_the_cpus_of_a_job_are_those_of_this_node() -> None:
    assert queue.read_cpus(JOB, "n1") == {1}
    assert queue.read_cpus(JOB, "n2") == {0, 1, 6}
    assert queue.read_cpus(JOB, "n3") is None
    assert queue.read_cpus("", "") is None


@pytest.mark.parametrize(
    "words",
    [[], ["--partition=long"], ["-p", "long", "--time=60"], ["-t60"], ["--nodelist=n1"]],
)
def test_further_words_are_passed_on(words: list[str]) -> None:
    queue.check_further(words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["other.yaml"], "is no option of sbatch. Its words come after --"),
        (["--array=1-3"], "gives itself"),
        (["-p", "long", "-a1-3"], "gives itself"),
        (["-J", "mine"], "gives itself"),
        (["--job-name=mine"], "gives itself"),
        (["--wait"], "gives itself"),
        (["-N2"], "gives itself"),
    ],
)
def test_what_would_tear_tasks_apart_is_refused(words: list[str], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        queue.check_further(words)


def test_what_a_command_says_as_it_fails_is_told() -> None:
    with pytest.raises(QueueError, match="bash failed: no partition"):
        queue.ask(["bash", "-c", "echo no partition >&2; exit 1"])
    with pytest.raises(QueueError, match="false failed: exit code 1"):
        queue.ask(["false"])
    with pytest.raises(MissingError, match="there is no no-such-command here"):
        queue.ask(["no-such-command"])
