"""What docs/programs.md and README tell a user of a script to type works as it is written."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.matrix.program_forms import ProgramForm
from bench.program.reading import GROUPS, OutputReader
from bench.records.rows import read_table
from tests.builders.public_trainers import PAGE
from tests.builders.shared import ROOT, type_in

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
SECTIONS = [section for section in PAGE.split("\n## ") if BLOCK.search(section)]


def programs(section: str) -> list[tuple[dict[str, Any], str]]:
    """What a section says of each program, and the comment that its block begins with."""
    found = []
    for block in BLOCK.findall(section):
        (comment,) = re.findall(r"\A# (.*)", block)
        found.append((yaml.safe_load(block)["program"], comment))
    return found


@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.partition("\n")[0])
def test_every_pattern_reads_a_line_that_the_page_shows(section: str) -> None:
    shown = re.findall(r"`([^`]+)`", BLOCK.sub("", section).replace("\n", " "))
    for program, comment in programs(section):
        reader = OutputReader(program.get("read", ()), program.get("metrics", ()))
        for line in [*shown, *re.findall(r"\{[^{}]+\}", comment)]:
            reader.read(line)
        assert reader.silent == []
        assert reader.refused == {}


@pytest.mark.parametrize(
    ("heading", "there_are"),
    [("group", {*GROUPS, "metrics"}), ("key of `program`", set(ProgramForm.model_fields))],
)
def test_every_group_and_every_key_is_in_its_table(heading: str, there_are: set[str]) -> None:
    (table,) = re.findall(rf"\| {heading} \| meaning \|\n(.*?)\n\n", PAGE, re.DOTALL)
    names = "".join(row.split("|")[1] for row in table.splitlines())
    assert set(re.findall(r"`(\w+)`", names)) == there_are


def test_what_a_script_wrote_is_printed_afterwards(tmp_path: Path) -> None:
    """The file that the page writes beside a program with Lightning's CSVLogger."""
    (program,) = (each for s in SECTIONS for each, _ in programs(s) if "files" in each)
    ((name, content),) = program["files"].items()
    (tmp_path / name).write_text(content)
    logs = tmp_path / "lightning_logs" / "version_0"
    table = "epoch,step,train_loss,val_loss\n0,9,2.5,\n0,9,,2.25\n1,19,1.5,\n1,19,,1.75\n"
    (tmp_path / "train.py").write_text(
        f"import pathlib\nlogs = pathlib.Path({str(logs)!r})\nlogs.mkdir(parents=True)\n"
        f"(logs / 'metrics.csv').write_text({table!r})\n"
    )
    said = subprocess.run(
        [sys.executable, name], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert json.loads(said) == {"val_loss": 1.75}


@pytest.mark.slow
def test_five_minutes_are_enough_for_a_script(tmp_path: Path) -> None:
    """Every command of README's chapter, as it is written, in an empty folder."""
    chapter = README.partition("## Your training script in five minutes")[2].partition("\n## ")[0]
    (script,) = re.findall(r"```bash\n(.*?)```", chapter, re.DOTALL)
    for slow, quick in (("[1, 2, 3, 4, 5]", "[1, 2]"), ("range(1, 201)", "range(1, 41)")):
        assert script.count(slow) == 1
        script = script.replace(slow, quick)
    answer = type_in(tmp_path, script)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "4 of 4 runs ok" in answer.stdout
    results = tmp_path / "results" / "script"
    assert (results / "report" / "index.html").is_file()
    rows = read_table(results / "runs.csv")
    assert len({row["val_loss_final"] for row in rows}) == 4
    curves = read_table(results / "curves.csv")
    assert [row["step"] for row in curves if row["val_loss"]] == ["20", "40"] * 4
    assert {row["step_time_source"] for row in rows} == {"stamps"}
