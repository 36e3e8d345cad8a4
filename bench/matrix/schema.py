"""A whole matrix file: what its sections may hold, and what is wrong with them."""

import dataclasses
from typing import Any, get_args

import pydantic
from pydantic import Field, create_model

from bench.border.options import MODEL_OPTIONS, OPTIMIZER_OPTIONS, OWN
from bench.matrix.claim_forms import Baseline, Claim, FixedClaim, Terms
from bench.matrix.explain import explain
from bench.matrix.forms import (
    Axes,
    Data,
    EvalForm,
    Exclude,
    Form,
    Image,
    Include,
    LimitsForm,
    Name,
    OwnModelForm,
    OwnOptimizerForm,
    TokensForm,
    TrainForm,
    named,
    variants,
)
from bench.matrix.program_forms import (
    NAMED_VALUES,
    AnyClaim,
    AnyFixedClaim,
    AnyTune,
    ProgramForm,
    ProgramImage,
)
from bench.matrix.tune_forms import PerSetting, Tune
from bench.matrix.yamlfile import Where, Wrong

SHARED = "x-"  # begins keys at the top that hold anchors alone, as in compose files
PROGRAM = "program"  # a file with this key is of the second form
NOT_OF_PROGRAMS = ("train", "eval", "data")

_BOTH = create_model(
    "_BOTH",
    __base__=Form,
    name=(Name, Field(description="results/<name>/ unless --out")),
    matrix=(Axes, ...),
    exclude=(list[Exclude], []),
    include=(list[Include], []),
    limits=(LimitsForm, LimitsForm()),
)

# The whole file; `bench schema` prints both as JSON Schema.
MatrixFile = create_model(
    "MatrixFile",
    __base__=_BOTH,
    data=(Data, Data(corpus=None, split=None, tokens=None, vocab_size=None)),
    image=(Image, Image(requirements=[])),
    train=(TrainForm, TrainForm()),
    eval=(EvalForm, EvalForm()),
    models=(named(variants(MODEL_OPTIONS, OwnModelForm)), {}),
    optimizers=(named(variants(OPTIMIZER_OPTIONS, OwnOptimizerForm)), {}),
    claim=(Claim | None, None),
    tune=(Tune | None, None),
)
ProgramFile = create_model(
    "ProgramFile",
    __base__=_BOTH,
    program=(ProgramForm, ...),
    image=(ProgramImage, ProgramImage(requirements=[], tag=None)),
    models=(NAMED_VALUES, {}),
    optimizers=(NAMED_VALUES, {}),
    claim=(AnyClaim | None, None),
    tune=(AnyTune | None, None),
)

# The same with a claim of the other form, which has an `arm` in place of a baseline.
_FIXED: dict[type[Form], type[Form]] = {
    MatrixFile: create_model("FixedMatrixFile", __base__=MatrixFile, claim=(FixedClaim, ...)),
    ProgramFile: create_model("FixedProgramFile", __base__=ProgramFile, claim=(AnyFixedClaim, ...)),
}


def _form_of(data: Any) -> type[Form]:
    if not isinstance(data, dict):
        return MatrixFile
    form = ProgramFile if PROGRAM in data else MatrixFile
    return _FIXED[form] if is_fixed(data.get("claim")) else form


def is_fixed(claim: Any) -> bool:
    """Whether what a file says under `claim` is about one configuration and a number."""
    return isinstance(claim, dict) and "arm" in claim


def validated(data: Any) -> tuple[Any, list[Wrong]]:
    """What a file holds in its form, as far as its sections are sound, and what is wrong with it.

    None for the form where no cells can be told. What is shared alone (`x-...`) is passed over.
    """
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if not key.startswith(SHARED)}
    form = _form_of(data)
    try:
        return form.model_validate(data), []
    except pydantic.ValidationError as failure:
        errors = failure.errors()
    if not isinstance(data, dict):
        return None, [((), "must be a mapping with `name` and `matrix`.")]
    wrong = [(_where(form, error["loc"]), _explained(form, error)) for error in errors]
    # Sound sections are still checked against each other, so that one run shows all mistakes.
    broken = {error["loc"][0] for error in errors}
    if broken & {"matrix", PROGRAM}:
        return None, wrong
    sound = {key: value for key, value in data.items() if key not in broken}
    return _form_of(sound).model_validate({"name": "unnamed", **sound}), wrong


def _explained(form: type[Form], error: Any) -> str:
    loc = error["loc"]
    is_extra = error["type"] == "extra_forbidden" and loc[0] in NOT_OF_PROGRAMS
    if issubclass(form, ProgramFile) and is_extra:
        what = "does not go with `program`, which trains, evaluates and reads by itself."
        return f"{what} Leave it out, and give such values by placeholders of the program."
    return explain(error, _allowed_keys(form, loc))


def _where(form: type[Form], loc: Where) -> Where:
    """pydantic's location without the parts that are not in the file."""
    # pydantic's word for a key itself; a file may have one of that name, but not as a section.
    where = loc[:-1] if loc[-1] == "[key]" and len(loc) > 2 else loc
    if issubclass(form, MatrixFile) and where[0] in ("models", "optimizers") and len(where) > 2:
        # After a variant's name and after a group's comes the kind of it.
        where = (*where[:2], *where[3:5], *where[6:])
    if where[:2] == ("tune", "space") and len(where) > 3:
        where = (*where[:3], *where[4:])
    return where[:2] + where[3:] if where[:2] == ("tune", "trials") else where


def _allowed_keys(whole: type[Form], loc: Where) -> list[str]:
    """The keys that are valid beside the last one of pydantic's location `loc`."""
    match loc[:-1]:
        case ():
            form = whole
        case ("models" | "optimizers", *_) if issubclass(whole, ProgramFile):
            return []
        case ("models" | "optimizers", _, *_, str(base)) if base == OWN:
            return []
        case ("models", _, str(base)):
            return ["base", *(entry.name for entry in dataclasses.fields(MODEL_OPTIONS[base]))]
        case ("optimizers", _, str(base)) | ("optimizers", _, _, "groups", _, str(base)):
            return ["base", *(entry.name for entry in dataclasses.fields(OPTIMIZER_OPTIONS[base]))]
        case ("data", "tokens"):
            form = TokensForm
        case ("claim", "baseline" | "arm"):
            form = Baseline
        case ("claim", "also", *_):
            form = Terms
        case ("tune", "trials", *_):
            form = PerSetting
        case ("tune", "space", _, str(values)):
            return [values]
        case (str(key), *_):
            kind = whole.model_fields[key].annotation
            forms = (each for each in get_args(kind) or (kind,) if isinstance(each, type))
            form = next((each for each in forms if issubclass(each, Form)), Form)
        case _:
            return []
    return list(form.model_fields)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a matrix file, for editors: of a program's where it has that key."""
    ours, programs = (_schema_of(form) for form in (MatrixFile, ProgramFile))
    definitions = {**ours.pop("$defs"), **programs.pop("$defs")}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "matrix",
        "$defs": definitions,
        "type": "object",
        "if": {"required": [PROGRAM]},
        "then": programs,
        "else": ours,
    }


def _schema_of(form: type[Form]) -> dict[str, Any]:
    schema, fixed = form.model_json_schema(), _FIXED[form].model_json_schema()
    schema["properties"]["claim"]["anyOf"].insert(1, fixed["properties"]["claim"])
    schema["$defs"] |= fixed["$defs"]
    schema["patternProperties"] = {f"^{SHARED}": {}}
    return schema
