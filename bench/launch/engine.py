"""A container engine through its command line: docker, or podman, which takes the same words."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.errors import EngineError

ANSWER_TIMEOUT_S = 20.0
COMMAND_TIMEOUT_S = 60.0
CONTROLLERS = frozenset({"cpuset", "memory", "pids"})  # control groups that cells are put into


def controllers(engine: str, info: Mapping[str, Any]) -> frozenset[str]:
    """Which of CONTROLLERS an engine can hold a container by. `info`: what it tells of itself.

    A rootless engine has those that were delegated to its user.
    """
    if engine == "podman":
        host = info["host"]
        told = host.get("cgroupControllers")  # since podman 3.2
        if not host["security"]["rootless"]:
            return CONTROLLERS if told is None else CONTROLLERS & set(told)
        # Rootless, version 1 and the manager cgroupfs take limits and hold nobody to them
        # (https://github.com/containers/podman/issues/21575).
        unheld = host["cgroupVersion"] == "v1" or host["cgroupManager"] == "cgroupfs"
        return frozenset() if unheld else CONTROLLERS & set(told or ())
    if info["CgroupDriver"] == "none":  # rootless, with control groups of version 1
        return frozenset()
    told = {"cpuset": info["CPUSet"], "memory": info["MemoryLimit"], "pids": info["PidsLimit"]}
    return frozenset(name for name, there in told.items() if there)


def confinement(engine: str, info: Mapping[str, Any]) -> frozenset[str]:
    """Of "rootless", "selinux" and "userns" (user ids mapped to others), what holds containers.

    `info`: what the engine tells of itself.
    """
    if engine == "podman":
        security = info["host"]["security"]
        told = {"rootless": security["rootless"], "selinux": security.get("selinuxEnabled")}
        return frozenset(name for name, there in told.items() if there)
    options = {each.partition(",")[0] for each in info.get("SecurityOptions") or ()}
    return frozenset(
        name for name in ("rootless", "selinux", "userns") if f"name={name}" in options
    )


@dataclass(frozen=True)
class Engine:
    name: str  # the program: "docker" or "podman"

    def command(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Standard output of one engine command.

        Raises:
            EngineError: if the engine cannot be reached or refuses; with its own words.
        """
        try:
            answer = subprocess.run(
                [self.name, *arguments],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout_s,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C must not cut off our bookkeeping
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EngineError(f"{self.name} {arguments[0]} could not be run: {error}") from error
        if answer.returncode != 0:
            reason = " ".join(answer.stderr.split())[-500:]
            raise EngineError(f"{self.name} {arguments[0]} failed: {reason}")
        return answer.stdout

    def why_not(self) -> str | None:
        """None if the engine answers, else why it does not."""
        try:
            self.command("version", "--format", "{{json .}}", timeout_s=ANSWER_TIMEOUT_S)
        except EngineError as error:
            return str(error)
        return None

    def version(self) -> str | None:
        """The version of the engine itself, not of its client; None where it does not tell."""
        answer = self.command("version", "--format", "{{json .}}", timeout_s=ANSWER_TIMEOUT_S)
        told = json.loads(answer)
        part = told.get("Server") or told.get("Client") or {}  # podman may have no server
        version: str | None = part.get("Version")
        return version

    def info(self) -> dict[str, Any]:
        """What the engine tells of itself; docker and podman have little of it in common."""
        info: dict[str, Any] = json.loads(self.command("info", "--format", "{{json .}}"))
        return info

    def tags(self, repository: str) -> list[str]:
        """All images of a name, newest first."""
        words = "{{.Repository}}:{{.Tag}}"
        return self.command("image", "ls", "--format", words, repository).split()

    def image_id(self, image: str) -> str | None:
        """The id (digest of the configuration) of a local image, None if there is none."""
        try:
            told = self.command("image", "inspect", "--format", "{{.Id}}", image).strip()
            return f"sha256:{told.removeprefix('sha256:')}"  # podman leaves out what kind it is
        except EngineError as error:
            if "no such image" in str(error).lower() or "not known" in str(error).lower():
                return None
            raise

    def state(self, container: str) -> dict[str, Any]:
        """The engine's account of a container: ExitCode, OOMKilled, Status, ..."""
        answer = self.command("container", "inspect", "--format", "{{json .State}}", container)
        state: dict[str, Any] = json.loads(answer)
        return state

    def identity(self, container: str) -> tuple[str, int]:
        """(id, pid of its first process as the engine's machine numbers it; 0 if none runs)."""
        words = "{{.Id}} {{.State.Pid}}"
        told = self.command("container", "inspect", "--format", words, container).split()
        return told[0], int(told[1])

    def containers(self, label: str) -> list[str]:
        return self.command("ps", "--all", "--quiet", "--filter", f"label={label}").split()

    def remove(self, *containers: str) -> None:
        """Kill and remove; a container that is gone already is no error."""
        for container in containers:
            try:
                self.command("rm", "--force", "--volumes", container)
            except EngineError as error:
                if "no such container" not in str(error).lower():
                    raise
