"""Cells of classes that live outside the repository, as processes and in containers."""

import shutil
from pathlib import Path

import pytest

from bench.errors import MissingError, RequestError
from bench.launch.choose import choose_launcher
from bench.launch.engine import Engine
from bench.launch.local import LocalLauncher
from bench.records.columns import RUN_COLUMNS
from tests.builders.own_code import rows, write_matrix, write_package
from tests.builders.shared import bench

MINE = "  mine: {class: my_package.opt:MyOpt, path: ./my_package, lr: 0.02}\n"
OPTIMIZERS = f"""\
{MINE}\
  parts: {{class: my_package.opt:MyOpt, path: ./my_package, groups: {{hidden: {{}},
          embedding: {{lr: 0.1}}, head: {{class: torch.optim.SGD, lr: 0.1}},
          other: {{base: adamw}}}}}}
  matrices: {{class: torch.optim.Muon, lr: 0.02, leaves: matrices,
             groups: {{hidden: {{}}, other: {{class: torch.optim.AdamW, betas: [0.9, 0.95]}}}}}}
  inner: {{class: torch.optim.AdamW, path: ./my_package, lr: 0.01,
          groups: {{hidden: {{class: my_package.opt:MyOpt}}, other: {{}}}}}}
  closed: {{class: torch.optim.LBFGS, lr: 0.1, max_iter: 3}}
  typo: {{class: my_package.opt:MyOpt, path: ./my_package, lrr: 0.02}}
"""


def run(matrix: Path, runtime: str, *arguments: str) -> list[dict[str, str]]:
    results = matrix.parent / "results"
    answer = bench("run", matrix, "--out", results, "--runtime", runtime, *arguments)
    assert answer.returncode in (0, 1), answer.stderr
    return rows(results)


@pytest.mark.slow
def test_a_class_from_outside_runs_from_one_line(tmp_path: Path, runtime: str) -> None:
    """With a matrix of the built-in beside it: same data, same first weights."""
    write_package(tmp_path)
    matrix = write_matrix(tmp_path, ("optimizer: [mine]", "optimizer: [mine, adamw]"))
    mine, adamw = run(matrix, runtime)
    assert (mine["status"], adamw["status"]) == ("ok", "ok"), mine["reason"]
    assert mine["runtime"] == runtime
    for column in ("init_hash", "data_order_hash", "n_params", "flops_per_token"):
        assert mine[column] == adamw[column]
    assert mine["val_loss_final"] != adamw["val_loss_final"]
    assert mine["optimizer_flops_per_step"] == ""  # nobody knows
    assert adamw["optimizer_flops_per_step"] != ""
    assert float(mine["optimizer_state_mib"]) > 0


@pytest.mark.slow
def test_a_model_from_outside_runs_from_one_line(tmp_path: Path, runtime: str) -> None:
    write_package(tmp_path)
    matrix = write_matrix(
        tmp_path, ("model: [small]", "model: [mymodel]"), ("[mine]", "[mine, adamw, truemuon]")
    )
    found = run(matrix, runtime)
    assert [row["status"] for row in found] == ["ok"] * 3, found
    assert len({row["init_hash"] for row in found}) == 1
    assert {row["n_params_active"] + row["flops_per_token"] for row in found} == {""}
    assert int(found[0]["n_params"]) > 0
    again = run(matrix, runtime)
    assert again == found  # all of them are settled


@pytest.mark.slow
def test_every_form_of_an_optimizer_runs_and_a_wrong_one_tells_why(tmp_path: Path) -> None:
    write_package(tmp_path)
    names = "[mine, parts, matrices, inner, closed, typo]"
    matrix = write_matrix(
        tmp_path, (MINE, OPTIMIZERS), ("optimizer: [mine]", f"optimizer: {names}")
    )
    found = {row["optimizer"]: row for row in run(matrix, "local")}
    wrong = found.pop("typo")
    assert {name: row["status"] for name, row in found.items()} == dict.fromkeys(found, "ok")
    assert len({row["val_loss_final"] for row in found.values()}) == 5
    assert wrong["status"] == "crashed"
    assert wrong["reason"] == (
        "WrongClassError: my_package.opt:MyOpt has no argument 'lrr'. Did you mean 'lr'? "
        "Valid: betas, lr"
    )


