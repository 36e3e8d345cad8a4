"""What the kernel's accounts say of a host and of a cell's control group.

Made-up trees for the kernels that we do not have, and the real one of this machine.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.launch.engine import Engine
from bench.launch.image import find_image
from bench.measure import cgroup, host
from bench.measure.cgroup import Cgroup
from bench.measure.host import TICKS_PER_S, CellProcesses, read_host

MIB = 2**20
PID = 4711


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /proc and /sys, to be written."""
    for module in (cgroup, host):
        monkeypatch.setattr(module, "PROC", tmp_path / "proc")
    monkeypatch.setattr(cgroup, "MOUNT", tmp_path / "cgroup")
    monkeypatch.setattr(host, "CPUS", tmp_path / "cpus")
    return tmp_path


def member_of(kernel: Path, *lines: str, pid: int = PID) -> None:
    write(kernel / "proc" / str(pid) / "cgroup", "".join(f"{line}\n" for line in lines))


class TestVersion1:
    GROUP = "docker/0123abc"

    @pytest.fixture(params=["separate", "cpu,cpuacct", "cpuacct,cpu", "symlinks"])
    def group(self, request: pytest.FixtureRequest, kernel: Path) -> Cgroup | None:
        """As distributions mount it: one tree each, or CPU and its accounts in one."""
        mount, joint = kernel / "cgroup", request.param
        if joint == "separate":
            lines = ["3:cpuacct:/docker/0123abc", "2:cpu:/docker/0123abc"]
            cpu, cpuacct = mount / "cpu", mount / "cpuacct"
        else:
            joint = "cpu,cpuacct" if joint == "symlinks" else joint
            lines = [f"2:{joint}:/docker/0123abc"]
            cpu = cpuacct = mount / joint
        member_of(kernel, "12:name=systemd:/elsewhere", "4:memory:/docker/0123abc", *lines, "0::/")
        memory = mount / "memory"
        for tree in {cpu, cpuacct, memory}:
            write(tree / self.GROUP / "cgroup.procs", "4711\n4712\n")
        if request.param == "symlinks":
            (mount / "cpu").symlink_to(joint)
            (mount / "cpuacct").symlink_to(joint)
        write(memory / self.GROUP / "memory.max_usage_in_bytes", f"{300 * MIB}\n")
        write(cpuacct / self.GROUP / "cpuacct.usage", "2500000000\n")
        quota = "nr_periods 10\nnr_throttled 5\nthrottled_time 1500000000\nnr_bursts 0\n"
        write(cpu / self.GROUP / "cpu.stat", quota)
        write(cpu / "docker" / "cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n")
        write(cpu / "cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n")
        return Cgroup.of(PID)

    def test_its_figures(self, group: Cgroup | None) -> None:
        assert group is not None
        assert self.GROUP in str(group.memory)
        assert group.pids() == {4711, 4712}
        assert group.memory_peak_mib() == 300.0
        assert group.cpu_s() == 2.5
        assert group.throttled_s() == 1.5


