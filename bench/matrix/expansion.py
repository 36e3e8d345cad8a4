"""A YAML matrix -> validated cells, in the order in which they run.

Everything is checked before anything runs, and all mistakes are reported at once, each with its
line, what is allowed and the nearest valid name.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from bench.border.options import (
    MODEL_OPTIONS,
    OPTIMIZER_OPTIONS,
    OPTIMIZER_VARIANTS,
    OWN,
    SHARES,
    DataOptions,
    EvalOptions,
    Limits,
    OwnModel,
    TrainOptions,
)
from bench.border.spec import CorpusRef, Model, Optimizer, RunSpec
from bench.errors import RequestError, nearest, shown
from bench.matrix import trials
from bench.matrix.explain import explain
from bench.matrix.forms import AXES, Claim, MatrixFile, OwnModelForm, Tune, allowed_keys
from bench.matrix.own import OwnVariants
from bench.matrix.yamlfile import Document, read_yaml
from bench.records.cells import Cell
from bench.records.owncode import OwnCode
from bench.records.requirements import pinned
from bench.records.rows import Row

TUNED_ON = ("val_loss_final", "val_loss_best", "perplexity")  # of the validation split
NO_CORPUS = CorpusRef("", "")  # until the launching side has resolved the text


@dataclass(frozen=True)
class Matrix:
    """A validated matrix. `cells` are in running order, without their corpus yet."""

    name: str
    text: str  # the file as it was read
    corpus: str | None  # as asked
    claim: Claim | None
    tune: Tune | None
    cells: tuple[Cell, ...]  # of the matrix itself, then trials, then what waits for these
    codes: tuple[OwnCode, ...] = ()  # that the matrix brings along
    requirements: tuple[str, ...] = ()  # that cells need beside torch and numpy: name==version
    installed: tuple[str, ...] = ()  # classes that it does not bring along: package.module:Name

    def with_corpus(self, corpus: CorpusRef) -> "Matrix":
        def on_corpus(cell: Cell) -> Cell:
            return dataclasses.replace(cell, spec=dataclasses.replace(cell.spec, corpus=corpus))

        return dataclasses.replace(self, cells=tuple(on_corpus(cell) for cell in self.cells))

    def decided(self, rows: Iterable[Row]) -> "Matrix":
        """With the settings of the tuned cells, as far as these rows of trials tell them."""
        if self.tune is None:
            return self
        cells = trials.decided(self.cells, self.tune, rows)
        return dataclasses.replace(self, cells=tuple(cells))


def load_matrix(path: Path) -> Matrix:
    """Read and check a matrix file.

    Raises:
        MatrixError: with every mistake in it.
    """
    document = read_yaml(path)
    form = _validate(document)
    if form is not None:
        expansion = _Expansion(document, form)
        cells = expansion.cells()
    document.raise_mistakes()
    assert form is not None
    return Matrix(
        form.name,
        document.text,
        form.data.corpus,
        form.claim,
        form.tune,
        tuple(cells),
        expansion.own.codes,
        tuple(dict.fromkeys(form.image.requirements)),
        expansion.own.installed(_options(cells)),
    )


def _validate(document: Document) -> Any:
    """The file in its form, as far as its sections are sound; None if no cells can be told."""
    try:
        return MatrixFile.model_validate(document.data)
    except pydantic.ValidationError as failure:
        errors = failure.errors()
    if not isinstance(document.data, dict):
        document.mistake((), "must be a mapping with `name` and `matrix`.")
        return None
    for error in errors:
        document.mistake(_where(error["loc"]), explain(error, allowed_keys(error["loc"])))
    # Sound sections are still checked against each other, so that one run shows all mistakes.
    broken = {error["loc"][0] for error in errors}
    if "matrix" in broken:
        return None
    sound = {key: value for key, value in document.data.items() if key not in broken}
    return MatrixFile.model_validate({"name": "unnamed", **sound})


def _where(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """pydantic's location without the parts that are not in the file."""
    # pydantic's word for a key itself; a file may have one of that name, but not as a section.
    where = loc[:-1] if loc[-1] == "[key]" and len(loc) > 2 else loc
    if where[0] in ("models", "optimizers") and len(where) > 2:
        # After a variant's name and after a group's comes the kind of it.
        where = (*where[:2], *where[3:5], *where[6:])
    if where[:2] == ("tune", "space") and len(where) > 3:
        where = (*where[:3], *where[4:])
    return where


