"""What a check finds sound, a run can do, and every parameter in it moves; and the other way."""

import dataclasses
import importlib
import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bench.border.options import (
    MODEL_OPTIONS,
    OWN,
    AdamWOptions,
    EvalOptions,
    OwnModel,
    OwnOptimizer,
    TrainOptions,
)
from bench.border.spec import Model, Optimizer, RunSpec
from bench.border.tokenised import tokenise
from bench.worker import check, rehearse
from tests.builders.kinds import MODEL, MODELS, OPTIMIZER, OPTIMIZERS, Kind, text_of
from tests.builders.own_code import LETTERS, LETTERS_REF, checked
from tests.builders.worker_cells import Ran, run

NUMBERS = itertools.count()
ADAMW = Optimizer("ours", "adamw", AdamWOptions(lr=1e-2))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where modules can be imported from, and the tokens lie."""
    place = tmp_path_factory.mktemp("kinds")
    (place / "tokens").write_bytes(tokenise(LETTERS))
    return place


@pytest.fixture(autouse=True, scope="module")
def importable(place: Path) -> Any:
    sys.path.insert(0, str(place))
    yield
    sys.path.remove(str(place))


def module_of(place: Path, text: str) -> str:
    name = f"kinds_{next(NUMBERS)}"
    (place / f"{name}.py").write_text(text)
    importlib.invalidate_caches()
    return name


def spec_of(
    place: Path, model: Sequence[Kind], optimizer: Sequence[Kind] | None, **train: Any
) -> RunSpec | None:
    """None where the kinds do not go together."""
    texts = text_of(MODEL, model), text_of(OPTIMIZER, optimizer or [])
    if None in texts:
        return None
    leaves = train.pop("leaves", "parameters")
    own = OwnModel(f"{module_of(place, str(texts[0]))}:build", {})
    mine = OwnOptimizer(f"{module_of(place, str(texts[1]))}:Mine", {"lr": 0.01}, leaves=leaves)
    return RunSpec(
        Model("own", OWN, own),
        ADAMW if optimizer is None else Optimizer("mine", OWN, mine),
        "cpu",
        1,
        TrainOptions(**{"steps": 16, "batch_size": 4, "block_size": 8} | train),
        EvalOptions(every=8, train_windows=4),
        LETTERS_REF,
    )


def found(spec: RunSpec) -> dict[str, str]:
    """What checks of the arm say, and of its classes: "ok", or what is wrong."""
    answers = [*checked(spec, rehearse.examine), *checked(spec, check.examine)]
    return {each["check"]: "ok" if each["ok"] else each["text"] for each in answers}


def ran(place: Path, spec: RunSpec) -> Ran:
    return run(place, spec, place / "tokens", inferences=2)


def ends_well(cell: Ran) -> bool:
    losses = [float(value) for value in cell.column("curve.csv", "val_loss")]
    return (
        cell.result["status"] == "ok"
        and losses[-1] != losses[0]
        and all(map(math.isfinite, losses))
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_kind_of_model_runs_or_is_told_by_name(place: Path, name: str) -> None:
    spec = spec_of(place, [MODELS[name]], None)
    assert spec is not None
    wrong = {check: text for check, text in found(spec).items() if text != "ok"}
    if MODELS[name].wrong:
        assert MODELS[name].wrong in " ".join(wrong.values())
    else:
        assert wrong == {}
        assert ends_well(ran(place, spec))


@pytest.mark.parametrize("leaves", ["parameters", "matrices"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_kind_of_optimizer_runs_or_is_told_by_name(place: Path, name: str, leaves: str) -> None:
    spec = spec_of(place, [], [OPTIMIZERS[name]], leaves=leaves)
    assert spec is not None
    wrong = {check: text for check, text in found(spec).items() if text != "ok"}
    refused = OPTIMIZERS[name].wrong
    if name in ("replaces data", "moves copies") and leaves == "matrices":
        refused = "Update what the class was given in place"
    if refused:
        assert refused in " ".join(wrong.values())
    else:
        assert wrong == {}
        assert ends_well(ran(place, spec))


@pytest.mark.parametrize(
    ("train", "name", "says"),
    [
        ({"schedule": "cosine"}, "has no rate that is called lr", "no learning rate `lr` that a"),
        ({"warmup_steps": 2}, "has no rate that is called lr", "no learning rate `lr` that a"),
        (
            {"clip_norm": 1.0, "sparse": True},
            None,
            "train.clip_norm cannot clip the sparse gradient",
        ),
    ],
)
def test_settings_of_the_matrix_are_those_of_the_check(place, train, name, says):
    sparse = Kind({"(vocab_size, d)  # TOKEN": "(vocab_size, d, sparse=True)"})
    models = [sparse] if train.pop("sparse", False) else []
    spec = spec_of(place, models, [OPTIMIZERS[name]] if name else None, **train)
    assert says in found(spec)["run"]
    assert says in ran(place, spec).result["reason"]


MORE = """
class Hooked(Mine):
    def __init__(self, params, lr=0.01):
        params = list(params)
        super().__init__(params, lr)
        for p in params:
            p.register_hook(lambda gradient: gradient * 0.5)

    def momentum_of(self, p):
        return p.grad.clone()

