"""The bundle of the published results, and what others make of it."""

import hashlib
import tarfile
from pathlib import Path

from bench.report.archive import pack

NAME = "original-cpu"
SUMS = f"{NAME}/SHA256SUMS"
Members = dict[str, bytes]


def contents(whole: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = whole.extractfile(info)
    assert file is not None
    return file.read()


def written(file: Path, members: Members) -> Path:
    file.write_bytes(pack(members.items()))
    return file


def with_sums(members: Members, top: str = NAME) -> Members:
    """The same with checksums made anew, as a forger would."""
    sums = f"{top}/SHA256SUMS"
    rest = {name: content for name, content in members.items() if name != sums}
    lines = [
        f"{hashlib.sha256(content).hexdigest()}  {name.removeprefix(f'{top}/')}\n"
        for name, content in rest.items()
    ]
    return {**rest, sums: "".join(lines).encode()}


def damaged(content: bytes) -> bytes:
    """One byte changed in the middle; an empty file gets one."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] if content else b"x"


def pictures(members: Members) -> tuple[str, ...]:
    return tuple(sorted(name for name in members if name.endswith((".png", ".svg"))))


def unpacked(file: Path) -> Members:
    with tarfile.open(file) as whole:
        return {info.name: contents(whole, info) for info in whole.getmembers()}