class TestVersion2:
    GROUP = "system.slice/docker-0123abc.scope"

    @pytest.fixture
    def folder(self, kernel: Path) -> Path:
        member_of(kernel, f"0::/{self.GROUP}")
        folder = kernel / "cgroup" / self.GROUP
        write(folder / "cgroup.procs", "4711\n")
        write(folder / "memory.peak", f"{300 * MIB}\n")
        usage = "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n"
        write(folder / "cpu.stat", f"{usage}nr_throttled 5\nthrottled_usec 1500000\n")
        write(kernel / "cgroup" / "cpu.stat", "usage_usec 99000000\n")  # a root has no quota
        return folder

    def test_its_figures(self, folder: Path) -> None:
        group = Cgroup.of(PID)
        assert group == Cgroup(folder, folder, folder)
        assert group.pids() == {4711}
        assert group.memory_peak_mib() == 300.0
        assert group.cpu_s() == 2.5
        assert group.throttled_s() == 1.5

    def test_before_linux_5_19_there_is_no_peak(self, folder: Path) -> None:
        (folder / "memory.peak").unlink()
        group = Cgroup.of(PID)
        assert group is not None
        assert group.memory_peak_mib() is None

    def test_a_quota_of_a_group_above_stops_the_cell_as_well(self, folder: Path) -> None:
        write(folder.parent / "cpu.stat", "usage_usec 0\nnr_throttled 9\nthrottled_usec 250000\n")
        group = Cgroup.of(PID)
        assert group is not None
        assert group.throttled_s() == 1.75

    def test_a_group_that_keeps_no_account_itself_tells_of_the_one_above(
        self, folder: Path
    ) -> None:
        write(folder / "cpu.stat", "usage_usec 2500000\n")
        group = Cgroup.of(PID)
        assert group is not None
        assert group.throttled_s() is None  # no group in view keeps one: unknown, not zero
        write(folder.parent / "cpu.stat", "usage_usec 0\nthrottled_usec 250000\n")
        assert group.throttled_s() == 0.25

    def test_nothing_above_the_mount_is_asked(self, folder: Path, kernel: Path) -> None:
        write(kernel / "cpu.stat", "throttled_usec 99000000\n")
        group = Cgroup.of(PID)
        assert group is not None
        assert group.throttled_s() == 1.5

    def test_a_group_that_has_gone_tells_nothing(self, folder: Path) -> None:
        group = Cgroup.of(PID)
        assert group is not None
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        assert group.pids() == set()
        figures = [group.memory_peak_mib(), group.cpu_s(), group.throttled_s()]
        assert figures == [None, None, None]
        sample = read_host((0,), CellProcesses(PID, own_cgroup=group))
        assert sample.rss_mib is sample.cell_cpu_s is sample.cgroup_peak_mib is None


class TestBothVersions:
    """Version 1 for the controllers, version 2 beside it, as `systemd` calls hybrid."""

    def test_controllers_of_version_1_come_first(self, kernel: Path) -> None:
        member_of(kernel, "3:memory:/m", "2:cpu,cpuacct:/c", "1:name=systemd:/s", "0::/u")
        mount = kernel / "cgroup"
        for place in ("memory/m", "cpu,cpuacct/c", "systemd/s", "unified/u"):
            write(mount / place / "cgroup.procs", "4711\n")
        joint = mount / "cpu,cpuacct/c"
        assert Cgroup.of(PID) == Cgroup(mount / "memory/m", joint, joint)

    def test_a_controller_that_version_1_lacks_is_looked_for_in_version_2(
        self, kernel: Path
    ) -> None:
        """As where the kernel starts with cgroup_disable=memory, or memory is of version 2."""
        member_of(kernel, "2:cpu,cpuacct:/c", "0::/u")
        mount = kernel / "cgroup"
        write(mount / "cpu,cpuacct/c/cgroup.procs", "4711\n")
        write(mount / "cpu,cpuacct/c/cpuacct.usage", "1000000000\n")
        write(mount / "unified/u/cgroup.procs", "4711\n")
        write(mount / "unified/u/memory.peak", f"{5 * MIB}\n")
        group = Cgroup.of(PID)
        assert group is not None
        assert (group.memory_peak_mib(), group.cpu_s()) == (5.0, 1.0)


