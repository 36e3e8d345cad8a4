"""A cell's container from inside: it reaches nothing but what it was given, and its limits hold.

test_container.py has the rest: network, capabilities, read-only inputs, the kernel's kill.
"""

import dataclasses
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from bench.border.options import Limits
from bench.launch import container
from bench.launch.engine import Engine
from bench.launch.job import Job
from tests.builders.containers import run_inside

# Each probe says what became of it: the name of the error that stopped it, else what it returned.
PROBE = """
import ctypes, json, os, signal, subprocess, sys, threading
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)
def tried(action):
    try: return action()
    except (OSError, RuntimeError) as error: return type(error).__name__
def tell(**what): print(json.dumps(what), flush=True)
"""

Inside = Callable[..., Any]


@pytest.fixture
def inside(engine: Engine, cell: Job, monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Run a Python text in a real cell's container: what it told."""

    def run(text: str, **limits: float) -> Any:
        job = dataclasses.replace(cell, limits=Limits(timeout_s=60.0, cpus=1, **limits))
        _, ended = run_inside(engine, job, monkeypatch, PROBE + text)
        assert ended.code == 0, job.files.log.read_text()
        return ended.last_event

    return run


GAIN = """
NEWUSER, NEWNS = 0x10000000, 0x00020000
def su():  # a set-uid program of the image; it waits for a password
    child = subprocess.Popen(["su"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        status = Path(f"/proc/{child.pid}/status").read_text()
        return [line.split()[1:] for line in status.splitlines() if line.startswith("Uid")][0]
    finally:
        child.kill()
        child.communicate()
tell(
    uid=[str(uid) for uid in os.getresuid()],
    set_uid_program=bool(os.stat("/usr/bin/su").st_mode & 0o4000),
    su=su(),
    refused=dict(
        setuid=tried(lambda: os.setuid(0)),
        setgid=tried(lambda: os.setgid(0)),
        setgroups=tried(lambda: os.setgroups([0])),
        user_namespace=tried(lambda: call("unshare", NEWUSER)),
        mount_namespace=tried(lambda: call("unshare", NEWNS)),
        join_namespace=tried(lambda: call("setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), 0)),
        mount=tried(lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None)),
        remount=tried(lambda: call("mount", None, b"/", None, 32, None)),
        umount=tried(lambda: call("umount2", b"/corpus.tokens", 0)),
        chroot=tried(lambda: os.chroot("/tmp")),
        device=tried(lambda: os.mknod("/tmp/disk", 0o60666, os.makedev(8, 0))),
        chown=tried(lambda: os.chown("/cell", 0, 0)),
        priority=tried(lambda: os.nice(-5)),
        survive_memory=tried(lambda: Path("/proc/self/oom_score_adj").write_text("-1000")),
        kernel_log=tried(lambda: call("klogctl", 3, ctypes.create_string_buffer(9), 9)),
        keyring=tried(lambda: call("syscall", 250, 0, -3, 1)),
    ),
)
"""


def test_a_cell_cannot_gain_privileges(inside: Inside) -> None:
    seen = inside(GAIN)
    own = str(os.getuid() or container.NOBODY)
    assert seen["uid"] == [own] * 3
    assert seen["set_uid_program"]
    assert seen["su"] == [own] * 4
    let_through = {what for what, error in seen["refused"].items() if "Error" not in str(error)}
    assert let_through == set()


WRITABLE = """
def places():
    for top, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(top, name) not in ("/proc", "/sys")]
        yield top
        yield from (os.path.join(top, name) for name in files)
def writable(place): return os.access(place, os.W_OK) and not os.path.islink(place)
mounts = [line.split() for line in open("/proc/self/mounts")]
tell(
    writable=[place for place in places() if writable(place)],
    mounts={target: kind for _, target, kind, *_ in mounts},
    read_write=[target for _, target, _, options, *_ in mounts if "rw" in options.split(",")],
    kernel={file: tried(lambda: open(file, "r+").close()) for file in (
        "/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger",
        "/sys/kernel/mm/transparent_hugepage/enabled")},
    control_groups=[
        place for top, _, files in os.walk("/sys/fs/cgroup")
        for place in (top, *(os.path.join(top, name) for name in files)) if writable(place)],
    sockets=[line.split()[-1] for line in open("/proc/net/unix") if "/" in line],
    processes=[int(name) for name in os.listdir("/proc") if name.isdigit()],
    variables=list(os.environ),
    listed=sorted(os.listdir("/cell")),
)
"""
GIVEN = {container.CELL, f"{container.CELL}/spec.json", container.TOKENS, f"{container.CODE}/bench"}
# Files; what they hold is bland.
ENGINES_OWN = {"/etc/resolv.conf", "/etc/hostname", "/etc/hosts"}
ENGINES_OWN |= {
    "/run/.containerenv",
    "/etc/passwd",
    "/etc/group",
}  # of podman, with the cell's user
DEVICES = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
DEVICES |= {"/dev/pts/ptmx", "/dev/shm", "/dev/mqueue"}  # its own, in memory
VIRTUAL = {"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"}


def test_a_cell_sees_and_writes_nothing_of_the_machine(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET_OF_THE_HOST", "token")
    seen = inside(WRITABLE)
    assert set(seen["writable"]) - DEVICES == {container.CELL, "/tmp"}
    of_disk = {target for target, kind in seen["mounts"].items() if kind not in VIRTUAL}
    assert of_disk - {"/"} - ENGINES_OWN == GIVEN
    assert {"/", *GIVEN} & set(seen["read_write"]) == {container.CELL}
    assert [file for file, error in seen["kernel"].items() if error is None] == []
    assert seen["control_groups"] == []
    assert seen["sockets"] == []
    assert seen["processes"] == [1]
    assert "A_SECRET_OF_THE_HOST" not in seen["variables"]
    assert seen["listed"] == ["spec.json", "worker.log"]


FORKS = """
children = []
def fork():
    for _ in range(LIMIT + 100):
        child = os.fork()
        if not child:
            signal.pause()
        children.append(child)
def start():
    for _ in range(LIMIT + 100):
        threading.Thread(target=enough.wait).start()
error = tried(fork)
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
enough = threading.Event()
threads_error = tried(start)
threads = threading.active_count()
tell(error=error, children=len(children), threads_error=threads_error, threads=threads)
enough.set()
"""


def test_a_cell_cannot_fill_the_machine_with_processes(inside: Inside) -> None:
    seen = inside(FORKS.replace("LIMIT", str(container.MAX_PROCESSES)))
    assert seen["error"] == "BlockingIOError"
    assert seen["children"] == container.MAX_PROCESSES - 1
    assert seen["threads_error"] == "RuntimeError"  # threads count as processes do
    assert seen["threads"] == container.MAX_PROCESSES
    assert subprocess.run(["true"], check=False).returncode == 0


ROOM = """
def fill(path):
    written = 0
    try:
        with open(path, "wb", buffering=0) as file:
            for _ in range(1100):
                written += file.write(bytes(2**20))
    except OSError as error:
        return [error.errno, written >> 20]
    finally:
        os.unlink(path)
    return [0, written >> 20]
def first(*paths):
    return next((Path(path).read_text().strip() for path in paths if os.path.exists(path)), None)
tell(
    scratch=fill("/tmp/x"),
    shared_memory=fill("/dev/shm/x"),
    memory=first("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    swap=first("/sys/fs/cgroup/memory.swap.max"),
    memory_and_swap=first("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"),
)
"""
NO_SPACE = 28


def test_a_cells_scratch_and_memory_are_bounded(inside: Inside) -> None:
    seen = inside(ROOM, memory_gib=1.5)
    assert seen["scratch"] == [NO_SPACE, 1024]
    assert seen["shared_memory"] == [NO_SPACE, 1024]
    assert seen["memory"] == str(3 * 2**29)
    # cgroup v2 limits swap by itself, v1 together with memory: none is left either way.
    assert seen["swap"] == "0" or seen["memory_and_swap"] == seen["memory"]


def test_scratch_counts_as_the_cells_memory(
    engine: Engine, cell: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(cell, limits=Limits(timeout_s=60.0, memory_gib=0.1, cpus=1))
    text = "file = open('/tmp/x', 'wb')\nfor _ in range(1000): file.write(bytes(10**6))"
    _, ended = run_inside(engine, small, monkeypatch, text)
    assert ended.oom_killed


CPUS = """
def widen():
    os.sched_setaffinity(0, range(1024))
    return sorted(os.sched_getaffinity(0))
def move(cpu):
    os.sched_setaffinity(0, {cpu})
    return cpu
own = sorted(os.sched_getaffinity(0))
tell(own=own, widened=tried(widen), moved=[tried(lambda: move(cpu)) for cpu in OTHERS])
"""


def test_a_cell_stays_on_its_cpus(inside: Inside, cell: Job) -> None:
    others = sorted(set(range(os.cpu_count() or 1)) - set(cell.cpus))
    seen = inside(CPUS.replace("OTHERS", str(others)))
    assert seen["own"] == seen["widened"] == list(cell.cpus)
    assert seen["moved"] == ["OSError"] * len(others)