@pytest.mark.slow
def test_a_model_with_dropout_has_the_same_losses_again(tmp_path: Path) -> None:
    """Its weights, its dropout and its warm-up come from streams of the seed."""
    write_package(tmp_path)
    matrix = write_matrix(tmp_path, ("model: [small]", "model: [mymodel]"))
    (first,) = run(matrix, "local")
    (tmp_path / "results" / "runs.csv").unlink()
    (again,) = run(matrix, "local")
    losses = ("train_loss_final", "val_loss_final", "val_loss_best", "init_hash")
    assert [first[column] for column in losses] == [again[column] for column in losses]
    other_seed = (("model: [small]", "model: [mymodel]"), ("seed: [1]", "seed: [2]"))
    *_, other = run(write_matrix(tmp_path, *other_seed), "local")
    assert other["init_hash"] != first["init_hash"]


CUT = '''\
"""Query, key and value weights that are columns of one matrix; an embedding, sparse or not."""

import torch
from torch import nn


class Cut(nn.Module):
    def __init__(self, vocab_size, n_embd, sparse):
        super().__init__()
        self.token = nn.Embedding(vocab_size, n_embd, sparse=sparse)
        drawn = torch.randn(n_embd, 3 * n_embd) / n_embd**0.5
        self.q, self.k, self.v = (nn.Parameter(part) for part in drawn.chunk(3, 1))
        self.head = nn.Linear(n_embd, vocab_size)

    def forward(self, tokens):
        x = self.token(tokens)
        return self.head(
            x
            + nn.functional.scaled_dot_product_attention(
                x @ self.q, x @ self.k, x @ self.v, is_causal=True
            )
        )


def build(vocab_size, block_size, n_embd=16, sparse=False):
    return Cut(vocab_size, n_embd, sparse)
'''
CUT_MATRIX = (
    ("model: [small]", "model: [mymodel]"),
    ("my_package.model:build, path: ./my_package, n_embd: 12}", "cut:build, path: ./cut.py}"),
    (
        MINE,
        "  torchs: {class: torch.optim.AdamW, lr: 0.001, weight_decay: 0.01}\n"
        "  torchs-sgd: {class: torch.optim.SGD, lr: 0.1, momentum: 0.9}\n",
    ),
)


@pytest.mark.slow
def test_parameters_that_are_columns_of_a_matrix_are_trained_as_pytorch_trains_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "cut.py").write_text(CUT)
    names = ("optimizer: [mine]", "optimizer: [adamw, torchs, sgd, torchs-sgd]")
    matrix = write_matrix(tmp_path, *CUT_MATRIX, names, ("steps: 6", "steps: 30"))
    found = {row["optimizer"]: row for row in run(matrix, "local")}
    assert {row["status"] for row in found.values()} == {"ok"}, found
    losses = {name: float(row["val_loss_final"]) for name, row in found.items()}
    assert losses["adamw"] == pytest.approx(losses["torchs"], abs=1e-5)
    assert losses["sgd"] == pytest.approx(losses["torchs-sgd"], abs=1e-5)
    assert losses["sgd"] != pytest.approx(losses["adamw"], abs=0.01)


@pytest.mark.slow
def test_a_sparse_gradient_is_told_in_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "cut.py").write_text(CUT)
    sparse = ("path: ./cut.py}", "path: ./cut.py, sparse: true}")
    names = ("optimizer: [mine]", "optimizer: [adamw, sgd, muon, torchs-sgd]")
    found = {
        row["optimizer"]: row
        for row in run(write_matrix(tmp_path, *CUT_MATRIX, sparse, names), "local")
    }
    for name in ("adamw", "muon"):  # the embedding is AdamW's there too
        assert found[name]["reason"] == (
            "ValueError: token.weight has a sparse gradient, which adamw cannot use. Build its "
            "layer with sparse=False, or take sgd"
        )
    losses = {name: float(found[name]["val_loss_final"]) for name in ("sgd", "torchs-sgd")}
    assert losses["sgd"] == pytest.approx(losses["torchs-sgd"], abs=1e-5)


TELLS = '''\
import torch
from torch import nn


class Count(torch.optim.Optimizer):
    """Keeps a step count by its name, and a tensor of each parameter in a list."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})
        self.state["step"] = 0
        self.kept = [torch.zeros_like(p) for p in self.param_groups[0]["params"]]

    @torch.no_grad()
    def step(self, closure=None):
        self.state["step"] += 1
        for p in self.param_groups[0]["params"]:
            p.add_(p.grad.sign(), alpha=-self.param_groups[0]["lr"])


class Model(nn.Sequential):
    def n_params_active(self):
        raise KeyError("no such layer")

    def flops_per_token(self):
        return float("nan")


def build(vocab_size, block_size, frozen=False):
    model = Model(nn.Embedding(vocab_size, 8), nn.Linear(8, vocab_size))
    return model.requires_grad_(not frozen)
'''
TELLS_MATRIX = (
    ("model: [small]", "model: [mymodel]"),
    ("my_package.model:build, path: ./my_package, n_embd: 12}", "tells:build, path: ./tells.py}"),
    (MINE, "  mine: {class: tells:Count, path: ./tells.py}\n"),
)


