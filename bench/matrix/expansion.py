"""A YAML matrix -> validated cells, in the order in which they run.

Everything is checked before anything runs, and all mistakes are reported at once, each with its
line, what is allowed and the nearest valid name.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.border.options import (
    MODEL_OPTIONS,
    OPTIMIZER_OPTIONS,
    OPTIMIZER_VARIANTS,
    OWN,
    EvalOptions,
    Limits,
    TrainOptions,
)
from bench.border.program import BASE, GivenValues
from bench.border.spec import CorpusRef, Model, Optimizer, RunSpec
from bench.errors import CorpusError
from bench.matrix import choice, trials
from bench.matrix.arguments import check_arguments
from bench.matrix.checks import check_cells, check_names, check_sections
from bench.matrix.claim_forms import Claim, FixedClaim
from bench.matrix.forms import AXES, OwnModelForm
from bench.matrix.own import installed, own_options
from bench.matrix.packaged import paths_start_at
from bench.matrix.programs import bring, check_values
from bench.matrix.schema import PROGRAM, validated
from bench.matrix.tune_forms import Tune
from bench.matrix.yamlfile import Document, Wrong, read_yaml
from bench.records.cells import Cell
from bench.records.corpora import find_corpus
from bench.records.owncode import OwnCode, read_code
from bench.records.ownprogram import DataFolder
from bench.records.rows import Row
from bench.records.tokenfiles import AnyCorpus, TokensAsked, Watch, find_tokens

NO_CORPUS = CorpusRef("", "")  # until the launching side has resolved the text


@dataclass(frozen=True)
class Matrix:
    """A validated matrix. `cells` are in running order, without their corpus yet."""

    name: str
    document: Document  # the file as it was read
    folder: Path  # where relative paths in it start
    corpus: str | None  # as asked
    tokens: TokensAsked | None  # in place of it
    tune: Tune | None
    claim: Claim | FixedClaim | None
    cells: tuple[Cell, ...]  # of the matrix itself, then trials, then what waits for these
    codes: tuple[OwnCode, ...] = ()  # that the matrix brings along
    data: Mapping[str, DataFolder] = field(default_factory=dict)  # of its program, by name
    image: str | None = None  # the tag of the image that it asks for
    requirements: tuple[str, ...] = ()  # that cells need beside torch and numpy: name==version
    installed: tuple[str, ...] = ()  # classes that it does not bring along: package.module:Name

    @property
    def text(self) -> str:
        return self.document.text

    def find_corpus(self, watch: Watch = lambda done, total: None) -> AnyCorpus | None:
        """What its cells read, long enough for every split; None: a program has its own.

        `watch`: is told how far files of tokens have been read.

        Raises:
            MatrixError: if it cannot be used, with the line that names it.
        """
        spec = self.cells[0].spec
        if spec.program is not None:
            return None
        corpus: AnyCorpus
        try:
            if self.tokens is not None:
                corpus = find_tokens(self.tokens, self.folder, watch)
            else:
                corpus = find_corpus(self.corpus, self.folder)
            corpus.check(spec.train.block_size, spec.data)
        except CorpusError as error:
            where = ("data", "corpus" if self.tokens is None else "tokens")
            raise self.document.error([(where, str(error))]) from error
        if "bits_per_byte" in (self.claim.metrics if self.claim else ()):
            self._check_bytes_known(corpus)
        return corpus

    def _check_bytes_known(self, corpus: AnyCorpus) -> None:
        if corpus.val_bytes_per_token(self.cells[0].spec.data) is None:
            what = (
                "bits_per_byte needs to know how many bytes a token of the validation split stands "
                "for, and no tokens.json beside its files tells it. Claim val_loss_final."
            )
            raise self.document.error([(("claim", "metric"), what)])

    def with_corpus(self, corpus: CorpusRef) -> "Matrix":
        def on_corpus(cell: Cell) -> Cell:
            return dataclasses.replace(cell, spec=dataclasses.replace(cell.spec, corpus=corpus))

        return dataclasses.replace(self, cells=tuple(on_corpus(cell) for cell in self.cells))

    def decided(self, rows: Iterable[Row]) -> "Matrix":
        """With the settings of the tuned cells, as far as these rows of trials tell them."""
        if self.tune is None:
            return self
        cells = choice.decided(self.cells, self.tune, rows)
        return dataclasses.replace(self, cells=tuple(cells))


Arm = tuple[str, str, str]  # model, optimizer and device, by name


@dataclass(frozen=True)
class Named:
    """What the names of a matrix stand for: built-ins and its own variants."""

    model: dict[str, Model]
    optimizer: dict[str, Optimizer]
    codes: tuple[OwnCode, ...]  # that variants bring along, or the program
    data: Mapping[str, DataFolder] = field(default_factory=dict)

    def spec(self, arm: Arm, seed: int, shared: Mapping[str, Any]) -> RunSpec:
        model, optimizer, device = self.model[arm[0]], self.optimizer[arm[1]], arm[2]
        return RunSpec(model, optimizer, device, seed, corpus=NO_CORPUS, **shared)


def load_matrix(path: Path, text_from: Path | None = None) -> Matrix:
    """Read and check a matrix file.

    `text_from`: where its text was kept; what it names still lies beside the file itself.

    Raises:
        MatrixError: with every mistake in it.
    """
    document = read_yaml(text_from or path)
    form, wrong = validated(document.data)
    if form is None:
        raise document.error(wrong)
    brings = getattr(form, PROGRAM, None) is not None
    named, shared, of_variants = (_of_program if brings else _of_ours)(form, path)
    limits, of_shared = _limits(form, shared)
    of_names = check_names(form, named.model, named.optimizer, document.data)
    by_seed, of_excludes = _arms_by_seed(form, of_names)
    of_sections = [*check_sections(form), *check_arguments(form, document.plain)]
    if brings and not {where[0] for where, _ in wrong} & {"models", "optimizers"}:
        planned = {arm[:2] for arms in by_seed.values() for arm in arms}
        of_sections += check_values(shared[PROGRAM], named.model, named.optimizer, planned)
    document.raise_mistakes(wrong + of_shared + of_variants + of_names + of_excludes + of_sections)
    cells = [
        Cell(named.spec(arm, seed, shared), limits, order)
        for seed, arms in by_seed.items()
        for order, arm in enumerate(arms)
    ]
    tried, of_trials = trials.planned(form.tune, cells) if form.tune and cells else ([], [])
    cells += tried
    document.raise_mistakes(of_trials + check_cells(form, cells, named.codes))
    return Matrix(
        name=form.name,
        document=document,
        folder=paths_start_at(path),
        corpus=None if brings else form.data.corpus,
        tokens=None if brings else form.data.tokens_asked,
        tune=form.tune,
        claim=form.claim,
        cells=tuple(cells),
        codes=named.codes,
        requirements=tuple(dict.fromkeys(form.image.requirements)),
        installed=installed(cells, named.codes),
        data=named.data,
        image=form.image.tag if brings else None,
    )


def _of_program(form: Any, path: Path) -> tuple[Named, dict[str, Any], list[Wrong]]:
    """What names stand for, what all cells have in common, and what is wrong with both."""
    brought, wrong = bring(form.program, path)
    models, optimizers = (
        {name: GivenValues(dict(values.model_extra or {})) for name, values in section.items()}
        for section in (form.models, form.optimizers)
    )
    used = brought.program.used
    for axis, named in (("model", models), ("optimizer", optimizers)):
        if not named or axis in used:  # a name may stand for itself
            named |= {
                name: GivenValues() for name in getattr(form.matrix, axis) if name not in named
            }
    return (
        Named(
            {name: Model(name, BASE, values) for name, values in models.items()},
            {name: Optimizer(name, BASE, values) for name, values in optimizers.items()},
            (brought.code,) if brought.code else (),
            brought.data,
        ),
        {
            "train": TrainOptions(),
            "eval": EvalOptions(),
            PROGRAM: brought.program,
        },
        wrong,
    )


def _of_ours(form: Any, path: Path) -> tuple[Named, dict[str, Any], list[Wrong]]:
    """The same of a matrix of models and optimizers that are built in, or classes."""
    named, wrong = _named(form, paths_start_at(path))
    shared, of_shared = _shared(form)
    return named, shared, wrong + of_shared


def _limits(form: Any, shared: Mapping[str, Any]) -> tuple[Limits, list[Wrong]]:
    key = PROGRAM if PROGRAM in shared else "train"
    threads = shared[key].threads
    limits = Limits(**form.limits.model_dump())
    if key == PROGRAM and limits.checkpoint_every is not None:
        what = "is for training of ours. A program keeps its own: leave it out."
        return limits, [(("limits", "checkpoint_every"), what)]
    if limits.cpus is None:
        return dataclasses.replace(limits, cpus=threads), []
    if limits.cpus >= threads:
        return limits, []
    what = (
        f"{limits.cpus} is less than {key}.threads, {threads}: the threads "
        f"would take turns. Give at least {threads}."
    )
    return limits, [(("limits", "cpus"), what)]


def _shared(form: Any) -> tuple[dict[str, Any], list[Wrong]]:
    """What all cells have in common: fields of their RunSpec."""
    wrong: list[Wrong] = []
    try:
        train = TrainOptions(**form.train.model_dump())
    except ValueError as error:  # settings that do not go together
        wrong.append((("train",), f"{error}."))
        train = TrainOptions()  # whatever else is wrong is told as well
    shares = form.data.split
    if shares and abs(sum(shares) - 1) > 1e-9:
        what = f"sums to {sum(shares):.12g}. Give shares that sum to 1, such as [0.8, 0.1, 0.1]."
        wrong.append((("data", "split"), what))
    evaluation = EvalOptions(**form.eval.model_dump())
    return {"train": train, "eval": evaluation, "data": form.data.options}, wrong


def _named(form: Any, folder: Path) -> tuple[Named, list[Wrong]]:
    """`folder`: where the relative path of a class starts."""
    models = {base: (base, default()) for base, default in MODEL_OPTIONS.items()}
    optimizers = {base: (base, default()) for base, default in OPTIMIZER_OPTIONS.items()}
    optimizers |= OPTIMIZER_VARIANTS
    # Read once, however many variants are from one package.
    own = functools.partial(own_options, folder=folder, read=functools.cache(read_code))
    own_models, codes, wrong = _variants("models", form.models, models, own)
    own_optimizers, more, found = _variants("optimizers", form.optimizers, optimizers, own)
    named = Named(
        {name: Model(name, *chosen) for name, chosen in (models | own_models).items()},
        {name: Optimizer(name, *chosen) for name, chosen in (optimizers | own_optimizers).items()},
        tuple({code.sha256: code for code in [*codes, *more]}.values()),
    )
    return named, wrong + found


def _variants(
    key: str, forms: Mapping[str, Any], built_in: Mapping[str, tuple[str, Any]], own: Any
) -> tuple[dict[str, tuple[str, Any]], list[OwnCode], list[Wrong]]:
    """The base and the options of each variant of a section, and the code that they bring."""
    chosen: dict[str, tuple[str, Any]] = {}
    codes: list[OwnCode] = []
    wrong: list[Wrong] = []
    for name, form in forms.items():
        where = (key, name)
        if name in built_in:
            what = f"{name!r} is a built-in's own name. Choose another for the variant."
            wrong.append((where, what))
        elif isinstance(form, OwnModelForm):
            options, code, found = own(where, form)
            chosen[name] = (OWN, options)
            codes += [code] if code else []
            wrong += found
        else:
            base, default = built_in[form.base]
            try:
                settings = dataclasses.replace(default, **form.model_dump(exclude={"base"}))
                chosen[name] = (base, settings)
            except ValueError as error:  # settings that do not go together
                wrong.append((where, f"{error}."))
    return chosen, codes, wrong


def _arms_by_seed(form: Any, misnamed: Sequence[Wrong]) -> tuple[dict[int, list[Arm]], list[Wrong]]:
    """Every combination of the axes, less the excludes, with the includes; in running order.

    `misnamed`: an exclude that is among these has its own mistake; that it matches nothing is not
    another one.
    """
    axes = form.matrix
    arms = list(itertools.product(*map(dict.fromkeys, (axes.model, axes.optimizer, axes.device))))
    rules = [rule.model_dump(exclude_none=True) for rule in form.exclude]
    unused = set(range(len(rules))) - {where[1] for where, _ in misnamed if where[0] == "exclude"}
    by_seed: dict[int, list[Arm]] = {}
    for turn, seed in enumerate(dict.fromkeys(axes.seed)):
        by_seed[seed] = []
        # Rotated from seed to seed, so that neither drift nor a cold start favours an arm.
        start = turn % len(arms)
        for arm in arms[start:] + arms[:start]:
            cell = dict(zip(AXES, (*arm, seed), strict=True))
            matching = {n for n, rule in enumerate(rules) if rule.items() <= cell.items()}
            unused -= matching
            if not matching:
                by_seed[seed].append(arm)
    for extra in form.include:
        by_seed.setdefault(extra.seed, []).append((extra.model, extra.optimizer, extra.device))
    what = "matches no cell of the matrix. Correct or remove it."
    return by_seed, [(("exclude", index), what) for index in sorted(unused)]