class TestOutOfView:
    def test_a_process_that_has_ended(self, kernel: Path) -> None:
        assert Cgroup.of(PID) is None

    def test_a_real_process_that_has_ended(self) -> None:
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        assert Cgroup.of(child.pid) is None
        cell = CellProcesses(child.pid, own_cgroup=None)
        assert (cell.pids(), cell.cpu_s()) == (set(), None)

    @pytest.mark.parametrize("path", ["/../docker/0123abc", "/..", "/a/../../b"])
    def test_a_path_that_leads_out_of_our_container(self, kernel: Path, path: str) -> None:
        """The folder that it would lead to exists: only the path's form can tell."""
        member_of(kernel, f"0::{path}")
        (kernel / "cgroup" / "a").mkdir(parents=True)
        write((kernel / "cgroup" / path.lstrip("/")).resolve() / "cgroup.procs", "4711\n")
        assert Cgroup.of(PID) is None

    def test_two_dots_in_a_name_lead_nowhere(self, kernel: Path) -> None:
        member_of(kernel, "0::/a..b")
        write(kernel / "cgroup" / "a..b" / "cgroup.procs", "4711\n")
        assert Cgroup.of(PID) is not None

    def test_a_path_that_is_not_mounted_here(self, kernel: Path) -> None:
        member_of(kernel, "0::/docker/0123abc")
        write(kernel / "cgroup" / "cgroup.procs", "1\n")
        assert Cgroup.of(PID) is None

    @pytest.mark.parametrize("below", ["", "ours"])
    def test_the_hosts_path_in_a_container_that_has_its_own_group_alone(
        self, below: str, kernel: Path
    ) -> None:
        """Version 2 with --cgroupns=host: what is mounted is the container's group."""
        member_of(kernel, f"0::/system.slice/docker-0123abc.scope/{below}".rstrip("/"))
        folder = kernel / "cgroup" / below
        write(kernel / "cgroup" / "cgroup.procs", "1\n")
        write(folder / "cgroup.procs", "47\n4711\n")
        write(kernel / "cgroup" / "memory.max", f"{16 * MIB}\n")
        group = Cgroup.of(PID)
        assert group == Cgroup(folder, folder, folder)
        assert group.memory_limit_mib() == 16

    def test_the_same_of_version_1(self, kernel: Path) -> None:
        member_of(kernel, "9:memory:/docker/abc", "4:cpu,cpuacct:/docker/abc", "0::/docker/abc")
        memory, cpu = (kernel / "cgroup" / name for name in ("memory", "cpu,cpuacct"))
        for folder in (memory, cpu):
            write(folder / "cgroup.procs", "4711\n")
        write(memory / "memory.limit_in_bytes", f"{16 * MIB}\n")
        group = Cgroup.of(PID)
        assert group == Cgroup(memory, cpu, cpu)
        assert group.memory_limit_mib() == 16

    def test_no_groups_at_all(self, kernel: Path) -> None:
        member_of(kernel)
        write(kernel / "cgroup" / "cgroup.procs", "1\n")
        assert Cgroup.of(PID) is None

    def test_a_path_with_a_colon(self, kernel: Path) -> None:
        member_of(kernel, "0::/a:b:c")
        write(kernel / "cgroup" / "a:b:c" / "cgroup.procs", "4711\n")
        assert Cgroup.of(PID) is not None

    def test_in_a_namespace_of_our_own_our_group_is_the_root(self, kernel: Path) -> None:
        member_of(kernel, "0::/")
        write(kernel / "cgroup" / "cgroup.procs", "4711\n")
        write(kernel / "cgroup" / "cpu.stat", "usage_usec 7\nthrottled_usec 2000000\n")
        group = Cgroup.of(PID)
        assert group is not None
        assert group.throttled_s() == 2.0  # once, not once for us and once for the root


def line(name: str, *ticks: int) -> str:
    return " ".join(map(str, (name, *ticks)))


class TestProcessorTime:
    """/proc/stat: user nice system idle iowait irq softirq steal guest guest_nice, in ticks."""

    def read(
        self, kernel: Path, cpus: tuple[int, ...], *lines: str
    ) -> tuple[float | None, float | None]:
        write(kernel / "proc" / "stat", "\n".join((*lines, "intr 5 0 0", "ctxt 9", "btime 1")))
        sample = read_host(cpus, None)
        return sample.busy_s, sample.steal_s

    def test_idle_and_waiting_is_not_busy_and_a_guest_counts_once(self, kernel: Path) -> None:
        ticks = [1 << bit for bit in range(10)]
        busy, steal = self.read(kernel, (0,), line("cpu", *ticks), line("cpu0", *ticks))
        assert busy == (1 + 2 + 4 + 32 + 64) / TICKS_PER_S
        assert steal == 128 / TICKS_PER_S

    def test_cpu1_is_neither_cpu10_nor_the_sum(self, kernel: Path) -> None:
        lines = [line(f"cpu{n}", 1000 * (n + 1), 0, 0, 0, 0, 0, 0, n) for n in (0, 1, 10, 11, 100)]
        lines.insert(0, line("cpu", 999_999, 0, 0, 0, 0, 0, 0, 999))
        assert self.read(kernel, (1,), *lines) == (2000 / TICKS_PER_S, 1 / TICKS_PER_S)
        assert self.read(kernel, (10,), *lines) == (11_000 / TICKS_PER_S, 10 / TICKS_PER_S)
        assert self.read(kernel, (1,), *lines[3:]) == (None, None)  # cpu1 is not there
        assert self.read(kernel, (100, 1), *lines) == (103_000 / TICKS_PER_S, 101 / TICKS_PER_S)

    def test_more_cpus_than_a_word_has_bits(self, kernel: Path) -> None:
        lines = [line(f"cpu{n}", 100, 0, 0, 0, 0, 0, 0, 1) for n in range(256)]
        cpus = tuple(range(60, 200))
        assert self.read(kernel, cpus, *lines) == (14_000 / TICKS_PER_S, 140 / TICKS_PER_S)

    def test_a_cpu_that_is_not_there_makes_the_whole_unknown(self, kernel: Path) -> None:
        lines = [line("cpu0", 1, 2, 3, 4, 5, 6, 7, 8)]
        assert self.read(kernel, (0, 1), *lines) == (None, None)
        assert self.read(kernel, (1,), *lines) == (None, None)

    def test_a_kernel_that_does_not_tell_of_steal(self, kernel: Path) -> None:
        assert self.read(kernel, (0,), line("cpu0", 1, 2, 3, 4, 5, 6, 7)) == (None, None)

    def test_no_account_at_all(self, kernel: Path) -> None:
        sample = read_host((0,), None)
        assert sample.busy_s is sample.steal_s is None

    def test_the_real_one_grows_while_we_work(self) -> None:
        cpus = tuple(sorted(os.sched_getaffinity(0)))
        before = read_host(cpus, None)
        spend(0.1)
        after = read_host(cpus, None)
        assert before.busy_s is not None
        assert after.busy_s is not None
        assert after.busy_s - before.busy_s >= 0.05
        assert after.load is not None


