"""A matrix of a program: what it asks for, and what is wrong with it, told as of any matrix."""

import itertools
import os
import socket
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bench.border.program import BUILT_IN, Program, fill, placeholders
from bench.errors import CodeError, MatrixError
from bench.matrix.expansion import load_matrix
from bench.matrix.schema import json_schema, validated
from bench.matrix.yamlfile import read_yaml
from bench.program.reading import GROUPS
from bench.records.folder import ResultsFolder
from tests.builders.matrices import cells_of, load, refusal
from tests.builders.program_matrices import END, MATRIX, changed, write_files, write_program

EDITOR = Draft202012Validator(json_schema())


def program_of(file: Path) -> Program:
    program = load_matrix(file).cells[0].spec.program
    assert program is not None
    return program


# --- What is sound ------------------------------------------------------------------------------


def test_a_sound_matrix_plans_its_cells_by_the_names_of_its_values(tmp_path):
    matrix = load_matrix(write_program(tmp_path))
    arms = [("small", "slow", "cpu"), ("small", "fast", "cpu")]
    assert sorted(cells_of(matrix)) == sorted((*arm, seed) for arm in arms for seed in (1, 2))
    assert matrix.corpus is None
    assert matrix.find_corpus() is None
    assert [code.name for code in matrix.codes] == ["prog"]
    assert set(matrix.data) == {"text"}


def test_a_program_is_what_the_file_says(tmp_path):
    program = program_of(write_program(tmp_path))
    assert program.command == (
        *("python", "train.py", "--lr={lr}", "--layers={n_layer}"),
        "--out={out}",
    )
    assert program.replace == {"train.py": {"SEED = 1337": "SEED = {seed}"}}
    assert program.files == {"conf/run.cfg": "steps = {steps}"}
    assert program.environment == {"MODE": "{mode}"}
    assert program.metrics == {"val_bpb": "lower"}
    assert (program.steps, program.gpus, program.threads, program.seeds) == (10, 1, 1, "paired")
    assert (len(program.read), program.trials) == (2, "")


def test_defaults_are_the_least_that_can_be(tmp_path):
    (tmp_path / "train.py").write_text("print('val_loss', 1)")
    text = "name: least\nprogram: {path: train.py, command: [python, train.py, '{seed}']}\n"
    text += "matrix: {model: [a], optimizer: [b], device: [cpu], seed: [1]}\n"
    (cell,) = load(tmp_path, text).cells
    assert cell.spec.program is not None
    assert cell.spec.program.name == "train.py"
    assert cell.spec.program.read == ()
    assert cell.spec.steps is None


@pytest.mark.parametrize("section", ["models", "optimizers"])
def test_a_name_without_values_stands_for_itself_where_the_program_takes_it(tmp_path, section):
    """As `train_{optimizer}.py` does; else it is a slip of a name."""
    axis = section.removesuffix("s")
    names = {"model": "[small]", "optimizer": "[slow, fast]"}[axis]
    more = (f"{axis}: {names}", f"{axis}: {names[:-1]}, other]")
    with pytest.raises(MatrixError, match=f"matrix.{axis}.*nothing defines 'other'"):
        load_matrix(write_program(tmp_path, more))
    used = ('"--out={out}"', f'"--out={{out}}", "{{{axis}}}"')
    text = load_matrix(write_program(tmp_path, more, used, *without_values())).cells
    assert {getattr(cell.spec, axis).name for cell in text} >= {"other"}


def without_values() -> list[tuple[str, str]]:
    """Changes by which no arm needs values of its own."""
    return [
        ('"--lr={lr}", "--layers={n_layer}"', '"--lr=0.5", "--layers=4"'),
        ('MODE: "{mode}"', "MODE: plain"),
        ("models: {small: {n_layer: 4, mode: plain}}", "models: {small: {}}"),
        ("slow: {lr: 0.25}", "slow: {}"),
        ("fast: {lr: 0.5}", "fast: {}"),
        ('"SEED = {seed}"', "\"SEED = {seed} + len('{optimizer}')\""),
    ]


