"""What the matrices asked: the claim, the tuning, what the names of their models rest on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydantic

from bench.border.options import EvalOptions, TrainOptions
from bench.border.spec import settings_text
from bench.errors import BenchError, MatrixError, Mistake
from bench.matrix.claim_forms import Claim, FixedClaim, Terms
from bench.matrix.forms import Data, EvalForm, TrainForm
from bench.matrix.program_forms import AnyClaim, AnyFixedClaim, AnyTune
from bench.matrix.schema import PROGRAM, is_fixed
from bench.matrix.tune_forms import Tune
from bench.matrix.yamlfile import Document, parse_yaml, read_raw
from bench.records.columns import CLAIMABLE


@dataclass(frozen=True)
class Asked:
    claim: Claim | None  # None: there is none, or the folders differ in it
    # A variant's name -> its built-in model, where no two folders differ in it.
    bases: Mapping[str, str] = field(default_factory=dict)
    tune: Tune | None = None  # None: nothing was tuned, or the folders differ in it
    note: str = ""  # why there is no claim, where that is not plain; a sentence
    fixed: FixedClaim | None = None  # a claim about one arm and a number, in its place

    @property
    def claims(self) -> tuple[Terms | None, ...]:
        """Each that is tested; without any the report takes something of its own: None."""
        return self.claim.each if self.claim else (None,)

    @property
    def tuned_on(self) -> str:
        """The column by which trials are ranked."""
        return self.tune.metric if self.tune else "val_loss_final"


def read_asked(folders: Sequence[Path]) -> Asked:
    """The claim that all folders agree on, from each one's matrix.yaml.

    A folder without a claim agrees with any other. One that cannot be read has none, and the note
    says so: nothing is tested then that was not claimed.
    """
    claims: list[Claim | FixedClaim] = []
    named: dict[str, set[str]] = defaultdict(set)
    tunes: list[Tune] = []
    unread: list[str] = []
    for folder in folders:
        file = folder / "matrix.yaml"
        if not file.is_file():
            continue
        try:
            content = _content(file)
            is_program = PROGRAM in content
            if content.get("claim") is not None:
                claims.append(_claim(content["claim"], is_program))
                for metric in claims[-1].metrics:
                    _check_known(file, content, metric)
            if content.get("tune") is not None:
                form_of_tune = AnyTune if is_program else Tune
                tunes.append(form_of_tune.model_validate(content["tune"]))
                _check_known(file, content, tunes[-1].metric)
            for name, base in () if is_program else _bases(content.get("models")):
                named[name].add(base)
        except (BenchError, pydantic.ValidationError):
            unread.append(folder.resolve().name)
    bases = {name: found.pop() for name, found in named.items() if len(found) == 1}
    tune = tunes[0] if tunes and all(one == tunes[0] for one in tunes) else None
    if unread:
        what = f"The matrix.yaml of {', '.join(unread)} holds no claim that can be read"
        return Asked(None, bases, tune, f"{what}: what follows is exploratory.")
    if any(claim != claims[0] for claim in claims):
        why = "The folders make different claims: what follows is exploratory."
        return Asked(None, bases, tune, why)
    claim = claims[0] if claims else None
    if isinstance(claim, FixedClaim):
        return Asked(None, bases, tune, fixed=claim)
    return Asked(claim, bases, tune)


def _claim(content: Any, is_program: bool) -> Claim | FixedClaim:
    form: type[Claim | FixedClaim]
    if is_fixed(content):
        form = AnyFixedClaim if is_program else FixedClaim
    else:
        form = AnyClaim if is_program else Claim
    return form.model_validate(content)


def settings_of(folder: Path) -> str:
    """The settings of a folder's cells, as its rows tell them; empty where it cannot be read.

    Rows of older versions do not tell them, and those of a folder's plan share its matrix.
    """
    try:
        content = _content(folder / "matrix.yaml")
        train = TrainForm.model_validate(content.get("train") or {}).model_dump()
        evaluation = EvalForm.model_validate(content.get("eval") or {}).model_dump()
        data = Data.model_validate(content.get("data") or {}).options
        return settings_text(TrainOptions(**train), EvalOptions(**evaluation), data)
    except (BenchError, OSError, ValueError):  # pydantic's is a ValueError
        return ""


def _content(file: Path) -> dict[str, Any]:
    document = _document(read_raw(file))
    document.raise_mistakes()
    if not isinstance(document.data, dict):
        raise MatrixError(str(file), [Mistake(0, "", "is not a mapping of keys to values.")])
    return document.data


@lru_cache(maxsize=16)
def _document(raw: bytes) -> Document:
    """The folders of a job array have one matrix, which takes a while to read."""
    return parse_yaml("matrix.yaml", raw)


def _check_known(file: Path, content: dict[str, Any], metric: str) -> None:
    """Raises MatrixError for what is no figure, nor declared by the matrix's program."""
    program = content.get(PROGRAM)
    declared = program.get("metrics") if isinstance(program, dict) else None
    if metric not in CLAIMABLE and metric not in (declared or ()):
        raise MatrixError(str(file), [Mistake(0, "", f"does not declare {metric}.")])


def _bases(models: Any) -> list[tuple[str, str]]:
    return [
        (name, str(variant["base"]))
        for name, variant in (models.items() if isinstance(models, dict) else ())
        if isinstance(variant, dict) and "base" in variant
    ]
