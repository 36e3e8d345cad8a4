"""What engines tell of themselves, as recorded: by which control groups they hold cells."""

from typing import Any

import pytest

from bench.doctor import cells
from bench.launch import container
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


def docker_in(*options: str) -> dict[str, Any]:
    seccomp = "name=seccomp,profile=builtin"
    return docker("systemd", "2", cpuset=True) | {"SecurityOptions": [seccomp, *options]}


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


def podman_in(rootless: bool, selinux: bool) -> dict[str, Any]:
    told = podman(rootless, "systemd", "v2", "cpuset", "memory", "pids")
    security = told["host"]["security"] | {"selinuxEnabled": selinux, "seccompEnabled": False}
    return {"host": told["host"] | {"security": security}}


NOBODY, CALLER = "65532:65532", "1000:1000"
NO_LABEL, NO_MAP, KEPT = "--security-opt label=disable", "--userns host", "--userns keep-id"


@pytest.mark.parametrize(
    ("name", "info", "uid", "user", "words"),
    [
        ("docker", docker_in(), 1000, CALLER, ""),
        ("docker", docker_in("name=rootless", "name=cgroupns"), 1000, "0:0", ""),
        ("docker", docker_in("name=rootless"), 0, "0:0", ""),
        ("docker", docker_in("name=userns"), 1000, CALLER, NO_MAP),
        ("docker", docker_in("name=userns"), 0, NOBODY, NO_MAP),
        ("docker", docker_in("name=selinux"), 1000, CALLER, NO_LABEL),
        ("docker", docker_in("name=selinux", "name=userns"), 0, NOBODY, f"{NO_MAP} {NO_LABEL}"),
        ("docker", docker_in("name=apparmor"), 0, NOBODY, ""),
        ("podman", podman_in(rootless=True, selinux=True), 1000, CALLER, f"{NO_LABEL} {KEPT}"),
        ("podman", podman_in(rootless=False, selinux=True), 0, NOBODY, NO_LABEL),
        ("podman", podman_in(rootless=True, selinux=False), 1000, CALLER, KEPT),
    ],
)
def test_a_cell_can_use_its_files_however_the_engine_holds_it(
    name: str,
    info: dict[str, Any],
    uid: int,
    user: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else every cell would end without a result: it could not even read what it is to do."""
    commands: list[str] = []

    def command(self: Engine, *arguments: str, timeout_s: float = 0) -> str:
        commands.append(" ".join(arguments))
        return ""

    monkeypatch.setattr(Engine, "command", command)
    monkeypatch.setattr(Engine, "info", lambda self: info)
    monkeypatch.setattr("os.getuid", lambda: uid)
    monkeypatch.setattr("os.getgid", lambda: uid)
    monkeypatch.setattr(container, "_image_id", lambda *_: "sha256:123")
    monkeypatch.setattr(ContainerLauncher, "_gpu", lambda self, uuid: [])
    ContainerLauncher(Engine(name)).reach("GPU-a")
    of_podman = "--read-only-tmpfs=false --stop-timeout 0 "
    told = commands[0].replace(of_podman, "").partition(" --user ")[2].partition(" --env ")[0]
    assert told == f"{user} {words}".strip()


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