@pytest.mark.parametrize("path", ["./prog/train.py", "prog/train.py"])
def test_a_program_may_be_one_file(tmp_path, path):
    program = program_of(write_program(tmp_path, ("./prog", path)))
    assert program.name == "train.py"


def test_what_is_ignored_is_no_part_of_the_program(tmp_path):
    file = write_program(tmp_path)
    before = program_of(file)
    (tmp_path / "prog" / "inner").mkdir()
    (tmp_path / "prog" / ".gitignore").write_text("*.log\n/build/\n")
    (tmp_path / "prog" / "inner" / ".gitignore").write_text("local.py\n")
    ignored = ("big.pt", ".hidden", "a.log", "inner/local.py", "build/x.py", "__pycache__/x.pyc")
    for name in ignored:
        place = tmp_path / "prog" / name
        place.parent.mkdir(exist_ok=True)
        place.write_text("x")
    assert program_of(file).code_sha256 == before.code_sha256
    (tmp_path / "prog" / "local.py").write_text("x")  # the inner .gitignore reaches down alone
    assert program_of(file).code_sha256 != before.code_sha256


def test_a_matrix_may_lie_in_the_folder_of_its_program_and_so_may_results(tmp_path):
    """They change while the program does not: every run would open all cells again."""
    file = write_program(tmp_path, ("path: ./prog", "path: ."), ("./texts", "../texts"))
    file = file.rename(tmp_path / "prog" / file.name)
    (tmp_path / "prog" / "results").mkdir()  # of somebody else
    (tmp_path / "prog" / "results" / "own.py").write_text("x = 1")
    before = program_of(file)
    file.write_text(file.read_text().replace("margin: 0.01", "margin: 0.02"))
    assert program_of(file).code_sha256 == before.code_sha256
    recorded = ResultsFolder(tmp_path / "prog" / "results" / "mine")
    recorded.cells.mkdir(parents=True)
    recorded.plan.write_text("run_id\n")
    with_results = program_of(file).code_sha256
    (recorded.path / "runs.csv").write_text("run_id\n")
    (recorded.path.parent / "mine.tar.gz").write_text("x")
    assert program_of(file).code_sha256 == with_results
    assert set(load_matrix(file).codes[0].files) == {"train.py"}


def test_a_link_to_a_file_is_what_it_leads_to(tmp_path):
    file = write_program(tmp_path)
    (tmp_path / "elsewhere.py").write_text("x = 1")
    (tmp_path / "prog" / "more.py").symlink_to("../elsewhere.py")
    before = program_of(file).code_sha256
    (tmp_path / "elsewhere.py").write_text("x = 2")
    assert program_of(file).code_sha256 != before


# --- One mistake --------------------------------------------------------------------------------

READ = r"'step (?P<step>\d+) loss (?P<loss>\S+)'"
KNOWN = ", ".join(sorted([*GROUPS, "val_bpb"]))
ALLOWED = "Allowed: command, data, environment, files, gpus, ignore, metrics, path, read, replace, "
PLACEHOLDERS = "device, gpus, lr, mode, model, n_layer, optimizer, out, seed, steps, threads"
STEPS = ("  steps: 10\n", "")
OTHER = "does not go with `program`, which trains, evaluates and reads by itself. Leave it out"
TUNE = "tune: {trials: 2, seeds: [9], metric: METRIC, space: {lr: [0.1, 0.2]}}\n"