def test_statistics_that_fail_are_empty_and_the_cell_is_ok(tmp_path: Path) -> None:
    (tmp_path / "tells.py").write_text(TELLS)
    (row,) = run(write_matrix(tmp_path, *TELLS_MATRIX), "local")
    assert row["status"] == "ok", row["reason"]
    assert (row["n_params_active"], row["flops_per_token"]) == ("", "")
    assert float(row["optimizer_state_mib"]) == int(row["n_params"]) * 4 / 2**20
    text = "the quick brown fox jumps over the lazy dog\n" * 91
    assert float(row["epochs"]) == pytest.approx(int(row["tokens"]) / int(0.9 * len(text)))
    log = (tmp_path / "results" / row["log_path"]).read_text()
    assert "n_params_active() is not known: KeyError: 'no such layer'" in log
    assert "flops_per_token() is not known: ValueError: " in log


def test_a_model_that_is_all_frozen_has_nothing_to_train(tmp_path: Path) -> None:
    (tmp_path / "tells.py").write_text(TELLS)
    frozen = ("path: ./tells.py}\noptimizers", "path: ./tells.py, frozen: true}\noptimizers")
    (row,) = run(write_matrix(tmp_path, *TELLS_MATRIX, frozen), "local")
    assert row["reason"] == (
        "WrongClassError: tells:build: no parameter requires a gradient, so that there is nothing "
        "to train. Leave at least one that is not frozen"
    )


def test_a_package_cannot_take_the_name_of_another(tmp_path: Path) -> None:
    """Somebody's numpy.py would be passed over, or worse, found by torch."""
    (tmp_path / "numpy.py").write_text("class Mine: pass\n")
    variant = "  mine: {class: numpy:Mine, path: ./numpy.py}\n"
    write_package(tmp_path)
    (row,) = run(write_matrix(tmp_path, (MINE, variant)), "local")
    assert "'numpy' is also the name of a module of the cell itself" in row["reason"]
    assert row["reason"].endswith("Rename yours")


@pytest.mark.slow
def test_a_package_is_not_taken_for_one_that_torch_looks_for(tmp_path: Path) -> None:
    """Else code of a matrix would run before the cell's device is opened."""
    absent = tmp_path / "opt_einsum"  # of use to torch, which goes on without it
    package = Path(shutil.copytree(write_package(tmp_path), absent))
    late = 'hasattr(sys.modules.get("bench.worker.cell"), "run_cell")'
    (package / "__init__.py").write_text(f"import sys\nassert {late}, 'imported too early'\n")
    variant = "  mine: {class: opt_einsum.opt:MyOpt, path: ./opt_einsum, lr: 0.02}\n"
    matrix = write_matrix(tmp_path, (MINE, variant))
    checked = bench("check", matrix, "--runtime", "local")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (row,) = run(matrix, "local")
    assert row["status"] == "ok", row["reason"]


def test_columns_that_are_unknown_are_empty(tmp_path: Path) -> None:
    write_package(tmp_path)
    (row,) = run(write_matrix(tmp_path, ("model: [small]", "model: [mymodel]")), "local")
    assert row.keys() == RUN_COLUMNS.keys()
    assert row["param_efficiency"] != ""


# --- Requirements -------------------------------------------------------------------------------


def test_in_the_local_runtime_requirements_must_be_there() -> None:
    launcher, _ = choose_launcher("local", None, requirements=("pytest==0.0.1", "nowhere==2"))
    with pytest.raises(
        MissingError, match=r"has pytest [\d.]+, nowhere not at all\. Install with: "
    ):
        launcher.environment("cpu")


def test_requirements_are_part_of_the_environment() -> None:
    import sys

    plain = LocalLauncher(sys.executable).environment("cpu")
    more = LocalLauncher(sys.executable, requirements=(f"pytest=={pytest.__version__}",))
    assert more.environment("cpu").env_id != plain.env_id


def test_an_image_of_ones_own_has_no_requirements_beside_it(engine: Engine) -> None:
    with pytest.raises(RequestError, match="Leave out one of the two"):
        choose_launcher(engine.name, None, "bench-cpu:any", ("nowhere==2",))