class _Expansion:
    """Axes, excludes and includes -> cells, with the checks that need more than one section."""

    def __init__(self, document: Document, form: Any) -> None:
        self.document = document
        self.form = form
        self.train = self._train()
        self.eval = EvalOptions(**form.eval.model_dump())
        self.limits = self._limits()
        self.own = OwnVariants(document)
        self.data = self._data()
        self.models = self._named("models", Model, MODEL_OPTIONS, {})
        self.optimizers = self._named(
            "optimizers", Optimizer, OPTIMIZER_OPTIONS, OPTIMIZER_VARIANTS
        )

    def cells(self) -> list[Cell]:
        self._check_corpus()
        self._check_requirements()
        self._check_names()
        self._check_metrics()
        by_seed: dict[int, list[tuple[str, str, str]]] = {}
        axes = self.form.matrix
        names = (dict.fromkeys(axis) for axis in (axes.model, axes.optimizer, axes.device))
        arms = list(itertools.product(*names))
        for turn, seed in enumerate(dict.fromkeys(axes.seed)):
            # Rotated from seed to seed, so that neither drift nor a cold start favours an arm.
            rotated = arms[turn % len(arms) :] + arms[: turn % len(arms)]
            by_seed.setdefault(seed, []).extend(rotated)
        by_seed = self._without_excluded(by_seed)
        for extra in self.form.include:
            arm = (extra.model, extra.optimizer, extra.device)
            by_seed.setdefault(extra.seed, []).append(arm)
        if self.document.mistakes:
            return []
        cells = [
            Cell(self._spec(arm, seed), self.limits, order)
            for seed, seed_arms in by_seed.items()
            for order, arm in enumerate(seed_arms)
        ]
        if self.form.tune is not None and cells:
            cells += trials.planned(self.document, self.form.tune, cells)
        self._check_cells(cells)
        return cells

    def _data(self) -> DataOptions:
        shares = tuple(self.form.data.split or ())
        if shares and abs(sum(shares) - 1) > 1e-9:
            what = f"sums to {sum(shares):g}. Give shares that sum to 1, such as [0.8, 0.1, 0.1]."
            self.document.mistake(("data", "split"), what)
        return DataOptions() if shares == SHARES else DataOptions(shares)

    def _check_requirements(self) -> None:
        """One version of a package, however its name is spelled."""
        versions: dict[str, str] = {}
        for index, each in enumerate(self.form.image.requirements):
            ((name, version),) = pinned([each]).items()
            first = versions.setdefault(name, version)
            if version != first:
                what = f"{each!r} asks for another version of {name} than {first}. Leave one out."
                self.document.mistake(("image", "requirements", index), what)

    def _check_metrics(self) -> None:
        """What is claimed has been measured, and on no text that tuning has seen."""
        claim, has_test = self.form.claim, len(self.data.shares) > 2
        if claim is None:
            return
        if claim.metric == "test_loss_final" and not has_test:
            what = "needs a test split. Give data.split three shares, such as [0.8, 0.1, 0.1]."
            self.document.mistake(("claim", "metric"), f"{claim.metric} {what}")
        if self.form.tune is not None and has_test and claim.metric in TUNED_ON:
            what = "is of the split that tuning chooses by. Claim test_loss_final."
            self.document.mistake(("claim", "metric"), f"{claim.metric} {what}")

    def _train(self) -> TrainOptions:
        try:
            return TrainOptions(**self.form.train.model_dump())
        except ValueError as error:  # settings that do not go together
            self.document.mistake(("train",), f"{error}.")
            return TrainOptions()  # whatever else is wrong is told as well

    def _limits(self) -> Limits:
        limits = Limits(**self.form.limits.model_dump())
        if limits.cpus is None:
            return dataclasses.replace(limits, cpus=self.train.threads)
        if limits.cpus < self.train.threads:
            self.document.mistake(
                ("limits", "cpus"),
                f"{limits.cpus} is less than train.threads, {self.train.threads}: the threads "
                f"would take turns. Give at least {self.train.threads}.",
            )
        return limits

    def _named(
        self,
        key: str,
        kind: Any,
        options: dict[str, Any],
        settled: dict[str, tuple[str, Any]],
    ) -> dict[str, Any]:
        """Built-ins under their own names, `settled` ones under theirs, and the file's variants."""
        named = {base: kind(base, base, form()) for base, form in options.items()}
        named |= {name: kind(name, base, chosen) for name, (base, chosen) in settled.items()}
        built_in = set(named)
        for name, variant in getattr(self.form, key).items():
            if name in built_in:
                what = f"{name!r} is a built-in's own name. Choose another for the variant."
                self.document.mistake((key, name), what)
                continue
            if isinstance(variant, OwnModelForm):
                named[name] = kind(name, OWN, self.own.options((key, name), variant))
                continue
            try:
                settings = options[variant.base](**variant.model_dump(exclude={"base"}))
                named[name] = kind(name, variant.base, settings)
            except ValueError as error:  # settings that do not go together
                self.document.mistake((key, name), f"{error}.")
        return named

    def _check_corpus(self) -> None:
        """A path goes into messages as it is: there, it must not command a terminal."""
        corpus = self.form.data.corpus
        if corpus is not None and re.search("[\x00-\x1f\x7f-\x9f]", corpus):
            what = f"{shown(corpus)} holds a control character. Rename the file."
            self.document.mistake(("data", "corpus"), what)

    def _check_names(self) -> None:
        for axis in AXES:
            values = getattr(self.form.matrix, axis)
            for index, value in enumerate(values):
                if value in values[:index]:
                    what = f"{value!r} is listed twice. Remove one."
                    self.document.mistake(("matrix", axis, index), what)
        named = {"model": set(self.models), "optimizer": set(self.optimizers)}
        for axis, valid in named.items():
            for index, name in enumerate(getattr(self.form.matrix, axis)):
                self._check_name(("matrix", axis, index), name, valid)
            for key in ("include", "exclude"):
                for index, entry in enumerate(getattr(self.form, key)):
                    if (name := getattr(entry, axis)) is not None:
                        self._check_name((key, index, axis), name, valid)
            if self.form.claim is not None:
                name = getattr(self.form.claim.baseline, axis)
                self._check_name(("claim", "baseline", axis), name, valid)

    def _check_name(self, where: tuple[str | int, ...], name: str, valid: set[str]) -> None:
        # A variant that was itself refused has its own mistake; naming it is not another one.
        raw = self.document.data.get("models" if "model" in where else "optimizers")
        refused = raw if isinstance(raw, dict) else {}
        if name not in valid and name not in refused:
            self.document.mistake(where, f"nothing defines {name!r}. {nearest(name, valid)}")

    def _without_excluded(
        self, by_seed: dict[int, list[tuple[str, str, str]]]
    ) -> dict[int, list[tuple[str, str, str]]]:
        rules = [rule.model_dump(exclude_none=True) for rule in self.form.exclude]
        unused = set(range(len(rules)))

        def excluded(arm: tuple[str, str, str], seed: int) -> bool:
            cell = dict(zip(AXES, (*arm, seed), strict=True))
            matching = {
                index
                for index, rule in enumerate(rules)
                if all(cell[key] == value for key, value in rule.items())
            }
            unused.difference_update(matching)
            return bool(matching)

        kept = {
            seed: [arm for arm in arms if not excluded(arm, seed)] for seed, arms in by_seed.items()
        }
        refused = {mistake.where.rpartition(".")[0] for mistake in self.document.mistakes}
        for index in unused:
            if f"exclude[{index}]" not in refused:
                what = "matches no cell of the matrix. Correct or remove it."
                self.document.mistake(("exclude", index), what)
        return kept

    def _spec(self, arm: tuple[str, str, str], seed: int) -> RunSpec:
        model, optimizer, device = arm
        return RunSpec(
            model=self.models[model],
            optimizer=self.optimizers[optimizer],
            device=device,
            seed=seed,
            train=self.train,
            eval=self.eval,
            corpus=NO_CORPUS,
            data=self.data,
        )

    def _check_cells(self, cells: Sequence[Cell]) -> None:
        arm_ids: dict[tuple[str, str, str], str] = {}  # one identity an arm, not one a cell
        first: dict[tuple[str, int], RunSpec] = {}
        for cell in cells:
            spec = cell.spec
            arm = (spec.model.name, spec.optimizer.name, spec.device)
            arm_id = arm_ids.get(arm) or arm_ids.setdefault(arm, spec.arm_id)
            other = first.setdefault((arm_id, spec.seed), spec)
            if other is not spec:
                what = f"{_names(spec)} is planned twice"
                same = "" if _names(other) == _names(spec) else f", as {_names(other)}"
                if cell.tried:  # and so are their other trials
                    remedy = "Tuned over one space they are one arm: leave one optimizer out."
                    self.document.mistake(("tune", "space"), f"{what}{same}. {remedy}")
                    break
                self.document.mistake(("matrix",), f"{what}{same}. Remove one of them.")
        self._check_device(cells)
        for model, optimizer in {(cell.spec.model, cell.spec.optimizer) for cell in cells}:
            self._check_packages(model, optimizer)
        if not cells:
            self.document.mistake(("exclude",), "leaves no cell at all.")
        claim = self.form.claim
        if claim is not None and not any(
            (cell.spec.model.name, cell.spec.optimizer.name)
            == (claim.baseline.model, claim.baseline.optimizer)
            for cell in cells
        ):
            self.document.mistake(("claim", "baseline"), "no cell of the matrix is this arm.")

    def _check_device(self, cells: Sequence[Cell]) -> None:
        """What is asked of training can be done on every cell's device, with every cell's model."""
        specs = [cell.spec for cell in cells]
        if any(spec.device == "cpu" for spec in specs):
            for name in self.train.for_cuda:
                what = "is for device cuda, and the matrix plans cells on cpu. Leave one out."
                self.document.mistake(("train", name), what)
        options = {spec.model.name: spec.model.options for spec in specs}
        changing = [name for name in options if not getattr(options[name], "same_each_step", True)]
        if self.train.graph_steps and changing:
            what = f"repeats one step, and those of {', '.join(changing)} differ (top-k, pruning)."
            self.document.mistake(("train", "graph_steps"), f"{what} Leave one of them out.")

    def _check_packages(self, model: Model, optimizer: Optimizer) -> None:
        """A cell imports one package of a name."""
        names = {code.sha256: code.name.removesuffix(".py") for code in self.own.codes}
        options = (model.options, optimizer.options)
        found = [each.code_sha256 for each in options if isinstance(each, OwnModel)]
        brought = [names[sha256] for sha256 in dict.fromkeys(found) if sha256]
        if len(brought) > len(set(brought)):
            what = f"has another {brought[0]} at its path than model {model.name}. Rename one."
            self.document.mistake(("optimizers", optimizer.name), what)