# Name -> (the matrix, the mistake's line, its place, what is said)
ONE_MISTAKE: dict[str, tuple[str, int, str, str]] = {
    "train beside it": (f"{MATRIX}train: {{steps: 5}}\n", END, "train", OTHER),
    "eval beside it": (f"{MATRIX}eval: {{every: 5}}\n", END, "eval", OTHER),
    "data beside it": (f"{MATRIX}data: {{split: [0.9, 0.1]}}\n", END, "data", OTHER),
    "no path": (changed(("  path: ./prog\n", "")), 2, "program.path", "is required."),
    "no command": (
        changed(('[python, train.py, "--lr={lr}", "--layers={n_layer}", "--out={out}"]', "[]")),
        5,
        "program.command",
        "is empty. Give at least one value.",
    ),
    "command of a shell": (
        changed(
            ('[python, train.py, "--lr={lr}", "--layers={n_layer}", "--out={out}"]', "train.py")
        ),
        5,
        "program.command",
        "'train.py' is not a list. Write [value, value].",
    ),
    "misspelt key": (
        changed(("  steps: 10\n", "  steps: 10\n  gpu: 2\n")),
        16,
        "program.gpu",
        f"unknown key. Did you mean 'gpus'? {ALLOWED}",
    ),
    "no number of steps": (
        changed(("steps: 10", "steps: 0")),
        15,
        "program.steps",
        "0 should be greater than or equal to 1.",
    ),
    "kind of seeds that is none": (
        changed(("  steps: 10", "  steps: 10\n  seeds: replicate")),
        16,
        "program.seeds",
        "'replicate' is not allowed. Did you mean 'replicates'? Allowed: paired, replicates.",
    ),
    "unknown placeholder in the command": (
        changed(("--out={out}", "--out={ot}")),
        5,
        "program.command[4]",
        f"{{ot}} stands for nothing with model small and optimizer fast. Did you mean 'out'? "
        f"Allowed: {PLACEHOLDERS}.",
    ),
    "unknown placeholder in the environment": (
        changed(('MODE: "{mode}"', 'MODE: "{mode}{device_name}"')),
        9,
        "program.environment.MODE",
        "{device_name} stands for nothing with model small and optimizer fast. Did you mean",
    ),
    "unknown placeholder in a file": (
        changed(("steps = {steps}", "steps = {steps} {batch}")),
        8,
        "program.files.conf/run.cfg",
        "{batch} stands for nothing",
    ),
    "unknown placeholder in a replacement": (
        changed(('"SEED = {seed}"', '"SEED = {seed} + {sed}"')),
        6,
        "program.replace.train.py.SEED = 1337",
        "{sed} stands for nothing with model small and optimizer fast. Did you mean 'seed'?",
    ),
    "value that one arm alone has": (
        changed(("fast: {lr: 0.5}", "fast: {}")),
        5,
        "program.command[2]",
        "{lr} stands for nothing with model small and optimizer fast. Allowed: device, gpus, mode,",
    ),
    "value that reaches nothing": (
        changed(("n_layer: 4", "n_layer: 4, n_head: 2")),
        17,
        "models.small.n_head",
        "reaches nothing: {n_head} stands nowhere in the program. Leave it out, or put it where",
    ),
    "value that only a literal names": (
        changed(("fast: {lr: 0.5}", "fast: {lr: 0.5, beta: 1}"), ('"{mode}"', '"{mode}{{beta}}"')),
        20,
        "optimizers.fast.beta",
        "reaches nothing: {beta} stands nowhere in the program.",
    ),
    "value of a model and an optimizer": (
        changed(("fast: {lr: 0.5}", "fast: {lr: 0.5, n_layer: 3}")),
        20,
        "optimizers.fast.n_layer",
        "is set by model small as well. Leave one out, or give it another name.",
    ),
    "value of a built-in name": (
        changed(("fast: {lr: 0.5}", "fast: {lr: 0.5, seed: 3}")),
        20,
        "optimizers.fast.seed",
        "{seed} is what a run has anyhow. Give it another name.",
    ),
    "value whose name is none": (
        changed(("n_layer: 4", "n_layer: 4, n-head: 2")),
        17,
        "models.small.n-head",
        "'n-head' cannot be an argument's name. Use letters, digits and '_'.",
    ),
    "value that is a mapping": (
        changed(("lr: 0.5", "lr: {a: 1}")),
        20,
        "optimizers.fast.lr",
        "{'a': 1} cannot be an argument. Give a plain value, or a list of them.",
    ),
    "values that are none": (
        changed(("{n_layer: 4, mode: plain}", "4")),
        17,
        "models.small",
        "4 is not a mapping. Write {key: value}.",
    ),
    "number with a slip": (
        changed(("lr: 0.5", "lr: 5e-1_0")),
        20,
        "optimizers.fast.lr",
        "is text",
    ),
    "seed that stands nowhere": (
        changed(("SEED = {seed}", "SEED = 5")),
        2,
        "program",
        "{seed} stands nowhere: every seed would be the same run. Put it into command or "
        "environment, or in place of what the program has (replace); or, where it seeds itself "
        "anew each time, write seeds: replicates.",
    ),
    "steps that are not given": (
        changed(STEPS),
        2,
        "program.steps",
        "is not given, and {steps} stands for it. Give it.",
    ),
    "trials with paired seeds": (
        changed(("  steps: 10", "  steps: 10\n  trials: 'run \\d+'")),
        16,
        "program.trials",
        "makes several runs in a process, which no seed tells apart. Write seeds: replicates.",
    ),
    "trials with a seed": (
        changed(("  steps: 10", "  steps: 10\n  trials: 'run'\n  seeds: replicates")),
        16,
        "program.trials",
        "makes runs of all seeds in one process. Take {seed} out.",
    ),
    "trials by a pattern that is none": (
        changed(
            ("  steps: 10", "  steps: 10\n  trials: '(run'\n  seeds: replicates"),
            ("SEED = {seed}", "SEED = 5"),
        ),
        16,
        "program.trials",
        "it is no regular expression of Python: missing ), unterminated subpattern at position 0.",
    ),
    "text to replace that stands twice": (
        changed(("SEED = 1337", "import")),
        6,
        "program.replace.train.py.import",
        "stands 3 times in train.py, and is to stand there once. Give more or less of the text",
    ),
    "text to replace that stands nowhere": (
        changed(("SEED = 1337", "seed = 1337")),
        6,
        "program.replace.train.py.seed = 1337",
        "stands 0 times in train.py, and is to stand there once.",
    ),
    "file to replace in that is not there": (
        changed(("{train.py: {", "{trian.py: {")),
        6,
        "program.replace.trian.py",
        "is no file of prog. Did you mean 'train.py'? Allowed: train.py.",
    ),
    "replacement outside": (
        changed(("{train.py: {", "{../texts/a.txt: {")),
        6,
        "program.replace.../texts/a.txt",
        "leads out of the program's folder. Name a file in it.",
    ),
    "file outside": (
        changed(("conf/run.cfg", "conf/../../run.cfg")),
        8,
        "program.files.conf/../../run.cfg",
        "leads out of the program's folder. Name a file in it.",
    ),
    "file from the root": (
        changed(("conf/run.cfg", "/run.cfg")),
        8,
        "program.files./run.cfg",
        "'/run.cfg' is no path within the program's folder. Name a file in it.",
    ),
    "variable that is none": (
        changed(('MODE: "{mode}"', '"MO-DE": "{mode}"')),
        9,
        "program.environment.MO-DE",
        "'MO-DE' cannot be a name here. Use letters, digits and '_'.",
    ),
    "variable that is no text": (
        changed(('MODE: "{mode}"', 'MODE: "{mode}", WORKERS: 5')),
        9,
        "program.environment.WORKERS",
        "5 is not text. Put it in quotes.",
    ),
    "pattern without a group": (
        changed((READ, "'loss (.*)'")),
        12,
        "program.read[0]",
        r"it has no named group, and reads nothing: (?P<val_loss>\S+) reads a val_loss.",
    ),
    "pattern with an unknown group": (
        changed(("(?P<step>", "(?P<stepp>")),
        12,
        "program.read[0]",
        f"no column is called 'stepp'. Did you mean 'step'? Known: {KNOWN}. "
        "A figure of your own is declared: `metrics: {stepp: {better: lower}}`.",
    ),
    "pattern with a metric that is not declared": (
        changed(("P<val_bpb>", "P<val_acc>")),
        13,
        "program.read[1]",
        "no column is called 'val_acc'.",
    ),
    "pattern that does not compile": (
        changed((r"\d+) loss", r"\d+ loss")),
        12,
        "program.read[0]",
        "it is no regular expression of Python: missing ), unterminated subpattern at position 5.",
    ),
    "pattern that meets everything": (
        changed((READ, "'(?P<loss>x*)'")),
        12,
        "program.read[0]",
        "it matches the empty text, and so every line: say what must stand there.",
    ),
    "metric that is a group": (
        changed(("{val_bpb: ", "{val_loss: {better: lower}, val_bpb: ")),
        14,
        "program.metrics.val_loss",
        "is known without being declared. Leave it out here.",
    ),
    "metric that is a column": (
        changed(("{val_bpb: ", "{gpu_energy_j: {better: lower}, val_bpb: ")),
        14,
        "program.metrics.gpu_energy_j",
        "is known without being declared. Leave it out here.",
    ),
    "metric whose name is none": (
        changed(("{val_bpb: ", "{val-acc: {better: lower}, val_bpb: ")),
        14,
        "program.metrics.val-acc",
        "'val-acc' cannot be a name here. Use letters, digits and '_'.",
    ),
    "metric without a direction": (
        changed(("{better: lower}", "{}")),
        14,
        "program.metrics.val_bpb.better",
        "is required.",
    ),
    "metric with a direction that is none": (
        changed(("{better: lower}", "{better: less}")),
        14,
        "program.metrics.val_bpb.better",
        "'less' is not allowed. Allowed: higher, lower.",
    ),
    "claim on what nothing declares": (
        changed(("metric: val_bpb", "metric: val_bbp")),
        21,
        "claim.metric",
        "'val_bbp' is not allowed. Did you mean 'val_bpb'? Allowed: ",
    ),
    "claim on a GPU that no cell has": (
        changed(("metric: val_bpb", "metric: gpu_energy_j")),
        21,
        "claim.metric",
        "gpu_energy_j is of a GPU, and no cell is on device cuda.",
    ),
    "margin of a ratio that is no share": (
        changed(("metric: val_bpb, margin: 0.01", "metric: tokens_per_s, margin: 1")),
        21,
        "claim.margin",
        "1 is no share, and tokens_per_s is compared by its ratio.",
    ),
    "claim about an arm that is not there": (
        changed(("optimizer: slow}, metric", "optimizer: slower}, metric")),
        21,
        "claim.baseline.optimizer",
        "nothing defines 'slower'. Did you mean 'slow'? Allowed: fast, slow.",
    ),
    "tuning by what nothing declares": (
        MATRIX + TUNE.replace("METRIC", "val_acc"),
        END,
        "tune.metric",
        "'val_acc' is not allowed.",
    ),
    "tuning of what is no value": (
        MATRIX + TUNE.replace("METRIC", "val_bpb").replace("lr:", "lr: [0.1, 0.2], lrr:"),
        END,
        "tune.space.lrr",
        "no optimizer of the matrix has this option. Did you mean 'lr'? Allowed: lr.",
    ),
    "image without a tag": (
        f"{MATRIX}image: {{tag: ''}}\n",
        END,
        "image.tag",
        "is empty. Give at least one value.",
    ),
    "misspelt tag": (
        f"{MATRIX}image: {{tags: mine}}\n",
        END,
        "image.tags",
        "unknown key. Did you mean 'tag'? Allowed: requirements, tag.",
    ),
    "image with requirements on top": (
        f"{MATRIX}image: {{tag: mine, requirements: [einops==0.8.0]}}\n",
        END,
        "image.tag",
        "is an image as it is, and requirements come on top of ours. Leave one of them out.",
    ),
    "more threads than CPUs": (
        changed(("  steps: 10", "  steps: 10\n  threads: 4")) + "limits: {cpus: 2}\n",
        END + 1,
        "limits.cpus",
        "2 is less than program.threads, 4: the threads would take turns. Give at least 4.",
    ),
    "program that is not there": (
        changed(("./prog", "./progs")),
        3,
        "program.path",
        "/progs is not there. A path is relative to the matrix file.",
    ),
    "GPUs that are chosen for a cell": (
        changed(('{MODE: "{mode}"}', '{MODE: "{mode}", CUDA_VISIBLE_DEVICES: "0"}')),
        9,
        "program.environment.CUDA_VISIBLE_DEVICES",
        "is set for each cell, to GPUs that no other cell has. Leave it out; program.gpus says",
    ),
    "data that are not there": (
        changed(("./texts", "./text")),
        10,
        "program.data.text",
        "/text is not there. A path is relative to the matrix file.",
    ),
    "data whose name is a path": (
        changed(("{text: ", "{tex/t: ")),
        10,
        "program.data.tex/t",
        "'tex/t' cannot be a name. Use 1 to 64 letters, digits, '.', '_' or '-'",
    ),
    "ignoring everything": (
        changed(('"*.pt"', '"*.p*"')),
        3,
        "program.path",
        "holds no file that is not ignored. Give the program's own folder.",
    ),
    "ignoring by what is no pattern": (
        changed(('"*.pt"', '"[z-a]"')),
        3,
        "program.path",
        "program.ignore holds what is no pattern: bad character range z-a",
    ),
}


