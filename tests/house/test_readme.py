"""README, CONTRIBUTING and docs say what the code says, and their commands work."""

import dataclasses
import os
import re
import shutil
import subprocess
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
from bench.records.columns import COLUMNS, METRICS
from tests.builders.shared import ROOT, type_in

README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MATRIX = (ROOT / "docs" / "matrix.md").read_text()
RUNNING = (ROOT / "docs" / "running.md").read_text()
TEXT = "the quick brown fox jumps over the lazy dog\n" * 91


def part(page: str, name: str) -> str:
    """What stands between `<!-- name: ... -->` and `<!-- end of name -->`."""
    text = (ROOT / "docs" / page).read_text()
    found = re.search(rf"<!-- {name}: .*? -->\n(.*?)\n<!-- end of {name} -->", text, re.DOTALL)
    assert found, name
    return found[1]


def options_table() -> str:
    """The reference of all settings, as docs/matrix.md must hold it."""
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
    lines = ["| column of `runs.csv` | meaning | better |", "|---|---|---|"]
    for name, column in COLUMNS.items():
        better = ("more" if column.more_is_better else "less") if name in METRICS else ""
        lines.append(f"| `{name}` | {column.meaning} | {better} |")
    return "\n".join(lines)


def test_every_setting_is_in_the_reference() -> None:
    assert part("matrix.md", "options") == options_table()


def test_every_column_is_in_the_list() -> None:
    assert part("results.md", "columns") == columns_table()


def test_the_example_matrix_loads(tmp_path: Path) -> None:
    text, *claims = re.findall(r"```yaml\n(.*?)```", MATRIX, re.DOTALL)
    file = tmp_path / "example.yaml"
    file.write_text(text)
    assert len(load_matrix(file).cells) == 12
    assert len(claims) == 2
    for claim in claims:  # in the place of the example's own
        file.write_text(text.partition("claim:")[0] + claim)
        assert load_matrix(file).claim


def test_the_tree_is_that_of_the_repository() -> None:
    tree = (
        CONTRIBUTING.partition("## Where things are")[2].partition("```\n")[2].partition("```")[0]
    )
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
        assert told & set(shown), f"{path} is not in the tree of CONTRIBUTING.md"
    for name in told:
        assert (ROOT / name).exists(), (
            f"the tree of CONTRIBUTING.md names {name}, which is not there"
        )


def test_every_make_target_that_is_named_exists() -> None:
    for target in sorted(set(re.findall(r"`?make ([a-z-]+)", README))):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def commands() -> list[str]:
    block = RUNNING.partition("```bash\n")[2].partition("```")[0]
    return [line.partition("#")[0].strip() for line in block.splitlines()]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to type the commands of docs/running.md in, with a tiny matrix called MATRIX."""
    desk = tmp_path_factory.mktemp("desk")
    (desk / "input.txt").write_text(TEXT)
    (desk / "old.csv").write_text("model,optimizer,seed,loss\ngpt,adamw,1,2.0\n")
    matrix = yaml.safe_load((ROOT / "bench" / "matrix" / "cpu.yaml").read_text())
    matrix |= {"name": "tiny", "train": {"steps": 4, "batch_size": 2, "block_size": 8}}
    matrix["eval"] = {"every": 2, "train_windows": 4}
    matrix["matrix"] |= {"model": ["nanogpt"], "seed": [1, 2]}
    (desk / "MATRIX").write_text(yaml.safe_dump(matrix))
    return desk


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_the_commands_run_as_they_are_written(command: str, desk: Path) -> None:
    """In their order, on a tiny matrix; only where cells run is chosen for speed."""
    words = command.split()
    assert words[0] == ".venv/bin/bench"
    if "--jobs" in words and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two cells at once need two CPUs")
    if "results/tiny-2" in words:
        copy = desk / "results" / "tiny-2"
        shutil.copytree(desk / "results" / "tiny", copy, dirs_exist_ok=True)
    answer = type_in(desk, command)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.slow
def test_the_readmes_own_question_is_answered(tmp_path: Path) -> None:
    """Its matrix and its commands, with fewer steps and seeds."""
    chapter = README.partition("## Your own question")[2].partition("\n## ")[0]
    (matrix,) = re.findall(r"```yaml\n# rates.yaml\n(.*?)```", chapter, re.DOTALL)
    script = chapter.partition("```bash\n")[2].partition("```")[0]
    for slow, quick in (("steps: 300", "steps: 4"), ("[1, 2, 3, 4, 5]", "[1, 2]")):
        assert slow in matrix
        matrix = matrix.replace(slow, quick)
    (tmp_path / "rates.yaml").write_text(matrix)
    (tmp_path / "input.txt").write_text(TEXT)
    answer = type_in(tmp_path, script)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "4 of 4 runs ok" in answer.stdout
    assert (tmp_path / "results" / "rates" / "report" / "index.html").is_file()


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200
