"""What no single section of a matrix can tell: sections and cells, checked against each other."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from bench.border.spec import Optimizer, RunSpec
from bench.errors import nearest
from bench.matrix.claim_forms import Baseline, Claim, FixedClaim, Terms
from bench.matrix.forms import AXES
from bench.matrix.own import packages
from bench.matrix.programs import check_metrics
from bench.matrix.schema import PROGRAM
from bench.matrix.yamlfile import Where, Wrong
from bench.records.cells import Cell
from bench.records.columns import AT_EQUAL_COST, OF_CURVES, OF_GPUS, TO_TARGET
from bench.records.owncode import OwnCode
from bench.records.requirements import pinned

# Of the validation split.
TUNED_ON = (
    *("val_loss_final", "val_loss_best", "perplexity", "bits_per_char", "bits_per_byte"),
    "param_efficiency",
    *OF_CURVES,
)


def check_names(
    form: Any, models: Collection[str], optimizers: Collection[str], content: Mapping[str, Any]
) -> list[Wrong]:
    """Every name that is used stands for something.

    `content` is the whole file: a variant that was itself refused has its own mistake, and naming
    it is not another one.
    """
    wrong: list[Wrong] = []
    for axis, known in (("model", models), ("optimizer", optimizers)):
        section = content.get(f"{axis}s")
        refused = section if isinstance(section, dict) else {}
        wrong += [
            (where, f"nothing defines {name!r}. {nearest(name, known)}")
            for where, name in _uses(form, axis)
            if name not in known and name not in refused
        ]
    return wrong


def _uses(form: Any, axis: str) -> Iterator[tuple[Where, str]]:
    """Every place that names a model (or an optimizer), but for its definition."""
    for index, name in enumerate(getattr(form.matrix, axis)):
        yield ("matrix", axis, index), name
    for key in ("include", "exclude"):
        for index, entry in enumerate(getattr(form, key)):
            if (name := getattr(entry, axis)) is not None:
                yield (key, index, axis), name
    if form.claim is not None:
        key, arm = claimed_arm(form.claim)
        yield ("claim", key, axis), getattr(arm, axis)


def claimed_arm(claim: Claim | FixedClaim) -> tuple[str, Baseline]:
    """The one that a claim names, and under which key."""
    return ("arm", claim.arm) if isinstance(claim, FixedClaim) else ("baseline", claim.baseline)


def check_sections(form: Any) -> list[Wrong]:
    checks = (_check_repeated, _check_requirements, _check_data, _check_metrics)
    return [wrong for check in checks for wrong in check(form)]


def _check_data(form: Any) -> Iterator[Wrong]:
    """Token files come in place of a text, and of what divides it."""
    if PROGRAM in type(form).model_fields:
        return
    data = form.data
    if data.tokens is None:
        if data.vocab_size is not None:
            what = "belongs to tokens: a text has the characters that it has. Leave it out."
            yield ("data", "vocab_size"), what
        return
    if data.corpus is not None:
        yield ("data", "corpus"), "does not go with tokens, which are the data. Leave one out."
    if data.split is not None:
        what = "does not go with tokens, whose files are of a split each. Leave it out."
        yield ("data", "split"), what


def _check_repeated(form: Any) -> Iterator[Wrong]:
    for axis in AXES:
        seen = set()
        for index, value in enumerate(getattr(form.matrix, axis)):
            if value in seen:
                yield ("matrix", axis, index), f"{value!r} is listed twice. Remove one."
            seen.add(value)


def _check_requirements(form: Any) -> Iterator[Wrong]:
    """One version of a package, however its name is spelled, and an image of ours to put it on."""
    if form.image.requirements and getattr(form.image, "tag", None):
        what = "is an image as it is, and requirements come on top of ours. Leave one of them out."
        yield ("image", "tag"), what
    versions: dict[str, str] = {}
    for index, each in enumerate(form.image.requirements):
        ((name, version),) = pinned([each]).items()
        first = versions.setdefault(name, version)
        if version != first:
            what = f"{each!r} asks for another version of {name} than {first}. Leave one out."
            yield ("image", "requirements", index), what


def _check_metrics(form: Any) -> Iterator[Wrong]:
    """What is claimed has been measured, and on no text that tuning has seen."""
    if isinstance(form.claim, FixedClaim):
        for key, what in _unmeasured(form, form.claim.metric):
            yield ("claim", key), what
    elif form.claim is not None:
        yield from _check_claimed(form)
    if PROGRAM in type(form).model_fields:
        yield from check_metrics(form)


def _check_claimed(form: Any) -> Iterator[Wrong]:
    metrics: list[str] = []
    for place, terms in enumerate(form.claim.each):
        where = ("claim", "also", place - 1) if place else ("claim",)
        if terms.metric in metrics:
            yield (*where, "metric"), f"{terms.metric} is claimed twice. Remove one."
        metrics.append(terms.metric)
        for key, what in (*_unmeasured(form, terms.metric), *_wrong_terms(form, terms, place)):
            yield (*where, key), what


def _unmeasured(form: Any, metric: str) -> Iterator[tuple[str, str]]:
    """(key, what is wrong): no cell measures it, or tuning has seen it."""
    if metric in OF_GPUS and "cuda" not in _devices(form):
        what = "is of a GPU, and no cell is on device cuda. Claim another column, or plan such."
        yield "metric", f"{metric} {what}"
    if PROGRAM in type(form).model_fields:
        return
    has_test = form.data.has_test
    if form.data.tokens and metric == "bits_per_char":
        what = "is of a text's characters, which tokens are not. Claim val_loss_final."
        yield "metric", f"{metric} {what}"
    if metric == "test_loss_final" and not has_test:
        what = "needs a test split. Give data.split three shares, such as [0.8, 0.1, 0.1]."
        if form.data.tokens:
            what = "needs a test split. Name its files by data.tokens.test."
        yield "metric", f"{metric} {what}"
    if form.tune is not None and has_test and metric in TUNED_ON:
        what = "is measured on the split that tuning chooses by. Claim test_loss_final."
        yield "metric", f"{metric} {what}"


def _wrong_terms(form: Any, terms: Terms, place: int) -> Iterator[tuple[str, str]]:
    """(key, what is wrong): at what a figure of curves is taken, said where it must be alone."""
    for key, metrics, must in (
        ("tail", ("val_loss_tail",), True),
        ("budget", AT_EQUAL_COST, False),
        ("target", TO_TARGET, True),
    ):
        is_given, belongs = getattr(terms, key) is not None, terms.metric in metrics
        if belongs and must and not is_given:
            yield "metric", f"{terms.metric} needs {key}. Write it beside the metric."
        # A table tells how long the target of the claim itself takes, whatever is claimed.
        if is_given and not belongs and (key != "target" or place):
            yield key, f"belongs to {', '.join(metrics)} alone. Leave it out."
    if terms.tail is not None and PROGRAM not in type(form).model_fields:
        evaluations = math.ceil(form.train.steps / form.eval.every)
        if terms.tail > evaluations:
            what = f"is {terms.tail}, and a run has {evaluations} evaluations after its first step"
            yield "tail", f"{what}. Write less, or lower eval.every."


def _devices(form: Any) -> set[str]:
    return {*form.matrix.device, *(cell.device for cell in form.include)}


def check_cells(form: Any, cells: Sequence[Cell], codes: Sequence[OwnCode]) -> list[Wrong]:
    """There are cells, each once and each possible, and the claim is about some of them."""
    wrong = [
        *_check_planned_twice(cells),
        *_check_train(cells),
        *_check_packages(cells, codes),
        *_check_clipping(form, cells),
    ]
    if not cells:
        wrong.append((("exclude",), "leaves no cell at all. Remove a rule."))
    if form.claim is not None:
        key, arm = claimed_arm(form.claim)
        if (arm.model, arm.optimizer) not in {cell.place[:2] for cell in cells}:
            what = "no cell of the matrix has this model with this optimizer."
            wrong.append((("claim", key), f"{what} Name two that run together."))
    return wrong


def _check_planned_twice(cells: Sequence[Cell]) -> Iterator[Wrong]:
    arm_ids: dict[tuple[str, str, str], str] = {}  # one identity an arm, not one a cell
    first: dict[tuple[str, int], RunSpec] = {}
    for cell in cells:
        spec, arm = cell.spec, cell.place[:3]
        arm_id = arm_ids.get(arm) or arm_ids.setdefault(arm, spec.arm_id)
        other = first.setdefault((arm_id, spec.seed), spec)
        if other is spec:
            continue
        same = "" if _names(other) == _names(spec) else f", as {_names(other)}"
        what = f"{_names(spec)} is planned twice{same}."
        if cell.tried:  # and so are their other trials
            remedy = "Tuned over one space they are one arm: leave one optimizer out."
            yield ("tune", "space"), f"{what} {remedy}"
            return
        yield ("matrix",), f"{what} Remove one of them."


def _names(spec: RunSpec) -> str:
    return f"{spec.model.name} + {spec.optimizer.name} on {spec.device}, seed {spec.seed}"


def _check_train(cells: Sequence[Cell]) -> Iterator[Wrong]:
    """What is asked of training can be done on every cell's device, with every cell's model."""
    specs = [cell.spec for cell in cells]
    if not specs:
        return
    train = specs[0].train
    if specs[0].program is not None:
        return
    if any(spec.device == "cpu" for spec in specs):
        for name in train.for_cuda:
            what = "is for device cuda, and the matrix plans cells on cpu. Leave one out."
            yield ("train", name), what
    if train.graph_steps > specs[0].eval.every:
        what = (
            f"launches {train.graph_steps} steps at once, and an evaluation comes every "
            f"{specs[0].eval.every} (eval.every). Give at most that, or evaluate less often."
        )
        yield ("train", "graph_steps"), what
    options = {spec.model.name: spec.model.options for spec in specs}
    changing = [name for name in options if not getattr(options[name], "same_each_step", True)]
    for name, does in (("graph_steps", "captures"), ("compile", "compiles")):
        if getattr(train, name) and changing:
            what = f"{does} one step, and those of {', '.join(changing)} differ (top-k, pruning)."
            yield ("train", name), f"{what} Leave one of them out."
    balanced = [name for name in options if getattr(options[name], "balance", "none") != "none"]
    if train.accumulate > 1 and balanced:
        what = f"takes a batch in parts, and the balance of {', '.join(balanced)} is of the whole."
        yield ("train", "accumulate"), f"{what} Leave one of them out."


def _check_packages(cells: Sequence[Cell], codes: Sequence[OwnCode]) -> Iterator[Wrong]:
    """A cell imports one package of a name."""
    names = packages(codes)
    pairs = {cell.place[:2]: cell.spec.own_code for cell in cells if not cell.tried}
    for (model, optimizer), own_code in pairs.items():
        brought = [names[sha256] for sha256 in own_code]
        if len(brought) > len(set(brought)):
            what = f"its {brought[0]} is another than that of model {model}. Rename one of them."
            yield ("optimizers", optimizer), what


def _check_clipping(form: Any, cells: Sequence[Cell]) -> Iterator[Wrong]:
    """What MuonClip clips has a part in the logits; said of the model and of the optimizer."""
    pairs = {
        cell.place[:2]: None
        for cell in cells
        if getattr(cell.spec.model.options, "qk_norm", False) and _clips(cell.spec.optimizer)
    }
    for model, optimizer in pairs:
        what = (
            "normalised queries and keys take no notice of their weights' size, which optimizer "
            f"{optimizer} (MuonClip) scales down: clipping would do nothing."
        )
        yield ("models", model, "qk_norm"), f"{what} Leave it out, or exclude the two."
        what = (
            "MuonClip scales down the weights of queries and keys, of whose size those of model "
            f"{model} take no notice (qk_norm): clipping would do nothing."
        )
        yield _place(form, "optimizer", optimizer), f"{what} Take muon, or exclude the two."


def _clips(optimizer: Optimizer) -> bool:
    """Whether it is MuonClip, or a class beside which MuonClip has a group of parameters."""
    groups = getattr(optimizer.options, "groups", {})
    return "muonclip" in (optimizer.base, *(group.get("base") for group in groups.values()))


def _place(form: Any, axis: str, name: str) -> Where:
    """Where a variant is defined; of a built-in, where it is first named."""
    if name in getattr(form, f"{axis}s"):
        return (f"{axis}s", name)
    return next(where for where, used in _uses(form, axis) if used == name)
