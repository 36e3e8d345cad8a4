"""A SLURM of three nodes on this machine: its own ports and folder, nothing outside is touched.

All nodes are this host, so they share its CPUs: what is tested is who runs what, not how fast.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.builders.shared import without

NODES = ("n1", "n2", "n3")
HURRY_AFTER_S = 5.0
WITHIN_S = 240.0  # what is waited for comes within seconds; what takes this long hangs

# auth/none: only who is on this machine can reach its ports.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/%n.pid
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1
MailProg=/bin/true
JobRequeue=1
MinJobAge=86400
SwitchType=switch/none
MpiDefault=none
MaxArraySize={array_size}
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=8000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=8000
NodeName=n3 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=2 RealMemory=8000
PartitionName=p Nodes=n[1-3] Default=YES MaxTime=60 State=UP
"""


@dataclass
class SlurmSite:
    configuration: Path
    daemons: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    requeued: dict[str, float] = field(default_factory=dict)  # id -> since when it is seen to wait

    @property
    def variables(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.configuration)}

    def ask(self, *command: str) -> str:
        answer = subprocess.run(
            command, env=self.variables, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, f"{command}: {answer.stdout}{answer.stderr}"
        return answer.stdout

    def queue(self) -> list[dict[str, str]]:
        """Every job, a line a task."""
        names = ("id", "job", "index", "state", "node", "reason", "name")
        lines = self.ask("squeue", "-h", "-r", "-o", "%i|%A|%K|%T|%N|%r|%j").splitlines()
        return [dict(zip(names, line.split("|"), strict=True)) for line in lines]

    def hurry(self) -> None:
        """Start soon what was requeued: else it would wait for two minutes.

        At once would be too soon: a node refuses what it was told to end in the same second.
        """
        for job in self.queue():
            since = self.requeued.setdefault(job["id"], time.monotonic())
            if job["reason"] != "BeginTime":
                del self.requeued[job["id"]]
            elif time.monotonic() - since > HURRY_AFTER_S:
                subprocess.run(  # it may start in this moment
                    ["scontrol", "update", f"JobId={job['id']}", "StartTime=now"],
                    env=self.variables,
                    capture_output=True,
                    check=False,
                )

    def until(self, holds: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
        end = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < end, f"{what} does not come: {self.queue()}"
            time.sleep(0.2)

    def until_empty(self) -> None:
        def is_empty() -> bool:
            self.hurry()
            return not self.queue()

        self.until(is_empty, "the end of all jobs")

    def kill_slurmd(self, node: str) -> None:
        """As a node that is lost to the queue; what it runs goes on."""
        self.daemons[node].kill()
        self.daemons[node].wait()
        self.ask("scontrol", "update", f"nodename={node}", "state=DOWN", "reason=killed")

    def processes(self) -> list[psutil.Process]:
        """Of jobs, and what SLURM starts for them."""
        found = []
        for process in psutil.process_iter():
            try:
                belongs = process.environ().get("SLURM_CONF") == str(self.configuration)
            except psutil.Error:
                continue
            if belongs and process.pid != os.getpid():
                found.append(process)
        return found


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def slurm_site(folder: Path, array_size: int = 6) -> Iterator[SlurmSite]:
    """Up, with all nodes idle; at the end no process of it is left.

    `array_size`: one more than the largest index of an array; of 6, eight tasks are two arrays.
    """
    if missing := [name for name in ("slurmctld", "slurmd", "sbatch") if not shutil.which(name)]:
        without(f"there is no {' and no '.join(missing)} (slurmctld, slurmd, slurm-client)")
    if os.geteuid() != 0:
        without("a SLURM of our own needs root")
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    configuration = folder / "slurm.conf"
    text = CONFIGURATION.format(
        host=os.uname().nodename, folder=folder, ports=free_ports(4), array_size=array_size
    )
    configuration.write_text(text)
    site = SlurmSite(configuration)
    commands = {"ctld": ["slurmctld", "-D", "-c"]}
    commands |= {node: ["slurmd", "-D", "-N", node] for node in NODES}
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                site.daemons[name] = subprocess.Popen(
                    command, env=site.variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
        site.until(lambda: _idle(site) == len(NODES), "a cluster with all nodes idle")
        yield site
    finally:
        for process in site.processes():
            process.kill()
        for daemon in site.daemons.values():
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()


def _idle(site: SlurmSite) -> int:
    answer = subprocess.run(
        ["sinfo", "-h", "-N", "-o", "%T"],
        env=site.variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.split().count("idle")
