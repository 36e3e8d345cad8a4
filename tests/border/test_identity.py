"""Identity follows from what was asked, and from nothing else."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

import bench
from bench.border import identity
from bench.border.options import (
    MODEL_OPTIONS,
    OPTIMIZER_OPTIONS,
    OPTIMIZER_VARIANTS,
    AdamWOptions,
    DataOptions,
    EvalOptions,
    NanoKimiOptions,
    TrainOptions,
)
from bench.border.spec import CorpusRef, Model, Optimizer, RunSpec
from bench.matrix.expansion import load_matrix
from tests.builders.options import NEEDED

SPEC = RunSpec(
    model=Model("nanokimi", "nanokimi", NanoKimiOptions()),
    optimizer=Optimizer("adamw", "adamw", AdamWOptions()),
    device="cpu",
    seed=1,
    train=TrainOptions(),
    eval=EvalOptions(),
    corpus=CorpusRef("text", "0" * 64),
)


def with_model(base: str, **options: Any) -> RunSpec:
    return dataclasses.replace(SPEC, model=Model(base, base, MODEL_OPTIONS[base](**options)))


def with_optimizer(base: str, **options: Any) -> RunSpec:
    optimizer = Optimizer(base, base, OPTIMIZER_OPTIONS[base](**options))
    return dataclasses.replace(SPEC, optimizer=optimizer)


def other(option: dataclasses.Field) -> Any:
    """A valid value that is not the default."""
    choices = {
        **{"schedule": "cosine", "prune_every": 100, "prune_to": 2, "expert_hidden": 7},
        **{"split": (0.8, 0.1, 0.1), "accumulate": 2},
    }
    if option.name in choices:
        return choices[option.name]
    if get_origin(option.type) is Literal:
        return next(value for value in get_args(option.type) if value != option.default)
    if isinstance(option.default, bool):
        return not option.default
    return type(option.default)(option.default / 2 or 1)  # of what kind the default is


# --- run_id and arm_id --------------------------------------------------------------------------

CHANGED = {
    "seed": dataclasses.replace(SPEC, seed=2),
    "device": dataclasses.replace(SPEC, device="cuda"),
    "corpus": dataclasses.replace(SPEC, corpus=CorpusRef("text", "1" * 64)),
    "model": with_model("nanogpt"),
    "optimizer": with_optimizer("truemuon"),
}
SECTIONS = {"train": TrainOptions, "eval": EvalOptions, "data": DataOptions}
# Settings that are refused beside the defaults alone, with settings that they go with.
BESIDE = {
    "train.decay_steps": TrainOptions(schedule="wsd", decay_steps=1_000),
    "train.min_lr_share": TrainOptions(schedule="cosine"),
}
for section, options in SECTIONS.items():
    for option in dataclasses.fields(options):
        key = f"{section}.{option.name}"
        changed = dataclasses.replace(BESIDE.get(key, options()), **{option.name: other(option)})
        CHANGED[key] = dataclasses.replace(SPEC, **{section: changed})
for build, bases in ((with_model, MODEL_OPTIONS), (with_optimizer, OPTIMIZER_OPTIONS)):
    for base, options in bases.items():
        for option in dataclasses.fields(options):
            settings = {**NEEDED.get(option.name, {}), option.name: other(option)}
            CHANGED[f"{base}.{option.name}"] = build(base, **settings)


def default_of(key: str) -> RunSpec:
    """What `CHANGED[key]` differs from in one setting."""
    if key in BESIDE:
        return dataclasses.replace(SPEC, train=BESIDE[key])
    base, _, name = key.partition(".") if "." in key else ("", "", "")
    needed = {} if name.startswith("prune") else NEEDED.get(name, {})
    if base in MODEL_OPTIONS:
        return with_model(base, **needed)
    return with_optimizer(base, **needed) if base in OPTIMIZER_OPTIONS else SPEC


@pytest.mark.parametrize("key", CHANGED)
def test_every_setting_changes_the_run_id(key):
    assert CHANGED[key].run_id != default_of(key).run_id


@pytest.mark.parametrize("key", CHANGED)
def test_every_setting_but_the_seed_changes_the_arm_id(key):
    assert (CHANGED[key].arm_id != default_of(key).arm_id) == (key != "seed")


def test_no_two_settings_give_the_same_run_id():
    run_ids = {spec.run_id for spec in CHANGED.values()} | {SPEC.run_id}
    assert len(run_ids) == len(CHANGED) + 1


def test_the_settings_of_one_section_do_not_stand_for_those_of_another():
    """batch_size and block_size are both numbers of the same section; lr is in two optimizers."""
    wide = dataclasses.replace(SPEC, train=TrainOptions(batch_size=8, block_size=16))
    long = dataclasses.replace(SPEC, train=TrainOptions(batch_size=16, block_size=8))
    assert wide.run_id != long.run_id
    assert with_optimizer("adamw", lr=0.5).run_id != with_optimizer("truemuon", lr=0.5).run_id


def test_names_do_not_count():
    renamed = dataclasses.replace(
        SPEC,
        model=Model("mine", "nanokimi", NanoKimiOptions()),
        optimizer=Optimizer("plain", "adamw", AdamWOptions()),
        corpus=CorpusRef("elsewhere.txt", "0" * 64),
    )
    assert (renamed.run_id, renamed.arm_id) == (SPEC.run_id, SPEC.arm_id)


def test_explicit_defaults_and_the_order_of_keys_do_not_count(tmp_path):
    short = """\
