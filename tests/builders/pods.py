"""The pods of docs/cluster.md's Job, as Docker starts them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.builders.shared import ROOT

PAGE = ROOT / "docs" / "cluster.md"
BYTES = {"Gi": "g", "Mi": "m"}  # Kubernetes' units of memory in Docker's spelling
REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")

Manifest = dict[str, Any]


def manifest() -> Manifest:
    """The Job as the page has it."""
    (block,) = re.findall(r"```yaml\n(# bench-job\.yaml\n.*?)```", PAGE.read_text(), re.DOTALL)
    job: Manifest = yaml.safe_load(block)
    return job


def pod_of(job: Manifest) -> Manifest:
    """What every pod is made from."""
    pod: Manifest = job["spec"]["template"]["spec"]
    return pod


def docker_run(job: Manifest, index: int, name: str, volume: Path, image: str) -> list[str]:
    """What starts the pod of an index: its own words, user, rights and limits; without its GPU."""
    pod = pod_of(job)
    (container,) = pod["containers"]
    user, rights = pod["securityContext"], container["securityContext"]
    limits, environment = container["resources"]["limits"], {"JOB_COMPLETION_INDEX": str(index)}
    program, *words = (expanded(word, environment) for word in command(container))
    memory = limits["memory"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    return [
        *("docker", "run", "--rm", "--name", name),
        *("--env", f"JOB_COMPLETION_INDEX={index}"),
        *("--user", f"{user['runAsUser']}:{user['runAsGroup']}"),
        *(f"--cap-drop={right}" for right in rights["capabilities"]["drop"]),
        *([] if rights["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]),
        *(["--read-only"] if rights["readOnlyRootFilesystem"] else []),
        *("--cpus", limits["cpu"], "--memory", f"{memory[:-2]}{BYTES[memory[-2:]]}"),
        *("--volume", f"{volume}:{mounts['work']}"),
        *("--tmpfs", f"{mounts['tmp']}:exec,mode=1777"),
        *("--entrypoint", program, image, *words),
    ]


def command(container: Manifest) -> list[str]:
    return [*container["command"], *container["args"]]


def expanded(word: str, environment: Mapping[str, str]) -> str:
    """As a kubelet does: $(NAME) is a variable if there is one, and $$ is a dollar sign."""

    def meant(found: re.Match[str]) -> str:
        return "$" if found[1] is None else environment.get(found[1], found[0])

    return REFERENCE.sub(meant, word)
