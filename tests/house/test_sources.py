"""No source reads a pickle, runs a text as a program, or starts a shell."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.shared import ROOT

SOURCES = sorted((ROOT / "bench").rglob("*.py"))
# What reads a pickle, or runs a text. No file of bench/ needs an exception.
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "pickletools", "cloudpickle", "marshal"}
FORBIDDEN_MODULES |= {"shelve", "dill", "joblib", "multiprocessing", "torch.multiprocessing"}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load"}
FORBIDDEN_NAMES |= {"subprocess.getoutput", "subprocess.getstatusoutput", "pandas.read_pickle"}
FORBIDDEN_NAMES |= {"concurrent.futures.ProcessPoolExecutor", "torch.jit.load", "torch.hub.load"}
FORBIDDEN_NAMES |= {
    f"yaml.{name}"
    for name in ("load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all")
}
FORBIDDEN_NAMES |= {f"yaml.{name}" for name in ("Loader", "UnsafeLoader", "FullLoader", "CLoader")}
FORBIDDEN_UNLESS_FALSE = {"shell", "allow_pickle"}


def offences(tree: ast.AST) -> Iterator[str]:
    """What of a source reads a pickle, runs a text or starts a shell."""
    imported: dict[str, str] = {}  # name here -> dotted name
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.asname: name.name for name in node.names if name.asname}
            yield from FORBIDDEN_MODULES & {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found = {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
            imported |= found
            yield from (FORBIDDEN_MODULES | FORBIDDEN_NAMES) & {node.module, *found.values()}
    safe = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and dotted(node.func, imported) == "torch.load"
        and "weights_only=True" in map(ast.unparse, node.keywords)
    }
    for node in ast.walk(tree):
        if id(node) in safe:
            continue
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield from FORBIDDEN_NAMES & {dotted(node, imported)}
        elif isinstance(node, ast.keyword) and node.arg in FORBIDDEN_UNLESS_FALSE:
            yield from {f"{node.arg}={ast.unparse(node.value)}"} - {f"{node.arg}=False"}


def dotted(node: ast.AST, imported: dict[str, str]) -> str:
    """The whole name of what a node means, as far as its imports tell."""
    match node:
        case ast.Name(id=name):
            return imported.get(name, name)
        case ast.Attribute(value=value, attr=attr):
            return f"{dotted(value, imported)}.{attr}"
    return "?"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_reads_a_pickle_runs_a_text_or_starts_a_shell(source: Path) -> None:
    assert list(offences(ast.parse(source.read_text()))) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib as j",
        "from torch import multiprocessing",
        "import torch as t; t.load('x')",
        "from torch import load as l; l('x')",
        "import torch; torch.load('x', weights_only=flag)",
        "import torch; read = torch.load; read('x', weights_only=True)",
        "import numpy as np; np.load('x', allow_pickle=True)",
        "import numpy as np; np.load('x', allow_pickle=flag)",
        "from yaml import unsafe_load",
        "import yaml; yaml.compose('x', Loader=yaml.FullLoader)",
        "eval('1')",
        "eval('1', weights_only=True)",
        "list(map(exec, x))",
        "import os; os.system('x')",
        "import subprocess as s; s.run('x', shell=True)",
    ],
)
def test_an_offence_is_found(text: str) -> None:
    assert list(offences(ast.parse(text)))


def test_what_is_sound_is_no_offence() -> None:
    text = "import re, json; re.compile('x'); model.eval(); json.load(f); run(shell=False)"
    assert list(offences(ast.parse(text))) == []
    text = "import torch; torch.load(f, map_location='cpu', weights_only=True)"
    assert list(offences(ast.parse(text))) == []
