"""Optimizers that people ask about, by `class` from pytorch_optimizer: the README's promise.

PyPI's packages `muon`, `scion` and `adopt` are unrelated projects.
"""

import dataclasses
import importlib.metadata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.border.options import OWN, EvalOptions, OwnOptimizer, TrainOptions
from bench.border.spec import Optimizer, RunSpec
from bench.border.tokenised import tokenise
from bench.matrix.expansion import load_matrix
from bench.matrix.packaged import matrix_file
from bench.run.check import TOY_BLOCK, TOY_MODEL
from bench.worker import rehearse
from bench.worker.cell import reset
from bench.worker.conformance import Toy
from tests.builders.own_code import LETTERS, LETTERS_REF, checked
from tests.builders.recorded import recorded_graphs
from tests.builders.shared import ROOT, without
from tests.builders.worker_cells import Ran, run

REQUIREMENT = "pytorch_optimizer==4.1.0"
ADAMW_ON_THE_REST = {
    "hidden": {"settings": {}},
    "other": {"class": "torch.optim:AdamW", "settings": {"lr": 1e-3}},
}
EXAMPLES: dict[str, dict[str, Any]] = {
    "SOAP": {"settings": {"lr": 3e-3}, "groups": ADAMW_ON_THE_REST},
    "SCION": {"settings": {"lr": 1e-3}, "leaves": "matrices", "groups": ADAMW_ON_THE_REST},
    "MARS": {"settings": {"lr": 3e-3}},
    "AdEMAMix": {"settings": {"lr": 1e-3}},
    "Lion": {"settings": {"lr": 1e-3, "betas": [0.9, 0.99]}},
    "ScheduleFreeAdamW": {"settings": {"lr": 1e-2}},
    "Kron": {"settings": {"lr": 1e-3}, "groups": ADAMW_ON_THE_REST, "leaves": "matrices"},
    "ScalableShampoo": {"settings": {"lr": 1e-3}, "groups": ADAMW_ON_THE_REST},
}


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    name, _, version = REQUIREMENT.partition("==")
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found != version:
        without(f"{name} is {found or 'not installed'}: pip install {REQUIREMENT}")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def spec_of(name: str, **changes: Any) -> RunSpec:
    asked = {**EXAMPLES[name], **changes}
    options = OwnOptimizer(f"pytorch_optimizer:{name}", **asked)
    train = TrainOptions(steps=4, batch_size=2, block_size=TOY_BLOCK)
    optimizer = Optimizer(name, OWN, options)
    return RunSpec(TOY_MODEL, optimizer, "cpu", 1, train, EvalOptions(), LETTERS_REF)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_holds_to_all_that_check_looks_at(name: str) -> None:
    findings = {each["check"]: each for each in checked(spec_of(name))}
    assert {check: each["text"] for check, each in findings.items() if not each["ok"]} == {}


def test_an_argument_that_it_would_swallow_is_told() -> None:
    """Every class there takes **kwargs, and never looks at what it does not know."""
    (finding,) = checked(spec_of("Lion", settings={"weight_decy": 0.1}))
    assert "Lion has no argument 'weight_decy'. Did you mean 'weight_decay'?" in finding["text"]
    finding, *_ = checked(spec_of("Lion", settings={"lr": 1e-3, "momentum": 0.9}))
    assert finding["text"] == "built: Lion; only its **kwargs take momentum: is it used?"


def test_schedule_free_is_judged_by_its_average_and_trained_beside_it() -> None:
    toy = Toy(spec_of("ScheduleFreeAdamW"), len(set(LETTERS)))
    trainer = toy.fresh(5)
    training = [each.detach().clone() for each in trainer.model.parameters()]
    with trainer.evaluating():
        judged = [each.detach().clone() for each in trainer.model.parameters()]
    again = [each.detach().clone() for each in trainer.model.parameters()]
    assert not any(map(torch.equal, training, judged))
    for before, after in zip(training, again, strict=True):
        torch.testing.assert_close(before, after)
    reset(trainer, toy.spec)
    assert not trainer.optimizers[0].state


# --- The matrix of ten optimizers that comes along ---------------------------------------------

TEN = {
    cell.spec.optimizer.name: cell
    for cell in load_matrix(matrix_file(Path("optimizers"))).with_corpus(LETTERS_REF).cells
    if not cell.part and cell.spec.seed == 1
}


def test_ten_optimizers_have_one_budget() -> None:
    matrix = load_matrix(matrix_file(Path("optimizers"))).with_corpus(LETTERS_REF)
    assert len(TEN) == 10
    trials = Counter(
        cell.tried.optimizer for cell in matrix.cells if cell.part == "trial" and cell.tried
    )
    assert trials == dict.fromkeys(TEN, 5 * 3)  # studies, each of three trials