class Unhooked(Mine):
    def momentum_of(self, p):
        return p.grad * 0.5

class Inside(torch.optim.Optimizer):
    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})
        self.inside = torch.optim.AdamW(self.param_groups[0]["params"], lr=lr)

    def step(self, closure=None):
        self.inside.step()

class Apart(Mine):
    def __init__(self, params, lr=0.01):
        super().__init__(params, lr)
        self.lr = lr

    def step(self, closure=None):
        self.param_groups[0]["lr"] = self.lr
        super().step()
"""


def ours(place: Path, name: str, **train: Any) -> RunSpec:
    """A cell of our own model with one of these."""
    text = OPTIMIZER + MORE
    options = OwnOptimizer(
        f"{module_of(place, text)}:{name}", {"lr": 0.5 if "ook" in name else 0.01}
    )
    tiny = Model("tiny", "nanogpt", MODEL_OPTIONS["nanogpt"](n_embd=8, n_layer=1, n_head=2))
    plain = spec_of(place, [], None, **train)
    assert plain is not None
    return dataclasses.replace(plain, model=tiny, optimizer=Optimizer("it", OWN, options))


def test_hooks_of_warm_up_are_gone_when_a_run_begins(place: Path) -> None:
    text = {name: ran(place, ours(place, name)) for name in ("Hooked", "Unhooked")}
    losses = [cell.column("steps.csv", "loss") for cell in text.values()]
    assert losses[0] == losses[1]


def test_a_schedule_reaches_an_optimizer_inside_another_or_says_that_it_does_not(place):
    train = {"schedule": "cosine", "warmup_steps": 4}
    inside = ours(place, "Inside", **train)
    assert found(inside)["schedule"] == "ok"
    torchs = Optimizer("it", OWN, OwnOptimizer("torch.optim:AdamW", {"lr": 0.01}))
    whole = dataclasses.replace(inside, optimizer=torchs)
    assert ran(place, inside).column("steps.csv", "loss") == ran(place, whole).column(
        "steps.csv", "loss"
    )
    assert (
        "the class steps by a rate of its own" in found(ours(place, "Apart", **train))["schedule"]
    )


def test_a_module_that_is_returned_twice_is_refused(place: Path) -> None:
    cached = Kind({"def build(": "import functools\n\n\n@functools.cache\ndef build("})
    spec = spec_of(place, [cached], None)
    assert spec is not None
    assert "returned parameters that it had returned before" in found(spec)["run"]
    assert "returned parameters that it had" in ran(place, spec).result["reason"]


KINDS = (sorted(MODELS), sorted(OPTIMIZERS))
DRAWN = st.tuples(
    st.lists(st.sampled_from(KINDS[0]), max_size=3, unique=True),
    st.none() | st.lists(st.sampled_from(KINDS[1]), max_size=2, unique=True),
    st.fixed_dictionaries(
        {
            "leaves": st.sampled_from(["parameters", "matrices"]),
            "schedule": st.sampled_from(["constant", "cosine"]),
            "warmup_steps": st.sampled_from([0, 2]),
            "clip_norm": st.sampled_from([0.0, 1.0]),
            "dtype": st.sampled_from(["float32", "bfloat16"]),
        }
    ),
)


def holds(place: Path, drawn: tuple[list[str], list[str] | None, dict[str, Any]]) -> None:
    models, optimizers, train = drawn
    chosen = None if optimizers is None else [OPTIMIZERS[name] for name in optimizers]
    spec = spec_of(place, [MODELS[name] for name in models], chosen, **train)
    assume(spec is not None)  # two kinds may change one place
    assert spec is not None
    wrong = {check: text for check, text in found(spec).items() if text != "ok"}
    cell = ran(place, spec)
    if not wrong:
        assert ends_well(cell), cell.result["reason"]
    elif cell.result["status"] == "crashed":
        assert wrong["run"], "a crash that no rehearsal has seen"


FEW, MANY = (
    settings(
        max_examples=n,
        deadline=None,
        derandomize=n < 100,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    for n in (12, 100)
)


@FEW
@given(drawn=DRAWN)
def test_what_a_check_passes_a_run_can_do(place: Path, drawn: Any) -> None:
    holds(place, drawn)


@pytest.mark.slow
@MANY
@given(drawn=DRAWN)
def test_what_a_check_passes_a_run_can_do_for_many(place: Path, drawn: Any) -> None:
    holds(place, drawn)
