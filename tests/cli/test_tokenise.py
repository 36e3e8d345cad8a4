"""`bench tokenise`: the same files in every process, what it prints, and what it refuses."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.cli.tokenising import tokenise as command
from bench.errors import BenchError
from tests.builders.shared import ROOT

TEXT = "the quick brown fox jümps over the lazy dog, isn't it?\n" * 40
# What the order of hash tables, and of work, hangs on.
SURROUNDINGS = [
    {"PYTHONHASHSEED": "0", "RAYON_NUM_THREADS": "1"},
    {"PYTHONHASHSEED": "1", "RAYON_NUM_THREADS": "2"},
    {"PYTHONHASHSEED": "4000000000", "RAYON_NUM_THREADS": "7"},
    {"PYTHONHASHSEED": "random", "TOKENIZERS_PARALLELISM": "false"},
]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


def tokenise(
    desk: Path, *arguments: str, code: str = "from bench.cli import main; main()", **variables: str
) -> subprocess.CompletedProcess[str]:
    own = {"BENCH_CACHE": str(desk / "cache"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code, "tokenise", *arguments],
        cwd=desk,
        env=os.environ | own | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


@pytest.mark.slow
def test_every_process_writes_the_same_bytes(desk):
    found = []
    for number, variables in enumerate(SURROUNDINGS):
        arguments = ("pydoc", "--vocab", "1000", "--split", "0.8,0.1,0.1", "--out", f"t{number}")
        answer = tokenise(desk, *arguments, **variables)
        assert answer.returncode == 0, answer.stderr
        found.append(hashes(desk / f"t{number}"))
    assert list(found[0]) == ["test.bin", "tokenizer.json", "tokens.json", "train.bin", "val.bin"]
    assert found == [found[0]] * len(SURROUNDINGS)


def test_it_says_what_it_wrote_and_what_a_matrix_says_of_it(desk):
    answer = tokenise(desk, "text.txt", "--vocab", "270", "--out", "to: kens")
    assert (answer.returncode, answer.stderr) == (0, "")
    train, val, tokenizer, _, *lines = answer.stdout.splitlines()
    assert train.startswith("to: kens/train.bin: ")
    assert re.fullmatch(r"to: kens/val.bin: \d+ tokens of 1\.\d\d\d bytes", val)
    assert tokenizer == "to: kens/tokenizer.json: 270 tokens"
    told = yaml.safe_load("\n".join(lines))["data"]["tokens"]
    assert told == {"train": ["to: kens/train.bin"], "val": ["to: kens/val.bin"]}


def test_a_tokenizer_that_was_learned_gives_the_same_files(desk, monkeypatch):
    monkeypatch.chdir(desk)
    monkeypatch.setenv("BENCH_CACHE", str(desk / "cache"))
    command("text.txt", Path("learned"), vocab=270)
    command("text.txt", Path("given"), tokenizer=Path("learned/tokenizer.json"))
    learned, given = hashes(desk / "learned"), hashes(desk / "given")
    assert learned.pop("tokens.json") != given.pop("tokens.json")  # which says that it was given
    assert learned == given


def test_a_text_that_gives_fewer_tokens_than_asked_for_is_told(desk):
    answer = tokenise(desk, "text.txt", "--out", "tokens")
    assert answer.returncode == 0
    assert "note: in the training split nothing else repeats: the vocabulary has " in answer.stderr
    assert answer.stderr.endswith(" tokens, not 4,096\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"vocab": 256}, "--vocab 256: give a number from 257"),
        ({"vocab": 0}, "--vocab 0: give a number from 257"),
        ({"vocab": 300, "tokenizer": Path("x")}, "leave one out"),
        ({"tokenizer": Path("x")}, "--tokenizer x: No such file or directory"),
        ({"split": "0.9"}, "--split 0.9: give two or three shares"),
        ({"split": "0.9,0.2"}, "--split 0.9,0.2: give two or three shares"),
        ({"split": "1.0,0"}, "--split 1.0,0: give two or three shares"),
        ({"split": "0.7,0.1,0.1,0.1"}, "--split 0.7,0.1,0.1,0.1: give two or three shares"),
        ({"split": "most,rest"}, "--split most,rest: give two or three shares"),
        ({"split": "nan,0.5"}, "--split nan,0.5: give two or three shares"),
        ({"text": "absent.txt"}, "corpus absent.txt: No such file or directory"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(desk, monkeypatch, arguments, says):
    monkeypatch.chdir(desk)
    monkeypatch.setenv("BENCH_CACHE", str(desk / "cache"))
    with pytest.raises(BenchError, match=re.escape(says)):
        command(**{"text": "text.txt", "folder": desk / "tokens", **arguments})
    assert not (desk / "tokens").exists()


def test_without_the_library_it_says_what_to_install(desk):
    code = "import sys; sys.modules['tokenizers'] = None; from bench.cli import main; main()"
    answer = tokenise(desk, "text.txt", "--out", "tokens", code=code)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == (
        "error: tokenise needs tokenizers. Install with: pip install tokenizers   "
        "(or: pip install 'bench-matrix[tokens]')\n"
    )