class TestClock:
    def test_a_mean_over_the_cells_cpus_alone(self, kernel: Path) -> None:
        for cpu, khz in ((0, 800_000), (1, 2_000_000), (10, 3_000_000)):
            write(kernel / "cpus" / f"cpu{cpu}" / "cpufreq" / "scaling_cur_freq", f"{khz}\n")
        assert read_host((1, 10), None).cpu_mhz == 2500.0
        assert read_host((0,), None).cpu_mhz == 800.0
        assert read_host((0, 2), None).cpu_mhz is None  # a mean over some is not the cell's

    def test_no_driver(self, kernel: Path) -> None:
        assert read_host((0,), None).cpu_mhz is None


class TestMemory:
    """Resident and swapped memory of the processes of a group, by /proc/PID/status."""

    def of(self, kernel: Path, *statuses: str) -> tuple[float | None, float | None]:
        folder = kernel / "cgroup" / "c"
        write(folder / "cgroup.procs", "".join(f"{pid}\n" for pid in range(1, 6)))
        for pid, status in enumerate(statuses, start=1):
            write(kernel / "proc" / str(pid) / "status", status)
        cell = CellProcesses(1, own_cgroup=Cgroup(folder, folder, folder))
        sample = read_host((0,), cell)
        return sample.rss_mib, sample.swapped_mib

    def test_all_processes_that_still_live_are_added(self, kernel: Path) -> None:
        first = "Name:\tpython\nVmPeak:\t 9999 kB\nVmRSS:\t  2048 kB\nVmSwap:\t     512 kB\n"
        second = "Name:\tpython\nVmHWM:\t 9999 kB\nVmRSS:\t  1024 kB\nVmSwap:\t       0 kB\n"
        zombie = "Name:\tpython\nState:\tZ (zombie)\n"
        assert self.of(kernel, first, second, zombie) == (3.0, 0.5)

    def test_none_that_can_be_read_is_unknown(self, kernel: Path) -> None:
        assert self.of(kernel) == (None, None)
        assert self.of(kernel, "Name:\tpython\nState:\tZ (zombie)\n") == (None, None)

    def test_a_kernel_that_does_not_tell_of_swap_has_not_swapped_nothing(
        self, kernel: Path
    ) -> None:
        assert self.of(kernel, "Name:\tpython\nVmRSS:\t  2048 kB\n") == (2.0, None)