def _options(cells: Iterable[Cell]) -> list[Any]:
    """Those of every model and optimizer of these cells, each once."""
    specs = [cell.spec for cell in cells]
    models = {spec.model.name: spec.model.options for spec in specs}
    optimizers = {spec.optimizer.name: spec.optimizer.options for spec in specs}
    return [*models.values(), *optimizers.values()]


def _names(spec: RunSpec) -> str:
    return f"{spec.model.name} + {spec.optimizer.name} on {spec.device}, seed {spec.seed}"


def select(cells: Sequence[Cell], only: Sequence[str], shard: str | None) -> set[str]:
    """The run_ids that `--only K=V` and `--shard I/N` choose.

    Several --only must all hold; those of one key are alternatives. A shard is a contiguous part
    of the running order, so that a seed's arms, which are compared as pairs, stay on one machine
    wherever the number of shards allows.

    Raises:
        RequestError: for a key, a value or a shard that does not exist.
    """
    chosen = list(cells) if shard is None else list(_shard(cells, shard))
    wanted: dict[str, set[str]] = {}
    for rule in only:
        key, _, value = rule.partition("=")
        if key not in AXES:
            raise RequestError(f"--only {rule}: no such key. {nearest(key, AXES)}")
        valid = {axis_values(cell)[key] for cell in cells}
        if value not in valid:
            raise RequestError(
                f"--only {rule}: no cell has it. {nearest(value, valid)} "
                f"Or add it to `{key}` in the matrix file."
            )
        wanted.setdefault(key, set()).add(value)
    return {
        cell.spec.run_id
        for cell in chosen
        if all(axis_values(cell)[key] in values for key, values in wanted.items())
    }


def axis_values(cell: Cell) -> dict[str, str]:
    spec = cell.spec
    values = (spec.model.name, spec.optimizer.name, spec.device, str(spec.seed))
    return dict(zip(AXES, values, strict=True))


def _shard(cells: Sequence[Cell], shard: str) -> Sequence[Cell]:
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard, re.ASCII)
    index, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= count:
        raise RequestError(f"--shard {shard!r}: write I/N with 1 <= I <= N, such as 2/5.")
    return cells[(index - 1) * len(cells) // count : index * len(cells) // count]