@pytest.mark.parametrize(
    ("text", "line", "where", "says"), ONE_MISTAKE.values(), ids=ONE_MISTAKE.keys()
)
def test_a_mistake_is_shown_once_with_its_line_and_remedy(tmp_path, text, line, where, says):
    write_files(tmp_path)
    error = refusal(tmp_path, text)
    assert [(mistake.line, mistake.where) for mistake in error.mistakes] == [(line, where)]
    assert says in error.mistakes[0].what
    assert error.mistakes[0].what[-1] in ".}"  # it is whole


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(path.parent, os.O_RDONLY)
        made.bind(f"/proc/self/fd/{here}/{path.name}")  # the whole path may be too long for it
        os.close(here)


NO_FILE = "is neither a file nor a folder. Take it away."
IN_THE_WAY: list[tuple[str, Callable[[Path], None], str]] = [
    ("prog", os.mkfifo, NO_FILE),
    ("prog", make_socket, NO_FILE),
    ("prog", lambda path: path.symlink_to("/etc"), "is a link to a folder. Leave it out by"),
    ("prog", lambda path: path.symlink_to(path), "cannot be read: Too many levels"),
    ("prog", lambda path: path.symlink_to("nothing"), "cannot be read: No such file"),
    ("texts", os.mkfifo, NO_FILE),
    ("texts", make_socket, NO_FILE),
    ("texts", lambda path: path.symlink_to("/etc"), "leads out of"),
    ("texts", lambda path: path.symlink_to("/etc/hostname"), "leads out of"),
    ("texts", lambda path: path.symlink_to(path), "cannot be read: Too many levels"),
    ("texts", lambda path: path.symlink_to("nothing"), "cannot be read: No such file"),
]


