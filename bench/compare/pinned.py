"""A matrix as YAML that means the same wherever it is read, with as many pairs as asked."""

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.errors import RequestError
from bench.matrix.expansion import Matrix, load_matrix
from bench.matrix.forms import AXES
from bench.matrix.scalars import TEXT
from bench.matrix.schema import PROGRAM
from bench.matrix.yamlfile import read_yaml
from bench.records.corpora import BUILT_IN, DEFAULT_FILE
from bench.records.tokenfiles import token_paths

MOST_PAIRS = 10_000


def pinned(matrix: Path, n_pairs: int | None) -> str:
    """A matrix as YAML that means the same wherever it is read: both sides read it elsewhere.

    Raises:
        MatrixError: with every mistake in it, or if the corpus cannot be used.
        RequestError: for a number of pairs that cannot be.
    """
    asked = load_matrix(matrix)
    content: dict[str, Any] = read_yaml(matrix).data
    if PROGRAM in content:
        _pin_program(content[PROGRAM], asked.folder)
    else:
        content["data"] = {**(content.get("data") or {}), **_pinned_corpus(asked)}
    for section in ("tune", "claim"):  # two versions are compared, on the matrix's own cells
        content.pop(section, None)
    for key in ("models", "optimizers"):
        for variant in (content.get(key) or {}).values():
            if "path" in variant and PROGRAM not in content:
                variant["path"] = _absolute(asked.folder, variant["path"])
    if n_pairs is not None:
        if not 1 <= n_pairs <= MOST_PAIRS:
            raise RequestError(f"--pairs {n_pairs}: give a number from 1 to {MOST_PAIRS:,}.")
        content |= _with_seeds(asked, content.get("exclude") or [], n_pairs)
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _pin_program(program: dict[str, Any], folder: Path) -> None:
    program["path"] = _absolute(folder, program["path"])
    data = program.get("data") or {}
    program["data"] = {name: _absolute(folder, path) for name, path in data.items()}


def _pinned_corpus(asked: Matrix) -> dict[str, Any]:
    """What of the section `data` says which corpus it is."""
    if asked.tokens is not None:
        asked.find_corpus()  # or it is told here, before an image is built
        found = token_paths(asked.tokens, asked.folder)
        return {"tokens": {split: [*map(_here, paths)] for split, paths in found.items()}}
    if asked.corpus is None:
        return {"corpus": _here(Path(DEFAULT_FILE)) if Path(DEFAULT_FILE).is_file() else "pydoc"}
    if asked.corpus in BUILT_IN:
        return {"corpus": asked.corpus}
    asked.find_corpus()
    return {"corpus": _absolute(asked.folder, asked.corpus)}


def _here(path: Path) -> str:
    return str(path.absolute())


def _absolute(folder: Path, asked: str) -> str:
    return str((folder / os.path.expanduser(asked)).absolute())


class _Dumper(yaml.SafeDumper):
    """Text in quotes: whichever version reads it, 1e3 and 08 of a name stay text."""


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar(TEXT, text, style='"'))


def _with_seeds(
    asked: Matrix, exclude: Sequence[Mapping[str, Any]], n_pairs: int
) -> dict[str, Any]:
    """The sections that say which cells there are: all arms of a matrix, with the seeds 1 to n.

    An arm that `include` gives a single seed is one of them. What `exclude` says of single seeds
    holds for those that are still there.

    Raises:
        RequestError: if it leaves no cell.
    """
    named: dict[str, tuple[str, str, str]] = {}  # the first name of an arm that has two
    for cell in asked.cells:
        if not cell.tried:
            named.setdefault(cell.spec.arm_id, cell.place[:3])
    arms, seeds = list(named.values()), range(1, n_pairs + 1)
    at_seeds = [
        rule
        for rule in exclude
        if rule.get("seed") in seeds and any(_matches(rule, arm) for arm in arms)
    ]
    cells = itertools.product(arms, seeds)
    if all(any(_matches(rule, (*arm, seed)) for rule in at_seeds) for arm, seed in cells):
        raise RequestError(
            f"--pairs {n_pairs}: the matrix excludes every cell of these seeds. Give more pairs."
        )
    axes = [list(dict.fromkeys(names)) for names in zip(*arms, strict=True)]
    others = [arm for arm in itertools.product(*axes) if arm not in arms]
    return {
        "matrix": dict(zip(AXES, (*axes, list(seeds)), strict=True)),
        "exclude": [dict(zip(AXES[:3], arm, strict=True)) for arm in others] + at_seeds,
        "include": [],
    }


def _matches(rule: Mapping[str, Any], names: Sequence[object]) -> bool:
    """Whether a rule of `exclude` is about a cell or, without its seed, about cells of an arm."""
    given = dict(zip(AXES, names, strict=False))
    return all(rule.get(axis) in (None, name) for axis, name in given.items())