name: a
train: {steps: 50, batch_size: 4}
matrix: {model: [mine], optimizer: [adamw], device: [cpu], seed: [3]}
models: {mine: {base: nanokimi, n_experts: 8, n_layer: 2}}
"""
    long = """\
models:
  renamed: {n_layer: 2, n_experts: 8, n_head: 4, n_embd: 64, base: nanokimi}
optimizers:
  plain: {weight_decay: 0.01, lr: 1.0e-3, eps: 1.0e-8, beta1: 0.9, base: adamw}
eval: {protocol: full, train_windows: 500, every: 100}
limits: {memory_gib: 9, timeout_s: 5, cpus: 7}
matrix: {seed: [3], device: [cpu], optimizer: [plain], model: [renamed]}
train: {threads: 1, dtype: float32, block_size: 32, batch_size: 4, steps: 50}
name: b
"""
    cells = []
    for name, text in (("short", short), ("long", long)):
        file = tmp_path / f"{name}.yaml"
        file.write_text(text)
        cells += load_matrix(file).cells
    assert cells[0].spec.run_id == cells[1].spec.run_id
    assert cells[0].spec.arm_id == cells[1].spec.arm_id


def test_a_whole_number_where_a_fraction_is_meant_does_not_count(tmp_path):
    run_ids = set()
    for lr in ("1", "1.0", "1.0e+0"):
        file = tmp_path / "matrix.yaml"
        file.write_text(
            "name: a\n"
            "matrix: {model: [nanogpt], optimizer: [big], device: [cpu], seed: [1]}\n"
            f"optimizers: {{big: {{base: adamw, lr: {lr}}}}}\n"
        )
        run_ids.add(load_matrix(file).cells[0].spec.run_id)
    assert len(run_ids) == 1


def test_a_new_option_at_its_default_keeps_old_run_ids():
    @dataclasses.dataclass(frozen=True)
    class Grown(TrainOptions):
        clip: float = 1.0

    assert dataclasses.replace(SPEC, train=Grown()).run_id == SPEC.run_id
    assert dataclasses.replace(SPEC, train=Grown(clip=2.0)).run_id != SPEC.run_id


def test_arms_are_the_same_over_seeds_and_runs_are_not():
    specs = [dataclasses.replace(SPEC, seed=seed) for seed in range(20)]
    assert len({spec.arm_id for spec in specs}) == 1
    assert len({spec.run_id for spec in specs}) == 20


# These identities are in published results: `run` finds settled cells by them, reports join
# folders by them. If one of these fails, a default or the recipe has changed, and every earlier
# row has become a stranger. Do not update the text: undo the change, or add an option instead.
RECORDED = RunSpec(
    model=Model(
        "wide",
        "nanokimi",
        NanoKimiOptions(n_embd=96, n_layer=6, n_head=8, attention_scale="head_size", n_experts=2),
    ),
    optimizer=Optimizer(
        "tuned",
        "adamw",
        AdamWOptions(lr=3e-4, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1),
    ),
    device="cuda",
    seed=42,
    train=TrainOptions(steps=500, batch_size=8, block_size=64, threads=2),
    eval=EvalOptions(every=50, protocol="sampled", train_windows=100, batches=20),
    corpus=CorpusRef("input.txt", hashlib.sha256(b"a text").hexdigest()),
)


def test_a_run_id_is_the_hash_of_what_was_asked_as_canonical_json():
    text = (
        '{"corpus_sha256":"' + "0" * 64 + '","device":"cpu","eval":{"every":7},'
        '"model":{"base":"nanokimi","n_experts":8},"optimizer":{"base":"adamw","lr":0.0003},'
        '"schema":1,"seed":1,"train":{}}'
    )
    spec = dataclasses.replace(
        SPEC,
        model=Model("many", "nanokimi", NanoKimiOptions(n_experts=8)),
        optimizer=Optimizer("slow", "adamw", AdamWOptions(lr=3e-4)),
        eval=EvalOptions(every=7),
    )
    assert spec.run_id == hashlib.sha256(text.encode()).hexdigest()[:12]
    of_arm = text.replace('"seed":1,', "")
    assert spec.arm_id == hashlib.sha256(of_arm.encode()).hexdigest()[:12]


def test_a_recorded_identity_with_every_setting_given_stays():
    assert (RECORDED.run_id, RECORDED.arm_id) == ("2462b83f3a65", "2eaa8dfc9666")


@pytest.mark.parametrize(
    ("model", "optimizer", "run_id"),
    [
        ("nanogpt", "adamw", "3938cbba8835"),
        ("nanogpt", "truemuon", "ef89597b3866"),
        ("nanokimi", "adamw", "5e7a26e00d77"),
        ("nanokimi", "truemuon", "a5a861e0e8f5"),
        ("nanogpt", "sgd", "18998ef13b70"),
        ("nanokimi", "muon", "c420408ec38a"),
        ("nanokimi", "muonclip", "e765069fc06b"),
    ],
)
def test_recorded_identities_with_every_setting_left_out_stay(model, optimizer, run_id):
    spec = dataclasses.replace(
        SPEC,
        model=Model(model, model, MODEL_OPTIONS[model]()),
        optimizer=Optimizer(optimizer, optimizer, OPTIMIZER_OPTIONS[optimizer]()),
    )
    assert spec.run_id == run_id


def test_what_a_settled_name_stands_for_stays():
    base, options = OPTIMIZER_VARIANTS["muon-rms"]
    spec = dataclasses.replace(SPEC, optimizer=Optimizer("muon-rms", base, options))
    assert spec.run_id == "f9aeaf752c22"


# A new option adds a line; no line ever changes.
DEFAULTS = {
    "NanoGPTOptions.n_embd": 64,
    "NanoGPTOptions.n_layer": 4,
    "NanoGPTOptions.n_head": 4,
    "NanoGPTOptions.attention_scale": "n_embd",
    "NanoGPTOptions.activation": "relu",
    "NanoGPTOptions.norm": "layernorm",
    "NanoGPTOptions.position": "learned",
    "NanoGPTOptions.rope_base": 10000.0,
    "NanoGPTOptions.qk_norm": False,
    "NanoGPTOptions.bias": True,
    "NanoGPTOptions.tied_head": False,
    "NanoKimiOptions.n_embd": 64,
    "NanoKimiOptions.n_layer": 4,
    "NanoKimiOptions.n_head": 4,
    "NanoKimiOptions.attention_scale": "n_embd",
    "NanoKimiOptions.n_experts": 4,
    "NanoKimiOptions.gating": "all",
    "NanoKimiOptions.top_k": 2,
    "NanoKimiOptions.expert_hidden": None,
    "NanoKimiOptions.n_shared_experts": 0,
    "NanoKimiOptions.router": "softmax",
    "NanoKimiOptions.balance": "none",
    "NanoKimiOptions.aux_coefficient": 0.01,
    "NanoKimiOptions.bias_rate": 0.001,
    "NanoKimiOptions.prune_every": None,
    "NanoKimiOptions.prune_to": None,
    "NanoKimiOptions.norm": "layernorm",
    "NanoKimiOptions.position": "learned",
    "NanoKimiOptions.rope_base": 10000.0,
    "NanoKimiOptions.qk_norm": False,
    "NanoKimiOptions.bias": True,
    "NanoKimiOptions.tied_head": False,
    "NanoKimiOptions.activation": "swiglu",
    "AdamWOptions.lr": 0.001,
    "AdamWOptions.beta1": 0.9,
    "AdamWOptions.beta2": 0.999,
    "AdamWOptions.eps": 1e-08,
    "AdamWOptions.weight_decay": 0.01,
    "SGDOptions.lr": 0.1,
    "SGDOptions.momentum": 0.9,
    "SGDOptions.nesterov": False,
    "SGDOptions.weight_decay": 0.0,
    "MuonOptions.lr": 0.01,
    "MuonOptions.momentum": 0.95,
    "MuonOptions.nesterov": True,
    "MuonOptions.weight_decay": 0.01,
    "MuonOptions.ns_steps": 5,
    "MuonOptions.adjust_lr": "original",
    "MuonOptions.adamw_lr": 0.001,
    "MuonOptions.adamw_weight_decay": 0.01,
    "MuonOptions.ns_dtype": "bfloat16",
    "MuonOptions.coefficients": "jordan",
    "MuonOptions.second_moment": "none",
    "MuonOptions.second_moment_decay": 0.95,
    "MuonOptions.cautious_decay": False,
    "TrueMuonOptions.lr": 0.01,
    "TrueMuonOptions.momentum": 0.9,
    "TrueMuonOptions.weight_decay": 0.01,
    "TrueMuonOptions.ns_steps": 5,
    "TrueMuonOptions.adamw_lr": 0.001,
    "TrueMuonOptions.adamw_weight_decay": 0.01,
    "TrueMuonOptions.momentum_form": "original",
    "TrueMuonOptions.update_scale": "none",
    "TrueMuonOptions.router": "truemuon",
    "TrueMuonOptions.heads": "apart",
    "TrueMuonOptions.coefficients": "jordan",
    "MuonClipOptions.lr": 0.01,
    "MuonClipOptions.momentum": 0.95,
    "MuonClipOptions.nesterov": False,
    "MuonClipOptions.weight_decay": 0.01,
    "MuonClipOptions.ns_steps": 5,
    "MuonClipOptions.adjust_lr": "match_rms_adamw",
    "MuonClipOptions.adamw_lr": 0.001,
    "MuonClipOptions.adamw_weight_decay": 0.01,
    "MuonClipOptions.ns_dtype": "bfloat16",
    "MuonClipOptions.coefficients": "jordan",
    "MuonClipOptions.second_moment": "none",
    "MuonClipOptions.second_moment_decay": 0.95,
    "MuonClipOptions.cautious_decay": False,
    "MuonClipOptions.tau": 100.0,
    "TrainOptions.steps": 10000,
    "TrainOptions.accumulate": 1,
    "TrainOptions.batch_size": 16,
    "TrainOptions.block_size": 32,
    "TrainOptions.dtype": "float32",
    "TrainOptions.matmul_precision": "float32",
    "TrainOptions.deterministic": False,
    "TrainOptions.graph_steps": 0,
    "TrainOptions.compile": False,
    "TrainOptions.threads": 1,
    "TrainOptions.step_timing": "sampled",
    "TrainOptions.schedule": "constant",
    "TrainOptions.warmup_steps": 0,
    "TrainOptions.decay_steps": 0,
    "TrainOptions.min_lr_share": 0.0,
    "TrainOptions.clip_norm": 0.0,
    "EvalOptions.every": 100,
    "EvalOptions.protocol": "full",
    "EvalOptions.train_windows": 500,
    "EvalOptions.batches": 200,
    "DataOptions.split": (),
}


def test_the_meaning_of_settings_left_out_stays():
    """A default is part of every old run_id without being written in it."""
    defaults = {
        f"{options.__name__}.{option.name}": option.default
        for options in (
            *MODEL_OPTIONS.values(),
            *OPTIMIZER_OPTIONS.values(),
            TrainOptions,
            EvalOptions,
            DataOptions,
        )
        for option in dataclasses.fields(options)
    }
    assert defaults == DEFAULTS


# --- spec.json ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [SPEC, RECORDED, *CHANGED.values()], ids=["", "", *CHANGED])
def test_spec_json_reads_back_to_the_same_spec(spec):
    again = RunSpec.from_json(spec.to_json())
    assert again == spec
    assert type(again.model.options) is type(spec.model.options)
    assert (again.run_id, again.arm_id) == (spec.run_id, spec.arm_id)


def test_spec_json_spells_out_every_setting_and_the_run_id():
    content = json.loads(SPEC.to_json())
    assert content["run_id"] == SPEC.run_id
    assert content["schema_version"] == identity.SCHEMA_VERSION
    assert content["train"] == dataclasses.asdict(TrainOptions())
    assert content["eval"] == dataclasses.asdict(EvalOptions())
    assert content["model"]["options"] == dataclasses.asdict(NanoKimiOptions())
    assert content["optimizer"]["options"] == dataclasses.asdict(AdamWOptions())


def test_spec_json_of_another_schema_is_refused():
    content = json.loads(SPEC.to_json()) | {"schema_version": identity.SCHEMA_VERSION + 1}
    with pytest.raises(ValueError, match=r"spec.json has schema 2, this code reads 1"):
        RunSpec.from_json(json.dumps(content))


# --- code_sha256 --------------------------------------------------------------------------------

RUN_BY_WORKER = [
    "__init__.py",
    *(
        file.relative_to(identity.PACKAGE).as_posix()
        for folder in ("border", "models", "optim", "worker")
        for file in sorted((identity.PACKAGE / folder).rglob("*.py"))
    ),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("package") / "bench"
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(identity.PACKAGE, copy, ignore=ignored))


@pytest.fixture
def code(package: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """code_sha256 of the copied package, computed anew at each call."""
    monkeypatch.setattr(identity, "PACKAGE", package)
    return identity.code_sha256.__wrapped__


def test_the_code_is_known_by_content_and_not_by_place(package, monkeypatch):
    here = identity.code_sha256.__wrapped__()
    monkeypatch.setattr(identity, "PACKAGE", package)
    assert identity.code_sha256.__wrapped__() == here


@pytest.mark.parametrize("file", RUN_BY_WORKER)
def test_a_change_in_what_the_worker_runs_changes_the_code(code, package, file):
    before, content = code(), (package / file).read_bytes()
    try:
        (package / file).write_bytes(content + b"\n")
        assert code() != before
    finally:
        (package / file).write_bytes(content)


LAUNCHING = [
    *("cli/running.py", "run/runner.py", "matrix/expansion.py", "records/cells.py"),
    *("launch/local.py", "version.py"),
]


@pytest.mark.parametrize("file", LAUNCHING)
def test_a_change_on_the_launching_side_does_not(code, package, file):
    before, content = code(), (package / file).read_bytes()
    try:
        (package / file).write_bytes(content + b"\n")
        assert code() == before
    finally:
        (package / file).write_bytes(content)


def test_a_release_alone_opens_no_cell(code, package):
    """A new version number is no other code: rows of the last release settle its cells."""
    before, file = code(), package / "version.py"
    released = file.read_text()
    try:
        file.write_text(released.replace(bench.__version__, "9.9.9"))
        ask = [sys.executable, "-c", "import bench; print(bench.__version__)"]
        said = subprocess.run(ask, cwd=package.parent, env={}, capture_output=True, text=True)
        assert said.stdout == "9.9.9\n"
        assert code() == before
    finally:
        file.write_text(released)


@pytest.mark.parametrize("file", ["models/new.py", "optim/sub/new.py", "worker/new.py"])
def test_a_new_file_for_the_worker_changes_the_code(code, package, file):
    before = code()
    (package / file).parent.mkdir(exist_ok=True)
    (package / file).write_text("")
    try:
        assert code() != before
    finally:
        (package / file).unlink()
    assert code() == before


def test_a_file_that_moves_changes_the_code(code, package):
    before = code()
    (package / "optim" / "memory.py").rename(package / "models" / "memory.py")
    try:
        assert code() != before
    finally:
        (package / "models" / "memory.py").rename(package / "optim" / "memory.py")


def test_compiled_files_do_not_count(code, package):
    before = code()
    (package / "worker" / "__pycache__").mkdir(exist_ok=True)
    (package / "worker" / "__pycache__" / "cell.cpython-311.pyc").write_bytes(b"compiled")
    assert code() == before