@pytest.mark.parametrize(
    ("folder", "make", "says"),
    IN_THE_WAY,
    ids=[f"{folder}-{number}" for number, (folder, *_) in enumerate(IN_THE_WAY)],
)
def test_what_is_no_file_among_them_is_named(tmp_path, folder, make, says):
    file = write_program(tmp_path)
    make(tmp_path / folder / "odd")
    with pytest.raises(MatrixError) as caught:
        load_matrix(file)
    (mistake,) = caught.value.mistakes
    assert mistake.line == {"prog": 3, "texts": 10}[folder]
    assert f"{tmp_path / folder / 'odd'} {says}" in mistake.what


@pytest.mark.parametrize("name", ["odd", "inner/odd"])
def test_a_link_within_the_data_is_one_of_them(tmp_path, name):
    file = write_program(tmp_path)
    (tmp_path / "texts" / "inner").mkdir()
    (tmp_path / "texts" / name).symlink_to(tmp_path / "texts" / "a.txt")
    assert len(load_matrix(file).data["text"].files) == 2


def test_other_data_of_the_same_size_and_time_are_other_data(tmp_path):
    file = write_program(tmp_path)
    text = tmp_path / "texts" / "a.txt"
    before, found = load_matrix(file).data["text"], text.stat()
    content = bytearray(text.read_bytes())
    text.touch()
    before.check()  # another time alone is no other content
    content[0] ^= 1
    text.write_bytes(content)
    os.utime(text, ns=(found.st_atime_ns, found.st_mtime_ns))
    with pytest.raises(CodeError, match="changed while cells ran"):
        before.check()
    assert load_matrix(file).data["text"].sha256 != before.sha256


