"""What `check` finds in classes with one fault each, and that it says what to change."""

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.border.options import OWN, EvalOptions, OwnModel, OwnOptimizer, TrainOptions
from bench.border.spec import Model, Optimizer, RunSpec
from bench.matrix.expansion import load_matrix
from bench.run.check import TOY_BLOCK, TOY_MODEL, TOY_OPTIMIZER, subjects
from tests.builders.own_code import (
    LETTERS_REF,
    MODEL,
    OPTIMIZER,
    checked,
    write_matrix,
    write_package,
)
from tests.builders.shared import bench

NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def same_torch() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A module with this text that can be imported; its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str) -> str:
        name = f"brought_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the worker is told where the matrix's code lies."""
    monkeypatch.setattr("sys.argv", ["check", "", "", str(tmp_path)])


def found(spec: RunSpec) -> dict[str, str]:
    """By check: "ok", or what is wrong."""
    return {each["check"]: "ok" if each["ok"] else each["text"] for each in checked(spec)}


def spec_of(model: Model, optimizer: Optimizer) -> RunSpec:
    train = TrainOptions(steps=4, batch_size=2, block_size=TOY_BLOCK)
    return RunSpec(model, optimizer, "cpu", 1, train, EvalOptions(), LETTERS_REF)


def optimizer(reference: str, **options: Any) -> dict[str, str]:
    settings = options.pop("settings", {})
    own = Optimizer("mine", OWN, OwnOptimizer(reference, settings, **options))
    return found(spec_of(TOY_MODEL, own))


def model_spec(reference: str, **settings: Any) -> RunSpec:
    return spec_of(Model("mine", OWN, OwnModel(reference, settings)), TOY_OPTIMIZER)


def model(reference: str, **settings: Any) -> dict[str, str]:
    return found(model_spec(reference, **settings))


def wrong(findings: dict[str, str]) -> dict[str, str]:
    return {check: text for check, text in findings.items() if text != "ok"}


# --- Optimizers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("leaves", ["parameters", "matrices"])
def test_a_sound_optimizer_passes(write, leaves):
    findings = optimizer(f"{write(OPTIMIZER)}:MyOpt", leaves=leaves)
    assert list(findings) == ["class", "parameters", "loss", "state", "seed", "device"]
    assert wrong(findings) == {}


@pytest.mark.parametrize(
    "reference",
    ["AdamW", "SGD", "Muon", "LBFGS", "Adagrad", "RMSprop", "NAdam"],
)
def test_torchs_own_pass(reference):
    settings = {"lr": 0.02} if reference != "LBFGS" else {"lr": 0.1, "max_iter": 3}
    groups = {"hidden": {"settings": {}}, "other": {"base": "adamw", "settings": {}}}
    findings = optimizer(
        f"torch.optim:{reference}", settings=settings, groups=groups, leaves="matrices"
    )
    assert wrong(findings) == {}


FAULTY = {
    "goes up": (
        ("alpha=-group", "alpha=group"),
        "loss",
        r"from [\d.]+ to [\d.]+ in 50 steps on 4 sequences: it must fall. Lower lr, or look at the",
    ),
    "keeps its state to itself": (
        ('self.state[p].setdefault("momentum"', 'self.__dict__.setdefault("own", {}).setdefault(p'),
        "state",
        r"the next step differs, in \d+ parameters \(token first\). Keep all that a step needs in",
    ),
    "draws from the system": (
        ("alpha=-group", "alpha=-(1 + __import__('os').urandom(1)[0] / 256) * group"),
        "seed",
        r"two runs of one seed differ after 5 steps, in \d+ parameters \(.*\). Draw from torch's",
    ),
    "drops a parameter": (
        ("super().__init__(params,", "super().__init__(list(params)[1:],"),
        "parameters",
        r"the optimizers hold 18 tensors of 19 parameters. Keep those that the class is given",
    ),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_fault_is_found_with_what_to_change(write, fault):
    (before, after), check, says = FAULTY[fault]
    assert before in OPTIMIZER
    findings = wrong(optimizer(f"{write(OPTIMIZER.replace(before, after))}:MyOpt"))
    assert check in findings
    assert re.search(says, findings[check])


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("MyOpt", {"lrr": 0.1}, "has no argument 'lrr'. Did you mean 'lr'? Valid: betas, lr"),
        ("MyOp", {}, "has no 'MyOp'. Did you mean 'MyOpt'? Valid: MyOpt"),
        ("Plain", {}, "is no subclass of torch.optim.Optimizer: derive it from that"),
        ("Needy", {}, "needs rank: set it in the matrix"),
        ("Taking", {"momentum": 0.9}, "has no argument 'momentum'. Valid: lr"),
        ("Raising", {}, "ValueError: too old (brought_"),
    ],
)
def test_a_class_that_cannot_be_made_ends_its_checks(
    write, monkeypatch, tmp_path, name, settings, says
):
    monkeypatch.setattr("sys.argv", ["check", "", "", str(tmp_path)])
    kinds = """
class Plain: pass
class Needy(MyOpt):
    def __init__(self, params, rank): pass
class Taking(MyOpt):
    def __init__(self, params, lr=0.1, **kwargs): super().__init__(params, lr)
class Raising(MyOpt):
    def __init__(self, params): raise ValueError("too old")
"""
    text = OPTIMIZER if name == "MyOp" else OPTIMIZER + kinds
    findings = optimizer(f"{write(text)}:{name}", settings=settings)
    assert list(findings) == ["class"]
    assert says in findings["class"]


