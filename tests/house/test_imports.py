"""A folder for every part of the design, and imports one way: read from the source, not run."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import bench

PACKAGE = Path(bench.__file__).parent
ROOT = PACKAGE.parent

# From the commands down to what knows nothing else: a room imports from rooms further right alone.
LAUNCHING = (
    *("__main__", "cli", "compare", "report", "run", "doctor", "launch", "measure"),
    *("merge", "matrix", "records", "statistics"),
)
PROGRAMS = "program"  # inside a program's cell, and what reads its output
WORKING = ("worker", "models", "optim")
OF_BORDER = {"border.atomic", "border.identity", "border.surroundings"}  # for programs
BOTH = ("border", "errors", "version", "")  # "": the package itself, which imports on use
ORDER = (*LAUNCHING, PROGRAMS, *WORKING, *BOTH)
MOST_ENTRIES = 20
LOGICAL = "border.logical"  # of the border, what the worker's side alone shares: it has torch


def name_of(file: Path) -> str:
    """bench/launch/job.py -> launch.job; bench/launch/__init__.py -> launch."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def part(module: str) -> str:
    return module.partition(".")[0]


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports anywhere in it, also within functions, in full."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            assert node.module is not None
            for alias in node.names:
                assert alias.name != "*", f"{file}:{node.lineno}: a star import"
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("bench.") in FILES else node.module


def own(module: str) -> set[str]:
    """The bench modules that a bench module imports, without the prefix."""
    found = {name for name in imports(FILES[module]) if part(name) == "bench"}
    return {name.removeprefix("bench").removeprefix(".") for name in found}


def foreign(module: str) -> set[str]:
    """The other packages that a bench module imports, without the standard library."""
    found = {part(name) for name in imports(FILES[module])}
    return found - {"bench"} - set(sys.stdlib_module_names)


def is_host(module: str) -> bool:
    return part(module) in LAUNCHING


def test_the_source_is_found():
    assert {"cli", "worker.cell", "models.nanogpt", "optim.adamw", "launch.local"} <= set(FILES)
    assert "models.decoder" in own("worker.registry") | own("worker.evaluation")
    assert foreign("worker.data") == {"numpy", "torch"}


def test_every_part_of_the_design_has_one_folder():
    tracked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "bench"]
    listed = subprocess.run(tracked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    entries = {line.split("/")[1] for line in listed.splitlines() if (ROOT / line).exists()}
    assert len(entries) <= MOST_ENTRIES
    assert {part(module) for module in FILES} == set(ORDER)


@pytest.mark.parametrize("room", LAUNCHING)
def test_imports_run_one_way(room):
    """Of the other side and of the border, the tests below say as much."""
    for module in FILES:
        if part(module) == room:
            found = {part(name) for name in own(module)}
            assert found <= set(ORDER[ORDER.index(room) :]), module


@pytest.mark.parametrize("module", ["errors", "version", ""])
def test_what_all_may_import_imports_nothing_of_ours(module):
    assert own(module) == set()


def test_no_two_classes_have_one_name():
    first: dict[str, str] = {}
    for module, file in FILES.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                other = first.setdefault(node.name, module)
                assert other == module, f"{node.name} is a class of {other} and of {module}"


@pytest.mark.parametrize("module", [name for name in FILES if part(name) in WORKING])
def test_the_workers_side_needs_torch_and_numpy_alone(module):
    assert foreign(module) <= {"torch", "numpy"}


@pytest.mark.parametrize("module", [name for name in FILES if part(name) in WORKING])
def test_the_workers_side_knows_of_bench_the_border_alone(module):
    assert {part(name) for name in own(module)} <= {*WORKING, "border"}


@pytest.mark.parametrize("module", [name for name in FILES if part(name) == "border"])
def test_the_border_knows_no_side(module):
    assert {part(name) for name in own(module)} <= {"border"}
    assert foreign(module) <= ({"torch"} if module == LOGICAL else set())


def test_what_runs_in_anybodys_image_needs_the_standard_library_alone():
    for module in FILES:
        if part(module) == PROGRAMS:
            assert foreign(module) == set(), module
            inside = {name for name in own(module) if part(name) != PROGRAMS}
            assert inside <= {"border.program", "worker.protocol"} | OF_BORDER, module


@pytest.mark.parametrize("room", ["models", "optim"])
def test_models_know_no_optimizer_and_optimizers_know_no_model(room):
    for module in FILES:
        if part(module) == room:
            assert {part(name) for name in own(module)} <= {room, "border"}, module


@pytest.mark.parametrize("module", [name for name in FILES if is_host(name)])
def test_the_launching_side_knows_nothing_of_the_workers(module):
    assert not {part(name) for name in own(module)} & set(WORKING)
    assert LOGICAL not in own(module)
    assert "torch" not in foreign(module)


def test_only_the_commands_know_the_commands():
    knowing = {module for module in FILES if "cli" in own(module)}
    assert knowing == {"__main__"}


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: own(module) - {module} for module in FILES}
    while leaves := {module for module, needed in graph.items() if not needed & graph.keys()}:
        graph = {module: needed for module, needed in graph.items() if module not in leaves}
    assert not graph, f"circles among {sorted(graph)}"