def test_more_than_100_mib_are_refused_with_the_largest_files(tmp_path):
    file = write_program(tmp_path)
    for name, mib in {"first.bin": 70, "second.bin": 40, "ignored.pt": 900, ".git": 900}.items():
        with (tmp_path / "prog" / name).open("wb") as sparse:
            sparse.truncate(mib * 2**20)
    with pytest.raises(MatrixError) as caught:
        load_matrix(file)
    (mistake,) = caught.value.mistakes
    assert (mistake.line, mistake.where) == (3, "program.path")
    assert (
        "holds 110 MiB, more than 100: each cell gets a copy of it. The largest: " in mistake.what
    )
    assert "first.bin (70.0 MiB), second.bin (40.0 MiB), train.py" in mistake.what
    assert "program.ignore" in mistake.what
    assert "ignored.pt" not in mistake.what
    (tmp_path / "prog" / "second.bin").unlink()
    assert load_matrix(file)


# --- Several mistakes ---------------------------------------------------------------------------


def test_all_mistakes_are_shown_at_once_in_the_order_of_their_lines(tmp_path):
    write_files(tmp_path)
    text = changed(
        ("--out={out}", "--out={ot}"),
        ("SEED = 1337", "seed = 1337"),
        ("conf/run.cfg", "../run.cfg"),
        ("./texts", "./text"),
        ("(?P<step>", "(?P<stepp>"),
        ("{val_bpb: ", "{loss: {better: lower}, val_bpb: "),
        ("n_layer: 4", "n_layer: 4, n_head: 2"),
        ("metric: val_bpb", "metric: val_bbp"),
    )
    error = refusal(tmp_path, text + "train: {steps: 5}\nlimits: {timeout: 5}\n")
    assert [(mistake.line, mistake.where) for mistake in error.mistakes] == [
        (5, "program.command[4]"),
        (6, "program.replace.train.py.seed = 1337"),
        (8, "program.files.../run.cfg"),
        (10, "program.data.text"),
        (12, "program.read[0]"),
        (14, "program.metrics.loss"),
        (17, "models.small.n_head"),
        (21, "claim.metric"),
        (22, "train"),
        (23, "limits.timeout"),
    ]


