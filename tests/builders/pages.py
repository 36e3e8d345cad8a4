"""Results folders for the tests of the page: figures as a run has them, with the cells' files."""

import hashlib
import json
import math
import random
import struct
import zlib
from pathlib import Path

from bench.report.plots.canvas import Files
from bench.report.plots.drawing import Drawing, Scene
from tests.builders.results import Results

CLAIM = """\
name: made-up
matrix: {model: [nanogpt], optimizer: [adamw], device: [cpu], seed: [1]}
claim: {baseline: {model: nanogpt, optimizer: adamw}, metric: val_loss_final, margin: 0.01}
"""
# Final loss, milliseconds a step and parameters of an arm.
FACTORIAL = {
    ("nanogpt", "adamw"): (1.7285, 12.0, 209_729),
    ("nanogpt", "truemuon"): (1.7010, 16.5, 209_729),
    ("nanokimi", "adamw"): (1.7150, 21.0, 279_425),
    ("nanokimi", "truemuon"): (1.6756, 27.0, 279_425),
}
STEPS, STEP_TOKENS = 10_000, 512
LOG = "".join(f"step {step}: a line of the log\n" for step in range(0, 3000, 100))


def many_arms(count: int) -> dict[tuple[str, str], tuple[float, float, int]]:
    """Arms of `count` models under one optimizer; the first is the claim's baseline."""
    names = ["nanogpt", *(f"nanokimi-{experts}" for experts in range(2, count + 1))]
    return {
        (name, "adamw"): (1.75 - 0.01 * index, 10.0 + 2 * index, 200_000 + 15_000 * index)
        for index, name in enumerate(names)
    }


def realistic(
    folder: Results, arms=None, seeds=5, evaluations=100, files=True, claim=True, **fields
) -> Path:
    """A folder in which every cell ended ok; `fields` go into each row."""
    for (model, optimizer), figures in (arms or FACTORIAL).items():
        for seed in range(1, seeds + 1):
            run_id = plan(folder, model, optimizer, seed)
            end(folder, run_id, figures, seed, evaluations, **fields)
    return finished(folder, files, claim)


def plan(folder: Results, model: str, optimizer: str, seed: int, **fields) -> str:
    """A planned cell with a run_id as a run has them."""
    arm = hashlib.sha256(f"{model} {optimizer}".encode()).hexdigest()[:12]
    folder.planned(model, optimizer, seed, arm=arm, **fields)
    run_id = hashlib.sha256(f"{arm} {seed}".encode()).hexdigest()[:12]
    folder.plan[-1] |= {"run_id": run_id, "name": "made-up"}
    return run_id


def end(folder: Results, run_id: str, figures, seed: int, evaluations=100, **fields) -> None:
    """An ok attempt with all its figures and its curve."""
    loss, step_ms, parameters = figures
    noise = random.Random(f"{run_id} {seed}")
    loss += 0.008 * math.sin(seed) + noise.gauss(0, 0.003)
    seconds = STEPS * step_ms / 1000 * (1 + noise.gauss(0, 0.01))
    row = {
        "log_path": f"cells/{run_id}-1/worker.log",
        "git_commit": "41dd5e13fa0b753fed1039be9a80d8fe7f4caf0d",
        "git_dirty": "false",
        "steps": STEPS,
        "tokens": STEPS * STEP_TOKENS,
        "n_params": parameters,
        "n_params_active": parameters,
        "flops_per_token": 6 * parameters,
        "optimizer_flops_per_step": 2_936_206,
        "val_loss_final": loss,
        "val_loss_best": loss - 0.002,
        "train_loss_final": loss - 0.15,
        "perplexity": math.exp(loss),
        "param_efficiency": math.exp(loss) / parameters * 1e6,
        "train_time_s": seconds,
        "wall_time_s": seconds * 1.6,
        "eval_time_s": seconds * 0.5,
        "import_time_s": 1.35,
        "step_time_ms_p50": step_ms,
        "step_time_ms_p90": step_ms * 1.3,
        "step_time_ms_p99": step_ms * 1.9,
        "tokens_per_s": STEPS * STEP_TOKENS / seconds,
        "infer_time_ms_p50": step_ms / 4,
        "host_rss_peak_mib": 380 + parameters / 20_000,
        "host_cpu_model": "A processor with 8 cores",
        "torch_version": "2.13.0+cpu",
        "python_version": "3.11.2",
    }
    folder.ended(run_id, **row | fields)
    at = [round(STEPS * index / evaluations) for index in range(evaluations + 1)]
    points = [
        (step, seconds * step / STEPS, loss + 2.8 * math.exp(-step / 900) + noise.gauss(0, 0.004))
        for step in at
    ]
    folder.curve(run_id, points)
    for row, step in zip(folder.curves[-len(at) :], at, strict=True):
        row["tokens"] = step * STEP_TOKENS


