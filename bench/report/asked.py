"""What the matrices asked: the claim, and what the names of their models are based on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic

from bench.errors import BenchError
from bench.forms import Claim
from bench.yamlfile import read_yaml


@dataclass(frozen=True)
class Asked:
    claim: Claim | None  # None: there is none, or the folders differ in it
    bases: Mapping[str, str] = field(default_factory=dict)  # a variant's name -> its built-in model
    note: str = ""  # why there is no claim, where that is not plain; a sentence


def read_asked(folders: Sequence[Path]) -> Asked:
    """The claim that all folders agree on, from each one's matrix.yaml.

    A folder without a claim agrees with any other. One that cannot be read has none, and the note
    says so: nothing is tested then that was not claimed.
    """
    claims: list[Claim] = []
    bases: dict[str, str] = {}
    unread: list[str] = []
    for folder in folders:
        file = folder / "matrix.yaml"
        if not file.is_file():
            continue
        try:
            content = read_yaml(file).data
            mapping: dict[str, Any] = content if isinstance(content, dict) else {}
            if mapping.get("claim") is not None:
                claims.append(Claim.model_validate(mapping["claim"]))
            bases |= _bases(mapping.get("models"))
        except (BenchError, pydantic.ValidationError):
            unread.append(folder.resolve().name)
    if unread:
        names = ", ".join(unread)
        return Asked(None, bases, f"The matrix.yaml of {names} holds no claim that can be read.")
    if any(claim != claims[0] for claim in claims):
        return Asked(None, bases, "The folders make different claims, so that none is tested.")
    return Asked(claims[0] if claims else None, bases)


def _bases(models: Any) -> dict[str, str]:
    named = models if isinstance(models, dict) else {}
    return {
        str(name): str(variant["base"])
        for name, variant in named.items()
        if isinstance(variant, dict) and "base" in variant
    }