def test_no_import_hides_behind_type_checking():
    hiding = [name for name, file in FILES.items() if "TYPE_CHECKING" in file.read_text()]
    assert hiding == []


# --- What an installation without extras must do -------------------------------------------------

MODULE_OF = {"nvidia-ml-py": "pynvml", "pillow": "PIL", "pyyaml": "yaml"}
DEPENDENCIES = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def modules_of(requirements: list[str]) -> set[str]:
    names = {requirement.partition(">")[0].strip() for requirement in requirements}
    return {MODULE_OF.get(name, name) for name in names}


# What is imported on use, with the extra `report`; and the one module that is with `tokens`.
WITH_EXTRA = {"compare", "report", "merge", "statistics"}
WITH_TOKENS = "records.bpe"


@pytest.mark.parametrize(
    "module",
    [
        name
        for name in FILES
        if is_host(name) and part(name) not in WITH_EXTRA and name != WITH_TOKENS
    ],
)
def test_plan_and_run_need_the_base_dependencies_alone(module):
    assert foreign(module) <= modules_of(DEPENDENCIES["dependencies"])


@pytest.mark.parametrize("module", [name for name in FILES if part(name) in WITH_EXTRA])
def test_the_report_needs_its_extra_and_the_base(module):
    extra = DEPENDENCIES["optional-dependencies"]["report"]
    allowed = modules_of(DEPENDENCIES["dependencies"]) | modules_of(extra) | {"numpy"}  # pandas'
    assert foreign(module) <= allowed


def test_one_module_needs_the_extra_for_tokens():
    needing = [name for name in FILES if "tokenizers" in foreign(name)]
    assert needing == [WITH_TOKENS]
    allowed = DEPENDENCIES["optional-dependencies"]["tokens"] + DEPENDENCIES["dependencies"]
    assert foreign(WITH_TOKENS) <= modules_of(allowed)


def loaded_by(code: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after `code`."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())


def test_the_commands_load_no_torch_and_no_extra():
    loaded = loaded_by("import bench.cli")
    assert "typer" in loaded
    assert not loaded & {"torch", "numpy", "pandas", "matplotlib", "jinja2", "scipy", "tokenizers"}


def test_no_module_of_the_launching_side_loads_torch():
    host = [f"bench.{name}" for name in FILES if name and is_host(name) and name != "__main__"]
    loaded = loaded_by(f"import {', '.join(host)}")
    assert "bench" in loaded
    assert "torch" not in loaded


def test_the_worker_says_that_it_lives_before_torch_is_loaded():
    assert not loaded_by("import bench.worker.__main__") & {"torch", "numpy"}