def spend(seconds: float) -> None:
    """Processor time, however long that takes."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))


# A process with a child: both hold some memory; each order arrives as a line.
TREE = """
import subprocess, sys, time
def spend(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))
held = bytearray(b'1') * (40 << 20)
child = subprocess.Popen([sys.executable, '-u', '-c', '''
import sys, time
held = bytearray(b'1') * (60 << 20)
end = time.process_time() + 0.3
while time.process_time() < end:
    sum(range(1000))
print('ready', flush=True)
sys.stdin.read()
'''], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.readline()
child.stdin.close()
child.wait()
print('ended', flush=True)
sys.stdin.readline()
"""


@contextmanager
def running(script: str) -> Iterator["subprocess.Popen[str]"]:
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def say(child: "subprocess.Popen[str]", text: str) -> None:
    assert child.stdin is not None
    child.stdin.write(text + "\n")
    child.stdin.flush()


def hear(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_a_real_tree_of_processes_also_after_one_of_them_ended() -> None:
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    with running(TREE) as parent:
        grandchild = int(hear(parent))
        cell = CellProcesses(parent.pid, own_cgroup=None)
        assert cell.pids() == {parent.pid, grandchild}
        both = read_host(cpus, cell)
        assert both.rss_mib is not None
        assert both.cell_cpu_s is not None
        assert 100 < both.rss_mib < 500
        assert both.cell_cpu_s >= 0.3  # the child's alone
        say(parent, "end the child")
        assert hear(parent) == "ended"
        one = read_host(cpus, cell)
        assert cell.pids() == {parent.pid}
        assert one.rss_mib is not None
        assert one.cell_cpu_s is not None
        assert one.rss_mib < both.rss_mib - 50
        assert one.cell_cpu_s >= both.cell_cpu_s - 2 / TICKS_PER_S  # what it spent stays spent


@pytest.mark.parametrize("name", [rb"caf\xc3", rb"\xff\xfe", rb"\x1cVmRSS:9999999"])
def test_a_process_may_call_itself_anything(name: bytes) -> None:
    """The kernel cuts a name off after 15 bytes, also in the middle of a letter."""
    script = (
        f"open('/proc/self/comm', 'wb').write(b'{name.decode()}')\n"
        "held = bytearray(b'1') * (40 << 20)\n"
        "print('ready', flush=True)\n"
        "input()\n"
    )
    with running(script) as child:
        assert hear(child) == "ready"
        rss_mib = read_host((0,), CellProcesses(child.pid, own_cgroup=None)).rss_mib
        assert rss_mib is not None
        statm = Path(f"/proc/{child.pid}/statm").read_text().split()
        assert rss_mib == pytest.approx(int(statm[1]) * os.sysconf("SC_PAGE_SIZE") / MIB, abs=1)


def test_before_the_cell_is_found_only_the_host_is_known() -> None:
    sample = read_host(tuple(sorted(os.sched_getaffinity(0))), None)
    own = (sample.cell_cpu_s, sample.throttled_s, sample.rss_mib, sample.swapped_mib)
    assert own == (None, None, None, None)
    assert sample.busy_s is not None


class TestThisMachine:
    def test_our_own_group(self) -> None:
        group = Cgroup.of(os.getpid())
        if group is None:
            pytest.skip("no control group of ours is in our view")
        assert os.getpid() in group.pids()
        before = group.cpu_s()
        spend(0.1)
        after = group.cpu_s()
        if before is not None:
            assert after is not None
            assert after - before >= 0.09
        peak_mib = group.memory_peak_mib()
        assert peak_mib is None or peak_mib > 1

    def test_a_container_with_a_quota(self, engine: Engine) -> None:
        """It wants all of a CPU, gets a fifth, and has a memory of its own."""
        found = find_image(engine, "cpu")
        assert found is not None
        text = "held = bytearray(b'1') * (50 << 20)\nwhile True: pass"
        options = ["--detach", "--rm", "--network", "none", "--cpus", "0.2", "--memory", "256m"]
        name = engine.command("run", *options, found[1], "python3", "-c", text).strip()
        try:
            _, pid = engine.identity(name)
            group = Cgroup.of(pid)
            if group is None or name not in str(group.memory):
                pytest.skip("the engine's processes are not in our view")
            cell = CellProcesses(pid, own_cgroup=group)
            for _ in range(300):
                last = read_host((0,), cell)
                if last.cell_cpu_s is None or last.cell_cpu_s > 0.4:
                    break
                time.sleep(0.2)
            assert last.cell_cpu_s is not None
            assert last.cell_cpu_s > 0.4
            assert pid in cell.pids()
            assert last.rss_mib is not None
            assert 50 < last.rss_mib < 256
            assert last.cgroup_peak_mib is not None
            assert 50 < last.cgroup_peak_mib <= 256
            assert last.throttled_s is not None
            assert last.throttled_s > 0.2
        finally:
            engine.remove(name)