def test_arguments_that_are_passed_on_are_arguments(write):
    """A subclass that takes **kwargs for its parent, and one that keeps all as its defaults."""
    text = (
        OPTIMIZER + "\nclass Child(torch.optim.AdamW):\n"
        "    def __init__(self, params, **kwargs): super().__init__(params, **kwargs)\n"
    )
    assert wrong(optimizer(f"{write(text)}:Child", settings={"weight_decay": 0.1})) == {}


def test_a_module_that_is_nowhere_names_both_ways_to_bring_it():
    findings = optimizer("nowhere.at_all:Opt")
    assert (
        "there is no module 'nowhere' where the cell runs. Name the code that holds it by `path`"
        in (findings["class"])
    )


def test_a_misspelt_key_of_a_group_is_told_and_a_flag_is_not(write):
    name = f"{write(OPTIMIZER)}:MyOpt"
    typo = {"hidden": {"settings": {"beta": [0.8, 0.9]}}, "other": {"settings": {}}}
    assert "Did you mean 'betas'?" in optimizer(name, groups=typo)["class"]
    flag = {"hidden": {"settings": {"use_muon": True}}, "other": {"settings": {"use_muon": False}}}
    assert wrong(optimizer(name, groups=flag)) == {}


# --- Models -------------------------------------------------------------------------------------


def test_a_sound_model_passes(write):
    findings = model(f"{write(MODEL)}:build", n_embd=12)
    checks = ["class", "logits", "causal", "logical matrices", "loss", "state", "seed", "device"]
    assert list(findings) == checks
    assert wrong(findings) == {}


RETURN = "return self.head(x + self.drop(self.down(self.up(x).relu())))"
ODD = """
class Odd(nn.Linear):
    def __init__(self, n, m):
        super().__init__(n, m, dtype=torch.float64)

    def forward(self, x):
        return super().forward(x.double()).float()
"""
MODEL_FAULTS = {
    "looks ahead": (
        ("self.mix * self.past", "self.mix"),
        "causal",
        "logits depend on later tokens, which they are to predict: mask the attention",
    ),
    "flat": (
        (RETURN, "return self.head(x)[:, 0]"),
        "logits",
        "forward returned (4, 16), (B, T, V) is (4, 16, 16): return one logit for each token",
    ),
    "half": (
        (RETURN, "return self.head(x).half()"),
        "logits",
        "forward returned logits of torch.float16, and losses are float32: return logits.float()",
    ),
    "detached": (
        (RETURN, "return 0 * self.head(x)"),
        "loss",
        "it must fall. Is every parameter used, and nothing detached?",
    ),
    "random at evaluation": (
        ("self.drop(self.down", "nn.functional.dropout(self.down"),
        "state",
        "after load_state_dict(state_dict()) the logits differ. Keep what they depend on",
    ),
    "a loss beside them": (
        (RETURN, "return self.head(x), None"),
        "logits",
        "forward returned 2 things: return the logits alone, one tensor (B, T, V), not (logits, ",
    ),
    "the last position alone": (
        (RETURN, "return self.head(x if self.training else x[:, -1:])"),
        "logits",
        "forward returned (4, 1, 16), (B, T, V) is (4, 16, 16): return one logit for each token",
    ),
    "by name": (
        (RETURN, "return {'logits': self.head(x)}"),
        "logits",
        "forward returned dict: return the logits alone, one tensor (B, T, V)",
    ),
    "without sizes": (
        ("nn.Linear(n_embd, 2 * n_embd)", "nn.LazyLinear(2 * n_embd)"),
        "class",
        "up.weight, up.bias get a shape in the first forward pass only, and optimizers need it",
    ),
    "stacks of its own": (
        ("    def forward", "    def stacks(self):\n        return [self.up]\n\n    def forward"),
        "class",
        "stacks() returned Linear among others: it is to return a list of bench.border.logical.",
    ),
    "not a module": (
        ("return MyModel(vocab_size, block_size, n_embd, dropout)", "return 7"),
        "class",
        "returned int: return a torch.nn.Module",
    ),
    "without a vocabulary": (
        ("def build(vocab_size, block_size", "def build(size, block_size"),
        "class",
        "takes no 'vocab_size': it is called as build(vocab_size=, block_size=, **settings)",
    ),
    "stacks that leave out": (
        ("    def forward", "    def stacks(self):\n        return []\n\n    def forward"),
        "class",
        "stacks() leaves out mix, token.weight, up.weight",
    ),
}


