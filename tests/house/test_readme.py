"""The README says what the code says, and its commands work."""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.border.options import (
    MODEL_OPTIONS,
    OPTIMIZER_OPTIONS,
    DataOptions,
    EvalOptions,
    Limits,
    TrainOptions,
)
from bench.matrix.expansion import load_matrix
from bench.records.columns import RUN_COLUMNS
from tests.builders.shared import ROOT

README = (ROOT / "README.md").read_text()


def part(name: str) -> str:
    """What stands between `<!-- name: ... -->` and `<!-- end of name -->`."""
    found = re.search(rf"<!-- {name}: .*? -->\n(.*?)\n<!-- end of {name} -->", README, re.DOTALL)
    assert found, name
    return found[1]


def options_table() -> str:
    """The reference of all settings, as the README must hold it."""
    groups: dict[str, Any] = {
        "data": DataOptions,
        "train": TrainOptions,
        "eval": EvalOptions,
        "limits": Limits,
        **{f"models: base {name}": form for name, form in MODEL_OPTIONS.items()},
        **{f"optimizers: base {name}": form for name, form in OPTIMIZER_OPTIONS.items()},
    }
    lines = ["| where | setting | default | meaning |", "|---|---|---|---|"]
    for where, form in groups.items():
        for entry in dataclasses.fields(form):
            default = "" if entry.default in (None, ()) else f"`{as_yaml(entry.default)}`"
            lines.append(f"| {where} | `{entry.name}` | {default} | {entry.metadata['doc']} |")
    return "\n".join(lines)


def as_yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def columns_table() -> str:
    lines = ["| column of `runs.csv` | meaning |", "|---|---|"]
    return "\n".join(lines + [f"| `{name}` | {about} |" for name, about in RUN_COLUMNS.items()])


def test_every_setting_is_in_the_reference() -> None:
    assert part("options") == options_table()


def test_every_column_is_in_the_list() -> None:
    assert part("columns") == columns_table()


def test_the_example_matrix_loads(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    file = tmp_path / "example.yaml"
    file.write_text(text)
    assert len(load_matrix(file).cells) == 12


def test_the_tree_is_that_of_the_repository() -> None:
    tree = README.partition("## Layout")[2].partition("```\n")[2].partition("```")[0]
    told, folders = set(), [Path()]
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders = [*folders[: depth + 1], folders[depth] / name]
        told.add(folders[-1].as_posix() + ("/" if name.endswith("/") else ""))
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for path in map(Path, tracked):
        if path.name == "__init__.py" or not (ROOT / path).exists():
            continue
        shown = [path.as_posix(), *(f"{parent.as_posix()}/" for parent in path.parents)]
        assert told & set(shown), f"{path} is not in the README's tree"
    for name in told:
        assert (ROOT / name).exists(), f"the README's tree names {name}, which is not there"


def test_every_make_target_that_is_named_exists() -> None:
    for target in sorted(set(re.findall(r"`?make ([a-z-]+)", README))):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def commands() -> list[str]:
    block = README.partition("## Commands")[2].partition("```bash\n")[2].partition("```")[0]
    return [line.partition("#")[0].strip() for line in block.splitlines()]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to type the README's commands in, with a tiny matrix called MATRIX."""
    desk = tmp_path_factory.mktemp("desk")
    text = "the quick brown fox jumps over the lazy dog\n" * 91
    (desk / "input.txt").write_text(text)
    matrix = yaml.safe_load((ROOT / "bench" / "matrix" / "cpu.yaml").read_text())
    matrix |= {"name": "tiny", "train": {"steps": 4, "batch_size": 2, "block_size": 8}}
    matrix["eval"] = {"every": 2, "train_windows": 4}
    matrix["matrix"] |= {"model": ["nanogpt"], "seed": [1, 2]}
    (desk / "MATRIX").write_text(yaml.safe_dump(matrix))
    return desk


@pytest.mark.parametrize("command", commands())
def test_the_commands_run_as_they_are_written(command: str, desk: Path) -> None:
    """In their order, on a tiny matrix; only where cells run is chosen for speed."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "bench"]
    if "--jobs" in words and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two cells at once need two CPUs")
    if words[3] in ("plan", "run", "doctor", "check"):
        words += ["--runtime", "local"]
    if "results/tiny-2" in words:
        copy = desk / "results" / "tiny-2"
        shutil.copytree(desk / "results" / "tiny", copy, dirs_exist_ok=True)
    answer = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=desk,
        env={"PYTHONPATH": str(ROOT), "BENCH_CACHE": str(desk / "cache"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
