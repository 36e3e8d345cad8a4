"""Variants that name a class of your own -> what a cell is asked. Nothing is imported here."""

import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.border.options import OPTIMIZER_OPTIONS, OwnModel, OwnOptimizer, asked
from bench.border.options.own import OTHER, ROLES
from bench.errors import CodeError, shown
from bench.matrix.forms import OwnGroup, OwnModelForm, OwnOptimizerForm
from bench.matrix.yamlfile import Where, Wrong
from bench.records.cells import Cell
from bench.records.owncode import OwnCode


def own_options(
    where: Where, form: OwnModelForm, folder: Path, read: Callable[[Path], OwnCode]
) -> tuple[OwnModel, OwnCode | None, list[Wrong]]:
    """What a sound form asks, the code that it brings along, and what is wrong beyond its form.

    `folder`: where a relative `path` starts, that of the matrix file; `read`: owncode.read_code.
    """
    options, wrong = _options(where, form)
    if form.path is None:
        return options, None, wrong
    try:
        code = read(_source(form.path, references(options), folder))
    except CodeError as error:
        return options, None, [*wrong, ((*where, "path"), str(error))]
    return dataclasses.replace(options, code_sha256=code.sha256), code, wrong


def _options(where: Where, form: OwnModelForm) -> tuple[OwnModel, list[Wrong]]:
    """All but the code, and what is wrong: every role has a group, and each is of one kind."""
    wrong = list(_check_one_kind(where, form))
    reference, settings = _reference(form.reference), dict(form.model_extra or {})
    if not isinstance(form, OwnOptimizerForm):
        return OwnModel(reference, settings), wrong
    groups: dict[str, dict[str, Any]] = {}
    # In one order however they were written: it is that in which they are built and stepped.
    for role in [role for role in (*ROLES, OTHER) if role in form.groups]:
        wrong += _check_one_kind((*where, "groups", role), form.groups[role])
        try:
            groups[role] = _group(form.groups[role])
        except ValueError as error:  # settings that do not go together
            wrong.append(((*where, "groups", role), f"{error}."))
    missing = [role for role in ROLES if role not in form.groups]
    if form.groups and missing and OTHER not in form.groups:
        what = f"has no group for {', '.join(missing)}. Add them, or `{OTHER}` for the rest."
        wrong.append(((*where, "groups"), what))
    wrong += [*_check_wants(where, form), *_check_used(where, form, settings)]
    return OwnOptimizer(reference, settings, "", groups, form.leaves, form.wants), wrong


def _group(form: Any) -> dict[str, Any]:
    """One group as the cell's options hold it."""
    if not isinstance(form, OwnGroup):
        settings = form.model_dump(exclude={"base"})
        return {"base": form.base, "settings": asked(OPTIMIZER_OPTIONS[form.base](**settings))}
    group: dict[str, Any] = {"settings": dict(form.model_extra or {})}
    if form.reference is not None:
        group |= {"class": _reference(form.reference)}
        if form.leaves != "parameters":
            group |= {"leaves": form.leaves}
        if form.wants:
            group |= {"wants": list(form.wants)}
    return group


def _source(path: str, named: Sequence[str], folder: Path) -> Path:
    """Where the code at a path is, which one of the classes named is from.

    Raises:
        CodeError: if none is from there.
    """
    source = Path(os.path.abspath(folder / os.path.expanduser(path)))
    packages = [_package(name) for name in named]
    if source.name.removesuffix(".py") not in packages:
        raise CodeError(
            f"{shown(path)} is not where {named[0]!r} is from: give the folder of the "
            f"package {packages[0]}, or {packages[0]}.py."
        )
    return source


def _check_one_kind(where: Where, form: Any) -> Iterator[Wrong]:
    if "base" in (form.model_extra or {}):
        yield where, "has a `base` and a `class`. Leave one of them out."


def _check_used(
    where: Where, form: OwnOptimizerForm, settings: Mapping[str, Any]
) -> Iterator[Wrong]:
    """Settings of a variant reach some group of it."""
    apart = [getattr(each, "reference", "base") for each in form.groups.values()]
    if apart and all(apart):
        for key in settings:
            what = "reaches nothing: each group names an optimizer of its own. Leave it out, or"
            yield (*where, key), f"{what} give it to a group."


def _check_wants(where: Where, form: OwnOptimizerForm) -> Iterator[Wrong]:
    """A model is whole: a class that gets it gets all parameters, as they are."""
    if "model" not in form.wants:
        for role, group in form.groups.items():
            if "model" in getattr(group, "wants", ()):
                what = "is all parameters, and a group is some. Leave groups out."
                yield (*where, "groups", role, "wants"), f"model {what}"
        return
    for key in ("groups", "leaves"):
        if key in form.model_fields_set:
            what = f"model goes to the class whole, and {key} divides it. Leave one out."
            yield (*where, "wants"), what
    if "named_parameters" in form.wants:
        yield (*where, "wants"), "is model or named_parameters, not both. Leave one out."


def packages(codes: Iterable[OwnCode]) -> dict[str, str]:
    """The package or module that each code is, by its SHA-256."""
    return {code.sha256: code.name.removesuffix(".py") for code in codes}


def installed(cells: Iterable[Cell], codes: Iterable[OwnCode]) -> tuple[str, ...]:
    """The classes that these cells name and no `path` brings, sorted.

    Not those whose code every row tells anyhow: torch's by its version, ours by code_sha256.
    """
    names, found = packages(codes), set()
    both = ((cell.spec.model.options, cell.spec.optimizer.options) for cell in cells)
    for each in set(itertools.chain.from_iterable(both)):
        if isinstance(each, OwnModel):
            told = {"torch", "bench", names.get(each.code_sha256)}
            found |= {name for name in references(each) if _package(name) not in told}
    return tuple(sorted(found))


def references(options: OwnModel) -> list[str]:
    """The classes that one variant names: its own, then those of its groups."""
    groups = options.groups.values() if isinstance(options, OwnOptimizer) else ()
    return [options.reference, *(group["class"] for group in groups if "class" in group)]


def _package(reference: str) -> str:
    return re.split("[.:]", reference)[0]


def _reference(text: str) -> str:
    """package.module.Name as package.module:Name, so that both are one identity."""
    return text if ":" in text else ":".join(text.rpartition(".")[::2])
