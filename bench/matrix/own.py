"""Variants that name a class of somebody's -> what a cell is asked. Nothing is imported here."""

import dataclasses
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.border.options import OPTIMIZER_OPTIONS, OwnModel, OwnOptimizer, asked
from bench.border.options.own import OTHER, ROLES
from bench.errors import CodeError, shown
from bench.matrix.forms import OwnGroup, OwnModelForm, OwnOptimizerForm
from bench.matrix.yamlfile import Document, Where
from bench.records.owncode import OwnCode, read_code


class OwnVariants:
    """Those of one matrix file, whose folder their paths are relative to."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._read: dict[str, OwnCode | None] = {}  # by path; None: it had a mistake

    @property
    def codes(self) -> tuple[OwnCode, ...]:
        return tuple(code for code in self._read.values() if code is not None)

    def installed(self, options: Iterable[Any]) -> tuple[str, ...]:
        """The classes that these options name and no `path` brings, sorted.

        Not those whose code every row tells anyhow: torch's by its version, ours by code_sha256.
        """
        names = {code.sha256: code.name.removesuffix(".py") for code in self.codes}
        found = set()
        for each in options:
            if isinstance(each, OwnModel):
                told = {"torch", "bench", names.get(each.code_sha256)}
                found |= {name for name in references(each) if _package(name) not in told}
        return tuple(sorted(found))

    def options(self, where: Where, form: OwnModelForm) -> OwnModel:
        """What a sound form asks; mistakes beyond its form go into the document."""
        self._check_one_kind(where, form)
        reference, settings = _reference(form.reference), dict(form.model_extra or {})
        place = (*where, "path")
        if not isinstance(form, OwnOptimizerForm):
            return OwnModel(reference, settings, self._code(place, form.path, [reference]))
        # In one order however they were written: it is that in which they are built and stepped.
        present = [role for role in (*ROLES, OTHER) if role in form.groups]
        groups: dict[str, Any] = {role: _group(form.groups[role]) for role in present}
        for role, group in form.groups.items():
            self._check_one_kind((*where, "groups", role), group)
        self._check_covered((*where, "groups"), groups)
        options = OwnOptimizer(reference, settings, "", groups, form.leaves)
        code_sha256 = self._code(place, form.path, references(options))
        return dataclasses.replace(options, code_sha256=code_sha256)

    def _code(self, where: Where, path: str | None, named: list[str]) -> str:
        """The SHA-256 of the code that one of these classes is from; empty without a path."""
        code = self._read_code(where, path, named) if path is not None else None
        return code.sha256 if code else ""

    def _read_code(self, where: Where, path: str, named: list[str]) -> OwnCode | None:
        if re.search("[\x00-\x1f\x7f-\x9f]", path):
            self.document.mistake(where, f"{shown(path)} holds a control character. Rename it.")
            return None
        source = Path(os.path.abspath(Path(self.document.file).parent / path))
        packages = [_package(name) for name in named]
        if source.name.removesuffix(".py") not in packages:
            what = (
                f"{shown(path)} is not where {named[0]!r} is from: give the folder of the "
                f"package {packages[0]}, or {packages[0]}.py."
            )
            self.document.mistake(where, what)
            return None
        if path not in self._read:
            self._read[path] = None
            try:
                self._read[path] = read_code(source)
            except CodeError as error:
                self.document.mistake(where, str(error))
        return self._read[path]

    def _check_one_kind(self, where: Where, form: Any) -> None:
        if "base" in (form.model_extra or {}):
            self.document.mistake(where, "has a `base` and a `class`. Leave one of them out.")

    def _check_covered(self, where: Where, groups: dict[str, Any]) -> None:
        missing = [role for role in ROLES if role not in groups]
        if groups and missing and OTHER not in groups:
            what = f"nothing is said of {', '.join(missing)}. Add them, or `{OTHER}` for the rest."
            self.document.mistake(where, what)


def references(options: OwnModel) -> list[str]:
    """The classes that one variant names: its own, then those of its groups."""
    groups = options.groups.values() if isinstance(options, OwnOptimizer) else ()
    return [options.reference, *(group["class"] for group in groups if "class" in group)]


def _package(reference: str) -> str:
    return re.split("[.:]", reference)[0]


def _reference(text: str) -> str:
    """package.module.Name as package.module:Name, so that both are one identity."""
    return text if ":" in text else ":".join(text.rpartition(".")[::2])


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
    return group