@pytest.mark.parametrize("fault", MODEL_FAULTS)
def test_a_models_fault_is_found_with_what_to_change(write, fault):
    (before, after), check, says = MODEL_FAULTS[fault]
    assert before in MODEL
    findings = wrong(model(f"{write(MODEL.replace(before, after) + ODD)}:build"))
    assert says in findings[check]


def test_other_number_formats_are_told_and_no_fault(write):
    text = MODEL.replace("self.head = nn.Linear(n", "self.head = Odd(n") + ODD
    findings = {each["check"]: each for each in checked(model_spec(f"{write(text)}:build"))}
    assert findings["device"]["text"].endswith("parameters: 6 float32, 2 float64")
    assert all(each["ok"] for each in findings.values())


def test_roles_are_told_from_the_layers(write):
    reference = f"{write(MODEL)}:build"
    findings = list(checked(spec_of(Model("m", OWN, OwnModel(reference, {})), TOY_OPTIMIZER)))
    (told,) = [each["text"] for each in findings if each["check"] == "logical matrices"]
    assert told.startswith("1 embedding, 1 head, 3 hidden, 3 vector; together all ")


def test_a_models_own_stacks_count(write):
    stacks = """
    def stacks(self):
        from bench.border.logical import Stack
        two = (self.up.weight.shape[0] // 2, self.up.weight.shape[1])
        rest = [Stack((n,), "vector", p, tuple(p.shape)) for n, p in self.named_parameters()
                if n != "up.weight"]
        return [Stack(("up.0", "up.1"), "hidden", self.up.weight, two), *rest]

    def n_params_active(self):
        return 7

    def forward"""
    reference = f"{write(MODEL.replace('    def forward', stacks[1:]))}:build"
    findings = list(checked(spec_of(Model("m", OWN, OwnModel(reference, {})), TOY_OPTIMIZER)))
    (told,) = [each["text"] for each in findings if each["check"] == "logical matrices"]
    assert told.startswith("2 hidden, 7 vector; together all ")


# --- The command --------------------------------------------------------------------------------


def test_each_class_is_tried_alone_and_each_arm_that_has_one(tmp_path):
    write_package(tmp_path)
    file = write_matrix(
        tmp_path,
        ("model: [small]", "model: [small, mymodel]"),
        ("optimizer: [mine]", "optimizer: [mine, adamw]"),
        ("seed: [1]", "seed: [1, 2]"),
    )
    found = subjects(load_matrix(file).cells)
    pairs = [(each.cell.spec.model.name, each.cell.spec.optimizer.name) for each in found]
    assert {each.name: pair for each, pair in zip(found, pairs, strict=True)} == {
        "optimizer mine": ("toy", "mine"),
        "model mymodel": ("mymodel", "toy"),
        "small + mine": ("small", "mine"),
        "mymodel + mine": ("mymodel", "mine"),
        "mymodel + adamw": ("mymodel", "adamw"),
    }


@pytest.mark.slow
def test_check_runs_where_the_cells_would(tmp_path: Path, runtime: str) -> None:
    write_package(tmp_path)
    answer = bench("check", write_matrix(tmp_path), "--runtime", runtime)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[1] == "ok       optimizer mine: class: built: MyOpt"
    assert lines[-1] == "9 of 9 checks ok"
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_wrong_class_fails_check_and_the_message_names_the_fix(
    tmp_path: Path, runtime: str
) -> None:
    write_package(tmp_path)
    matrix = write_matrix(tmp_path, ("lr: 0.02}", "lrr: 0.02}"))
    answer = bench("check", matrix, "--runtime", runtime)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert answer.stdout.splitlines()[1:] == [
        "problem  optimizer mine: class: my_package.opt:MyOpt has no argument 'lrr'. Did you mean "
        "'lr'? Valid: betas, lr",
        "problem  small + mine: run: my_package.opt:MyOpt has no argument 'lrr'. Did you mean "
        "'lr'? Valid: betas, lr",
        "0 of 2 checks ok",
    ]


@pytest.mark.slow
def test_a_class_that_kills_its_process_is_a_finding(tmp_path: Path) -> None:
    package = write_package(tmp_path)
    (package / "opt.py").write_text("import os\nprint('last words', flush=True)\nos._exit(3)\n")
    answer = bench("check", write_matrix(tmp_path), "--runtime", "local")
    assert answer.returncode == 1
    says = "after class: it ended with exit code 3; its log ends: last words"
    assert f"problem  optimizer mine: {says}" in answer.stdout


def test_a_matrix_without_a_class_has_nothing_to_check(tiny_matrix: Path) -> None:
    answer = bench("check", tiny_matrix, "--runtime", "local")
    assert answer.returncode == 0
    assert answer.stdout.splitlines()[-1] == "no class to check"
