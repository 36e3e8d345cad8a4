"""What engines tell of themselves, as recorded: by which control groups they hold cells."""

from typing import Any

import pytest

from bench.doctor import cells
from bench.launch.container import ContainerLauncher
from bench.launch.engine import CONTROLLERS, Engine, controllers
from bench.launch.seccomp import ALLOW, CLOSED, closed


def docker(driver: str, version: str, cpuset: bool, memory: bool = True) -> dict[str, Any]:
    return {
        "CgroupDriver": driver,
        "CgroupVersion": version,
        "CPUSet": cpuset,
        "MemoryLimit": memory,
        "PidsLimit": True,
        "SecurityOptions": ["name=seccomp,profile=default"],
    }


def podman(rootless: bool, manager: str, version: str, *told: str) -> dict[str, Any]:
    return {
        "host": {
            "cgroupControllers": list(told),
            "cgroupManager": manager,
            "cgroupVersion": version,
            "security": {"rootless": rootless, "seccompEnabled": True},
        }
    }


ROOT = podman(
    False, "cgroupfs", "v1", "cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "pids"
)
OLD = {"host": {"security": {"rootless": False}}}
RECORDED = [
    # docker 20.10 of root on Debian 12
    ("docker", docker("cgroupfs", "1", cpuset=True), CONTROLLERS),
    # docker 20.10, rootless, version 1: it says that it has them, and has none
    ("docker", docker("none", "1", cpuset=True), set()),
    # docker, rootless, version 2, with what systemd delegates by default
    ("docker", docker("systemd", "2", cpuset=False), {"memory", "pids"}),
    ("docker", docker("systemd", "2", cpuset=True), CONTROLLERS),
    # podman 4.3 of root on Debian 12; one before 3.2, which did not tell
    ("podman", ROOT, CONTROLLERS),
    ("podman", OLD, CONTROLLERS),
    # podman 5.2 of a user on Fedora 40; 4.1; with cpuset delegated
    ("podman", podman(True, "systemd", "v2", "cpu", "io", "memory", "pids"), {"memory", "pids"}),
    ("podman", podman(True, "systemd", "v2", "memory", "pids"), {"memory", "pids"}),
    ("podman", podman(True, "systemd", "v2", "cpuset", "memory", "pids"), CONTROLLERS),
    # podman of a user without systemd; with version 1
    ("podman", podman(True, "cgroupfs", "v2", "cpuset", "memory", "pids"), set()),
    ("podman", podman(True, "systemd", "v1"), set()),
]


@pytest.mark.parametrize(("name", "info", "held_by"), RECORDED)
def test_a_rootless_engine_holds_cells_by_what_was_delegated(
    name: str, info: dict[str, Any], held_by: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert controllers(name, info) == held_by
    monkeypatch.setattr(Engine, "info", lambda self: info)
    launcher = ContainerLauncher(Engine(name))
    assert launcher.enforces_cpus == ("cpuset" in held_by)
    assert launcher.enforces_memory == ("memory" in held_by)
    answer = cells.limits(launcher)
    assert answer.state == ("ok" if held_by == CONTROLLERS else "warning")
    for name in CONTROLLERS - held_by:
        assert name in answer.text
        assert "Delegate=cpu cpuset io memory pids" in (answer.remedy or "")


def test_podmans_seccomp_profile_is_closed_and_otherwise_its_own() -> None:
    errno = {"names": ["setns", "bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    own = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [errno]}
    own["syscalls"] += [{"names": ["read", "clone", *sorted(CLOSED)], "action": ALLOW}]
    own["syscalls"] += [{"names": ["setns"], "action": ALLOW, "includes": {"caps": ["SYS_ADMIN"]}}]
    made = closed(own)
    assert made["defaultAction"] == own["defaultAction"]
    kept, read, clone = made["syscalls"]
    assert (kept, read) == (errno, {"names": ["read"], "action": ALLOW})
    assert (clone["names"], clone["args"][0]["op"]) == (["clone"], "SCMP_CMP_MASKED_EQ")