def test_each_unknown_placeholder_of_a_text_is_one_mistake(tmp_path):
    write_files(tmp_path)
    error = refusal(tmp_path, changed(('"--out={out}"', '"{one}{two}{one}"')))
    assert [mistake.what.partition(" ")[0] for mistake in error.mistakes] == ["{one}", "{two}"]


# --- JSON Schema --------------------------------------------------------------------------------

# What a schema can tell: keys, types, choices, least values. The rest takes the whole file.
OF_THE_SCHEMA = [
    *("train beside it", "eval beside it", "data beside it", "no path", "no command"),
    *("command of a shell", "misspelt key", "no number of steps", "kind of seeds that is none"),
    *("values that are none", "value that is a mapping", "file from the root"),
    *("variable that is none", "variable that is no text", "metric whose name is none"),
    *("metric without a direction", "metric with a direction that is none"),
    *("image without a tag", "misspelt tag", "data whose name is a path"),
]


def read(folder: Path, text: str) -> Any:
    file = folder / "matrix.yaml"
    file.write_text(text)
    return read_yaml(file).data


ALL_KEYS = changed(
    ("  steps: 10", "  steps: 10\n  seeds: replicates\n  gpus: 2\n  threads: 2"),
    ('["*.pt"]', '"*.pt"'),
)


