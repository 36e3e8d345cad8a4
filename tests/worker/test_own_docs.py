"""What the documents tell an author to type works as it is written."""

import re
from pathlib import Path

import pytest

from bench.matrix.expansion import load_matrix
from bench.records.rows import read_table
from tests.builders.own_code import FOX, write_examples
from tests.builders.shared import ROOT, bench, type_in

README = (ROOT / "README.md").read_text()
OWN = (ROOT / "docs" / "own.md").read_text()


@pytest.mark.slow
def test_five_minutes_are_enough(tmp_path: Path) -> None:
    """Every command of the chapter, as it is written, in a folder outside the repository."""
    chapter = README.partition("## Your optimizer in five minutes")[2].partition("\n## ")[0]
    (script,) = re.findall(r"```bash\n(.*?)```", chapter, re.DOTALL)
    for slow, quick in (("steps: 300", "steps: 20"), ("[1, 2, 3, 4, 5]", "[1]")):
        assert slow in script
        script = script.replace(slow, quick)
    (tmp_path / "input.txt").write_text(FOX)
    answer = type_in(tmp_path, script)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "9 of 9 checks ok" in answer.stdout
    assert "3 of 3 runs ok" in answer.stdout
    assert (tmp_path / "results" / "mine" / "report" / "index.html").is_file()
    rows = read_table(tmp_path / "results" / "mine" / "runs.csv")
    assert {row["optimizer"] for row in rows} == {"adamw", "truemuon", "mine"}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return write_examples(tmp_path)


@pytest.mark.slow
def test_the_examples_of_the_protocol_hold(written: Path) -> None:
    assert len(load_matrix(written).cells) == 2 * 3 * 5
    answer = bench("check", written, "--runtime", "local")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.count("optimizer parts") == 6
    assert answer.stdout.count("model mymodel") == 8


@pytest.mark.slow
def test_the_page_names_every_check(written: Path) -> None:
    answer = bench("check", written, "--runtime", "local", "--only", "optimizer=mine")
    found = {line.split(": ")[1] for line in answer.stdout.splitlines() if line.startswith("ok ")}
    table = OWN.partition("looks at\n")[2]
    told = re.findall(r"^\| ([a-z ]+?) \|", table, re.MULTILINE)
    assert set(told) - {"check", "schedule", "trials"} == found  # this matrix has none
