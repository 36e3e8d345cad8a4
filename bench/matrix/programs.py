"""A matrix of a program -> its program, its values, and what no single section can tell of them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from bench.border.program import BUILT_IN, GivenValues, Program, placeholders
from bench.border.spec import Model, Optimizer
from bench.errors import CodeError, nearest
from bench.matrix.claim_forms import Claim, FixedClaim
from bench.matrix.schema import PROGRAM
from bench.matrix.tune_forms import Tune
from bench.matrix.yamlfile import Where, Wrong
from bench.program.reading import GROUPS, why_no_expression, why_no_pattern
from bench.records.columns import CLAIMABLE, COLUMNS, METRICS
from bench.records.owncode import OwnCode
from bench.records.ownprogram import DataFolder, read_data, read_program

OF_FRAMES = ("folder", "section")  # columns of bench/merge/frames.py beside those of runs.csv
GPUS_SEEN = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Brought:
    """A program, with what lies on the disk of it."""

    program: Program
    code: OwnCode | None  # None where it could not be read
    data: Mapping[str, DataFolder]


def bring(form: Any, matrix: Path) -> tuple[Brought, list[Wrong]]:
    """The program that a sound form asks for, and what is wrong with it by itself.

    `matrix`: the file; relative paths start where it lies.
    """
    code, data, hashes, wrong = _from_disk(form, matrix.resolve())
    program = Program(
        name=Path(form.path).name,
        code_sha256=code.sha256 if code else "",
        command=tuple(form.command),
        replace={file: dict(pairs) for file, pairs in form.replace.items()},
        files=dict(form.files),
        environment=dict(form.environment),
        data=hashes,
        read=tuple(form.read),
        trials=form.trials or "",
        metrics={name: metric.better for name, metric in form.metrics.items()},
        seeds=form.seeds,
        gpus=form.gpus,
        steps=form.steps,
        threads=form.threads,
    )
    wrong += [*_check_read(program), *_check_seeds(program), *_check_paths(form)]
    wrong += _check_environment(program)
    if code is not None:
        program = replace(program, name=code.name)
        wrong += _check_replaced(program, code)
    return Brought(program, code, data), [((PROGRAM, *where), what) for where, what in wrong]


def _from_disk(
    form: Any, matrix: Path
) -> tuple[OwnCode | None, dict[str, DataFolder], dict[str, str], list[Wrong]]:
    code, data, hashes = None, {}, {}
    wrong: list[Wrong] = []
    try:
        code = read_program(_path(matrix.parent, form.path), form.ignore, matrix)
    except CodeError as error:
        wrong.append((("path",), str(error)))
    for name, path in form.data.items():
        try:
            data[name] = read_data(_path(matrix.parent, path))
            hashes[name] = data[name].sha256
        except CodeError as error:
            wrong.append((("data", name), str(error)))
    return code, data, hashes, wrong


def _path(folder: Path, path: str) -> Path:
    return (folder / Path(path).expanduser()).resolve()


def _check_read(program: Program) -> Iterator[Wrong]:
    for index, pattern in enumerate(program.read):
        if why := why_no_pattern(pattern, program.metrics):
            yield ("read", index), f"{why}."
    if program.trials and (why := why_no_expression(program.trials)):
        yield ("trials",), f"{why}."
    for name in program.metrics:
        if name in COLUMNS or name in GROUPS:
            yield ("metrics", name), "is known without being declared. Leave it out here."
        elif name in OF_FRAMES:
            yield ("metrics", name), "is what bench.load calls another column. Rename it."


def _check_seeds(program: Program) -> Iterator[Wrong]:
    """Each seed is another run, or all of them are said to be draws of one."""
    if program.seeds == "paired" and program.trials:
        what = "makes several runs in a process, which no seed tells apart."
        yield ("trials",), f"{what} Write seeds: replicates."
    elif program.seeds == "paired" and "seed" not in program.used:
        yield (
            (),
            "{seed} stands nowhere: every seed would be the same run. Put it into command or "
            "environment, or in place of what the program has (replace); or, where it seeds itself "
            "anew each time, write seeds: replicates.",
        )
    if program.seeds == "replicates" and program.trials and "seed" in program.used:
        yield ("trials",), "makes runs of all seeds in one process. Take {seed} out."
    if program.steps is None and "steps" in program.used:
        yield ("steps",), "is not given, and {steps} stands for it. Give it."


def _check_paths(form: Any) -> Iterator[Wrong]:
    for name in sorted(form.files.keys() & form.replace.keys()):
        yield ("files", name), "is written anew, and replace changes what stands in it. Leave one."
    for key in ("replace", "files"):
        for name in getattr(form, key):
            if ".." in Path(name).parts:
                yield (key, name), "leads out of the program's folder. Name a file in it."
            if Path(name).parts[:2] in {("data", each) for each in form.data}:
                yield (key, name), "is of program.data, which is as it is. Name another file."


def _check_environment(program: Program) -> Iterator[Wrong]:
    """On other GPUs than those that it is given, a run is not measured, and meets others."""
    if GPUS_SEEN in program.environment:
        what = "is set for each cell, to GPUs that no other cell has. Leave it out; program.gpus"
        yield ("environment", GPUS_SEEN), f"{what} says how many."


def _check_replaced(program: Program, code: OwnCode) -> Iterator[Wrong]:
    for file, pairs in program.replace.items():
        if ".." in Path(file).parts:
            continue  # that is told already
        if file not in code.files:
            yield ("replace", file), f"is no file of {program.name}. {nearest(file, code.files)}"
            continue
        content = code.files[file].decode("utf-8", errors="replace")
        for text in pairs:
            if (count := content.count(text)) != 1:
                what = f"stands {count} times in {file}, and is to stand there once."
                yield ("replace", file, text), f"{what} Give more or less of the text around it."


def check_values(
    program: Program,
    models: Mapping[str, Model],
    optimizers: Mapping[str, Optimizer],
    pairs: Collection[tuple[str, str]],
) -> list[Wrong]:
    """Every placeholder has one value in each arm, and every value a placeholder.

    `pairs`: the models and optimizers that are planned together.
    """
    wrong = [
        *_check_unused(program, "models", models),
        *_check_unused(program, "optimizers", optimizers),
    ]
    told: set[tuple[Where, str]] = set()
    for model, optimizer in sorted(pairs):
        if model not in models or optimizer not in optimizers:
            continue  # that is told already
        own = _settings(models[model]), _settings(optimizers[optimizer])
        for key in own[0].keys() & own[1].keys():
            what = f"is set by model {model} as well. Leave one out, or give it another name."
            wrong.append((("optimizers", optimizer, key), what))
        known = [*own[0], *own[1], *BUILT_IN]
        for where, text in _texts(program):
            for name in placeholders(text):
                if name not in known and (where, name) not in told:
                    told.add((where, name))
                    what = f"{{{name}}} stands for nothing with model {model} and optimizer "
                    wrong.append((where, f"{what}{optimizer}. {nearest(name, known)}"))
    return list(dict.fromkeys(wrong))


def _check_unused(
    program: Program, key: str, named: Mapping[str, Model] | Mapping[str, Optimizer]
) -> Iterator[Wrong]:
    for name, each in named.items():
        for value in _settings(each):
            where = (key, name, value)
            if value in BUILT_IN:
                yield where, f"{{{value}}} is what a run has anyhow. Give it another name."
            elif value.isidentifier() and value not in program.used:  # else it is told already
                what = f"reaches nothing: {{{value}}} stands nowhere in the program."
                yield where, f"{what} Leave it out, or put it where it belongs."


def _settings(named: Model | Optimizer) -> dict[str, Any]:
    return named.options.settings if isinstance(named.options, GivenValues) else {}


def _texts(program: Program) -> Iterator[tuple[Where, str]]:
    """Where placeholders may stand in the file, and what stands there."""
    for index, text in enumerate(program.command):
        yield (PROGRAM, "command", index), text
    for file, pairs in program.replace.items():
        yield from (((PROGRAM, "replace", file, old), new) for old, new in pairs.items())
    for key in ("files", "environment"):
        entries: Mapping[str, str] = getattr(program, key)
        yield from (((PROGRAM, key, name), text) for name, text in entries.items())


def check_metrics(form: Any) -> Iterator[Wrong]:
    """What is claimed or tuned by is a column that may be, or a metric that is declared."""
    tuned_on = get_args(Tune.model_fields["metric"].annotation)
    claims = form.claim.each if isinstance(form.claim, Claim) else ()
    asked: list[tuple[Where, str, Sequence[str]]] = [
        (("claim", "also", place - 1) if place else ("claim",), terms.metric, CLAIMABLE)
        for place, terms in enumerate(claims)
    ]
    if isinstance(form.claim, FixedClaim):
        asked.append((("claim",), form.claim.metric, METRICS))
    if form.tune is not None:
        asked.append((("tune",), form.tune.metric, tuned_on))
    for where, metric, ours in asked:
        known = [*ours, *form.program.metrics]
        if metric not in known:
            what = f"{metric!r} is not allowed. {nearest(metric, known)}"
            yield (*where, "metric"), f"{what} Others are declared: program.metrics."