@pytest.mark.parametrize("name", TEN)
def test_each_of_the_ten_runs(name: str) -> None:
    findings = checked(TEN[name].spec, rehearse.examine)
    assert {each["check"]: each["text"] for each in findings if not each["ok"]} == {}


# --- In CUDA graphs -----------------------------------------------------------------------------


def in_graphs(spec: RunSpec, tmp_path: Path) -> Ran:
    """Twelve steps, all but the first of them in graphs of two and of one."""
    corpus = tmp_path / "tokens"
    corpus.write_bytes(tokenise(LETTERS))
    train = dataclasses.replace(spec.train, steps=12, graph_steps=2)
    with recorded_graphs():
        return run(tmp_path, dataclasses.replace(spec, train=train), corpus, inferences=1)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("SOAP", "SOAP.param_groups[0]['step'] is 2, then 3"),
        ("ScheduleFreeAdamW", "ScheduleFreeAdamW.param_groups[0]['weight_sum'] is "),
        ("Lion", "Lion.param_groups[0]['step'] is 2, then 3"),
    ],
)
def test_one_that_a_graph_would_not_repeat_is_refused_by_name(
    name: str, why: str, tmp_path: Path
) -> None:
    result = in_graphs(spec_of(name, groups={}), tmp_path).result
    assert result["status"] == "crashed"
    assert why in result["reason"]


# --- The table of docs/own.md -------------------------------------------------------------------

ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs" / "own.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| `{class: NAME") or line.count(" | ") == 2
]
HOW = {
    name: settings.strip("`")
    for settings, *names in (row for row in ROWS if row[0].startswith("`{class"))
    for name in names[0].split(", ")
}
REFUSED = {
    name: says.strip("`")
    for names, says, _ in (row for row in ROWS if len(row) == 3)
    for name in names.split(", ")
    if name[:1].isupper()
}


def test_the_table_has_every_optimizer_of_the_package() -> None:
    package = importlib.import_module("pytorch_optimizer")
    kinds = [each for each in vars(package).values() if isinstance(each, type)]
    names = [each.__name__ for each in kinds if issubclass(each, torch.optim.Optimizer)]
    assert sorted([*HOW, *REFUSED]) == sorted(set(names))


def cell_spec(how: str, name: str, folder: Path) -> RunSpec:
    """The cell of a matrix with a line of the table, on a small mixture."""
    (folder / "text.txt").write_text(LETTERS)
    (folder / "m.yaml").write_text(
        "name: table\ndata: {corpus: text.txt}\n"
        "train: {steps: 20, batch_size: 4, block_size: 16}\neval: {every: 10, train_windows: 4}\n"
        "models: {toy: {base: nanokimi, n_embd: 16, n_layer: 1, n_head: 2, n_experts: 2}}\n"
        f"optimizers: {{it: {how.replace('NAME', f'pytorch_optimizer.{name}')}}}\n"
        "matrix: {model: [toy], optimizer: [it], device: [cpu], seed: [1]}\n"
    )
    (cell,) = load_matrix(folder / "m.yaml").with_corpus(LETTERS_REF).cells
    return cell.spec


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ImportWarning")  # of packages that it would use as well
@pytest.mark.parametrize("name", [*HOW, *REFUSED])
def test_what_the_table_says_of_an_optimizer_is_so(name: str, tmp_path: Path) -> None:
    how = HOW.get(name, "{class: NAME, wants: model}" if "LOMO" in name else "{class: NAME}")
    how = {
        "BSAM": "{class: NAME, wants: closure, num_data: 1000}",
        "DistributedMuon": HOW["Muon"],
    }.get(name, how)
    spec = cell_spec(how, name, tmp_path)
    findings = [*checked(spec, rehearse.examine)]
    if name in REFUSED:
        findings += checked(spec)
    wrong = " ".join(each["text"] for each in findings if not each["ok"])
    if name in HOW:
        assert wrong == ""
    else:
        assert REFUSED[name].replace("`", "") in wrong.replace("`", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*list(HOW)[::4], "RMSprop", "SGD"])
def test_each_of_the_table_runs_in_graphs_as_without_or_is_refused(
    name: str, tmp_path: Path
) -> None:
    spec = cell_spec(HOW[name], name, tmp_path)
    found = in_graphs(spec, tmp_path)
    if found.result["status"] != "ok":
        assert "leave out train.graph_steps" in found.result["reason"]
        return
    train = dataclasses.replace(spec.train, steps=12)
    plain = run(tmp_path, dataclasses.replace(spec, train=train), tmp_path / "tokens", inferences=1)
    assert found.row["val_loss_final"] == plain.row["val_loss_final"]
    assert name in ("RMSprop", "SGD")  # the table's page says: nearly all are refused