@pytest.mark.parametrize("text", [MATRIX, f"{ALL_KEYS}image: {{tag: mine}}\nx-own: [1]\n"])
def test_the_schema_accepts_what_the_forms_accept(tmp_path, text):
    content = read(tmp_path, text)
    assert validated(content)[1] == []
    assert list(EDITOR.iter_errors(content)) == []


@pytest.mark.parametrize("mistake", OF_THE_SCHEMA)
def test_an_editor_sees_what_the_schema_can_tell(tmp_path, mistake):
    assert list(EDITOR.iter_errors(read(tmp_path, ONE_MISTAKE[mistake][0])))


def test_sections_that_programs_alone_have_are_no_others(tmp_path):
    text = MATRIX.replace("program:", "x-program:")
    assert list(EDITOR.iter_errors(read(tmp_path, text)))
    assert validated(read(tmp_path, text))[1]


# --- Placeholders -------------------------------------------------------------------------------

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
VALUES = st.one_of(
    *(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none()),
    *(st.text(max_size=20), st.lists(st.integers(), max_size=3)),
)
# Text in which no placeholder can come about, whatever stands beside it: without a brace.
PLAIN = st.text(st.characters(blacklist_characters="{}"), max_size=10)
PIECES = st.one_of(
    st.tuples(st.just("plain"), PLAIN),
    st.tuples(st.just("name"), NAMES),
    st.tuples(st.just("literal"), NAMES),
    st.tuples(
        st.just("plain"), st.sampled_from(["{}", "{ a }", "{1}", "{a.b}", "{a!r}", "{a:>4}"])
    ),
)


@given(st.lists(PIECES, max_size=8), st.dictionaries(NAMES, VALUES, max_size=4))
@example([("name", "a")], {"a": "{a}"})
@example([("name", "a"), ("name", "b")], {"a": "{b}", "b": "{a}"})
@example([("literal", "a")], {"a": 1})
def test_a_text_is_filled_once_piece_by_piece(pieces, values):
    """A value that holds braces is not filled again, and what is no placeholder is text."""
    template, filled = "", ""
    for kind, text in pieces:
        known = str(values[text]) if text in values else f"{{{text}}}"
        template += {"plain": text, "name": f"{{{text}}}", "literal": f"{{{{{text}}}}}"}[kind]
        filled += {"plain": text, "name": known, "literal": f"{{{text}}}"}[kind]
    assert fill(template, values) == filled
    assert placeholders(template) == [text for kind, text in pieces if kind == "name"]


@given(st.text(alphabet=string.printable, max_size=40))
def test_any_text_is_filled_without_a_fault(template):
    assert fill(template, {}).count("{") <= template.count("{")
    names = placeholders(template)
    assert all(name.isidentifier() for name in names)
    assert placeholders(fill(template, dict.fromkeys(names, ""))) is not None


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5), st.text(max_size=30))
@example(["--name={a}"], "a b; rm -rf / $(touch x) \"'\n--other")
@example(["{a}"], "")
def test_an_argument_is_one_argument_whatever_its_value_holds(arguments, value):
    filled = Program("p", "", tuple(arguments)).filled({"a": value, "seed": 3})
    assert len(filled.command) == len(arguments)
    for before, after in itertools.zip_longest(arguments, filled.command):
        assert after == fill(before, {"a": value, "seed": 3})


def test_values_are_told_as_python_prints_them():
    given = {"a": 6.0e-4, "b": True, "c": None, "d": [1, 2], "e": "x y", "f": 1e-7}
    assert fill("{a}|{b}|{c}|{d}|{e}|{f}", given) == "0.0006|True|None|[1, 2]|x y|1e-07"


def test_a_value_cannot_pass_for_a_built_in(tmp_path):
    for name in BUILT_IN:
        write_files(tmp_path)
        error = refusal(tmp_path, changed(("n_layer: 4", f"n_layer: 4, {name}: 4")))
        assert [mistake.where for mistake in error.mistakes] == [f"models.small.{name}"]