def finished(folder: Results, files=True, claim=True) -> Path:
    """The folder on disk."""
    folder.write()
    if claim:
        (folder.path / "matrix.yaml").write_text(CLAIM)
    if files:
        for row in folder.runs:
            write_files(folder.path / str(row["log_path"]), row)
    return folder.path


def write_files(log: Path, row: dict[str, object]) -> None:
    """What a worker leaves: spec.json, env.json, result.json, curve.csv, worker.log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    spec = {
        "schema_version": 1,
        "run_id": row["run_id"],
        "model": {
            "name": row["model"],
            "base": "nanogpt",
            "options": {"n_embd": 64, "n_layer": 4, "n_head": 4},
        },
        "optimizer": {
            "name": row["optimizer"],
            "base": "adamw",
            "options": {"lr": 0.001, "weight_decay": 0.01},
        },
        "device": row["device"],
        "seed": row["seed"],
        "train": {"steps": STEPS, "batch_size": 16, "block_size": 32, "dtype": "float32"},
        "eval": {"every": 100, "protocol": "full"},
        "corpus": {"name": "input.txt", "sha256": "86c4e6aa9db7c042"},
    }
    env = {
        "python_version": "3.11.2",
        "torch_version": "2.13.0+cpu",
        "platform": "Linux-x86_64",
        "torch_build": "pages of it " * 200,
        "affinity": [0],
        "variables": {"OMP_NUM_THREADS": "1"},
    }
    (log.parent / "spec.json").write_text(json.dumps(spec, indent=2))
    (log.parent / "env.json").write_text(json.dumps(env, indent=2))
    (log.parent / "result.json").write_text("{}")
    (log.parent / "curve.csv").write_text("step\n")
    log.write_text(LOG)


def troubled(folder: Results) -> Path:
    """The factorial with a diverged, a crashed, an open and a disturbed cell."""
    for (model, optimizer), figures in FACTORIAL.items():
        for seed in range(1, 6):
            run_id = plan(folder, model, optimizer, seed)
            if (model, optimizer, seed) == ("nanokimi", "truemuon", 3):
                reason = "the training loss is not finite at step 1,200"
                log = f"cells/{run_id}-1/worker.log"
                folder.ended(run_id, "diverged", reason=reason, stage="train", log_path=log)
            elif (model, optimizer, seed) == ("nanogpt", "truemuon", 2):
                reason = "RuntimeError: something broke & <b>was told</b>"
                log = f"cells/{run_id}-1/worker.log"
                folder.ended(run_id, "crashed", reason=reason, stage="build", log_path=log)
            elif (model, optimizer, seed) != ("nanokimi", "adamw", 5):
                taint = {"tainted": "true", "taint_reasons": "foreign_process 12% (3 on its CPU)"}
                is_disturbed = (model, seed) == ("nanogpt", 4)
                end(folder, run_id, figures, seed, **(taint if is_disturbed else {}))
    return finished(folder)


def none_ok(folder: Results) -> Path:
    """Two cells that were skipped, one that was not run yet."""
    for seed in (1, 2):
        run_id = plan(folder, "nanogpt", "adamw", seed, device="cuda")
        folder.ended(run_id, "skipped", reason="no GPU here", log_path=None)
    plan(folder, "nanogpt", "adamw", 3, device="cuda")
    return finished(folder, files=False)


def stand_ins(scene: Scene) -> list[Drawing]:
    """Instead of a section's pictures, where their content does not matter: drawing takes long."""
    files, alt = Files(picture(1400, 600), b""), "Grey, in place of {} of {}."
    return [
        Drawing(name, f"What {name} shows.", alt.format(name, scene.title), files)
        for name in ("forest", "comparison_graph", "loss_steps", "loss_seconds")
    ]


def picture(width: int, height: int) -> bytes:
    """A grey PNG."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\xcc" * width) * height)
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)
