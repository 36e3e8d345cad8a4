"""Podman's seccomp profile, closed as far as Docker's.

Podman's lets a container without a capability make namespaces of its own, mount there, and use the
kernel's keyrings: code of the kernel that no cell needs, and that faults are found in.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.errors import MissingError
from bench.records.cache import cache_folder, sha256_of, store

ALLOW = "SCMP_ACT_ALLOW"
# Without clone3 the C library takes clone, whose flags a filter can see.
CLOSED = frozenset(
    (
        *("clone3", "setns", "unshare"),
        *("fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount"),
        *("open_tree", "pivot_root", "umount", "umount2"),
        *("add_key", "keyctl", "request_key"),
        *("pidfd_getfd", "syslog"),
    )
)
NEW_NAMESPACE = 0x7E020000  # every CLONE_NEW... of clone(2)
CLONE = {
    "names": ["clone"],
    "action": ALLOW,
    "args": [{"index": 0, "value": NEW_NAMESPACE, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
}


def closed(profile: Mapping[str, Any]) -> dict[str, Any]:
    """A profile without CLOSED, and with clone for processes and threads alone."""
    return {**profile, "syscalls": [*_closed(profile["syscalls"]), CLONE]}


def _closed(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for group in groups:
        names = [name for name in group["names"] if name not in CLOSED and name != "clone"]
        if group["action"] != ALLOW:
            yield group
        elif names:
            yield {**group, "names": names}


def profile_file(info: Mapping[str, Any]) -> Path | None:
    """The file of the closed profile; None where the kernel has no seccomp.

    `info`: what `podman info` tells.

    Raises:
        MissingError: if podman's own profile cannot be read.
    """
    security = info["host"]["security"]
    if not security["seccompEnabled"]:
        return None
    source = Path(security.get("seccompProfilePath") or "/usr/share/containers/seccomp.json")
    try:
        profile = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MissingError(
            f"podman's seccomp profile {source} cannot be read ({error}). Install the package that "
            "has it (containers-common, or golang-github-containers-common), or use docker."
        ) from error
    files = {"": json.dumps(closed(profile)).encode()}
    return store(cache_folder() / "seccomp" / f"{sha256_of(files)}.json", lambda: files)
