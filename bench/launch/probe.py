"""python -m bench.launch.probe ASKED: what is installed for an interpreter, as JSON.

Runs under the worker's interpreter and imports nothing of what it is asked about: importing torch
takes seconds, and somebody's class has no business on the launching side.

ASKED: {"packages": [name, ...], "modules": [name, ...]}.
"""

import json
import platform
import re
import site
import sys
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    PackagePath,
    distributions,
    version,
)
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.records.cache import sha256_of

ANSWER = "bench.launch.probe answers: "  # before the JSON, which may not be all that is printed

# Files that run code as an interpreter starts and change nothing of a cell: of setuptools and
# virtualenv, editable packages, namespaces, coverage.
HARMLESS = re.compile(
    r"distutils-precedence|_virtualenv|__editable__.*|.*-nspkg|a1_coverage", re.IGNORECASE
)
# The sitecustomize.py that Debian and Ubuntu ship, for a tool that reports crashes.
DEBIANS = "43d81125d92376b1a69d53a71126a041cc9a18d8080e92dea0a2ae23be138b1e"


def main() -> None:
    asked = json.loads(sys.argv[1])
    answer = {
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in asked["packages"]},
        "modules": {name: module(name) for name in asked["modules"]},
        "startup": startup_code(),
    }
    print(f"\n{ANSWER}{json.dumps(answer)}")


def version_of(package: str) -> str | None:
    """None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def startup_code() -> dict[str, str]:
    """SHA-256 of what Python runs here by itself before any program, by name; most run nothing."""
    found = {}
    for folder in site.getsitepackages():
        for file in sorted(Path(folder).glob("*.pth")):
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except OSError:  # a folder, a link to nowhere: Python passes over them too
                continue
            lines = [line for line in text.splitlines() if line.startswith(("import ", "import\t"))]
            if lines and not HARMLESS.fullmatch(file.stem):
                imported = {name: _content(name) for name in map(_imported, lines)}
                found[file.name] = sha256_of({**imported, "lines": "\n".join(lines).encode()})
    own = _all_code("sitecustomize")
    if any(own.values()):
        found["sitecustomize"] = sha256_of(own)
    return {name: sha256 for name, sha256 in found.items() if sha256 != DEBIANS}


def _imported(line: str) -> str:
    return "".join(line.split()[1:2]).rstrip(",;")  # empty of an import of nothing, which fails


def _content(module: str) -> bytes:
    """Of the file that an import of it begins with; empty where there is none."""
    file = first_file(module)
    return file.read_bytes() if file and file.suffix == ".py" else b""


def _all_code(module: str) -> dict[str, bytes]:
    """Of one file as of `_content`; of a package every Python file, by its path there."""
    file = first_file(module)
    if not file or file.name != "__init__.py":
        return {"": _content(module)}
    files = (each for each in file.parent.rglob("*.py") if each.is_file())
    return {each.relative_to(file.parent).as_posix(): each.read_bytes() for each in files}


def module(name: str) -> dict[str, str] | None:
    """Where a module begins and the package that holds it; None where there is no such module.

    `file` is the one that its import begins with. `package` and `sha256`, of the package's code,
    are empty where no package tells which files it has there: an editable one does not.
    """
    file = first_file(name)
    if file is None:
        return None
    holder = next((each for each in distributions() if holds(each, file)), None)
    if holder is None:
        return {"file": str(file), "package": "", "sha256": ""}
    return {"file": str(file), "package": holder.name, "sha256": code_sha256(holder)}


def first_file(name: str) -> Path | None:
    """The file that an import of a module begins with.

    That of its first part; a namespace has none, and then it is the next part's.
    """
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        try:
            spec = find_spec(".".join(parts[:end]))
        except (ModuleNotFoundError, ValueError):  # the part before it is no package; no name
            return None
        if spec is None or spec.has_location:
            return Path(str(spec.origin)) if spec else None
    return None


def holds(package: Distribution, file: Path) -> bool:
    """Whether a package was installed with this file, which is not an editable one's."""
    folder, record = Path(str(package.locate_file(""))), package.read_text("RECORD")
    if not record or not file.is_relative_to(folder):
        return False
    name = file.relative_to(folder).as_posix()
    if name not in record or not any(str(each) == name for each in package.files or []):
        return False
    origin: dict[str, Any] = json.loads(package.read_text("direct_url.json") or "{}")
    return not origin.get("dir_info", {}).get("editable", False)


def code_sha256(package: Distribution) -> str:
    """SHA-256 over the names and bytes of the files that its RECORD lists, as they are now.

    Without what the installer writes beside them, which differs between machines: its notes,
    scripts with the interpreter's path, what Python compiled.
    """
    listed = [str(each) for each in package.files or [] if is_code(each)]
    files = {name: Path(str(package.locate_file(name))) for name in listed}
    return sha256_of({name: file.read_bytes() for name, file in files.items() if file.is_file()})


def is_code(file: PackagePath) -> bool:
    outside = file.is_absolute() or file.parts[0] == ".."
    return not (outside or file.parts[0].endswith(".dist-info") or file.suffix == ".pyc")


if __name__ == "__main__":
    main()
