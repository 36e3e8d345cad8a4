"""The state of a training between two steps: all that the steps to come depend on, or are told by.

It is made of tensors, numbers and texts alone, so that it can be read back without running code.
"""

import random
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from bench.border.spec import RunSpec
from bench.models.nanokimi import NanoKimi
from bench.optim.leaves import as_brought
from bench.worker.clocks import StepSample
from bench.worker.data import hash_tensor
from bench.worker.own_model import BroughtModel
from bench.worker.registry import build_optimizers
from bench.worker.training import Point, Trainer

State = dict[str, Any]

# Phases that go on over attempts: of the others each has its own.
LASTING = ("train", "eval", "checkpoint")


SAMPLE = [field.name for field in fields(StepSample)]


def read(file: Path | BinaryIO) -> Any:
    """What torch.save wrote of tensors, numbers and texts.

    Raises:
        Exception: whatever torch's reader says of another file.
    """
    return torch.load(file, map_location="cpu", weights_only=True)


def taken(trainer: Trainer) -> State:
    """The state now; tensors are those of the training itself, not copies."""
    return {
        "experts": _experts(trainer),
        "model": trainer.model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "streams": _streams(trainer.windows.device),
        "progress": _progress(trainer),
    }


def put_back(trainer: Trainer, spec: RunSpec, state: State) -> None:
    """Make a trainer, fresh from `reset`, one that has got as far as that state.

    Raises:
        Exception: whatever a brought class says of a state that it does not take back.
    """
    _forget_experts(trainer, spec, state["experts"])
    if isinstance(trainer.model, BroughtModel):
        _make_late_buffers(trainer)
    trainer.model.load_state_dict(state["model"])
    for optimizer, saved in zip(trainer.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
        _keep_formats(as_brought(optimizer), saved)
    trainer.begin()
    _go_on(trainer, state["progress"])
    _set_streams(trainer.windows.device, state["streams"])


def _keep_formats(optimizer: torch.optim.Optimizer, saved: State) -> None:
    """Undo that PyTorch gives a state the number format of its parameter: a count, bytes of 8 bits.

    Not of a class that reads its state in its own way, as ours do.
    """
    if type(optimizer).load_state_dict is not torch.optim.Optimizer.load_state_dict:
        return
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    for index, values in saved["state"].items():
        key = parameters[index] if isinstance(index, int) else index
        optimizer.state[key] = _in_format_of(values, optimizer.state[key])


def _in_format_of(saved: Any, loaded: Any) -> Any:
    """What was loaded, and in its place what was saved where their number formats differ."""
    if isinstance(saved, Tensor):
        return loaded if loaded.dtype == saved.dtype else saved.to(loaded.device)
    if isinstance(saved, dict):
        return {key: _in_format_of(each, loaded[key]) for key, each in saved.items()}
    if isinstance(saved, list | tuple):
        return type(saved)(map(_in_format_of, saved, loaded))
    return loaded


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal in all that they hold, number formats too."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and hash_tensor(one) == hash_tensor(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)


def _experts(trainer: Trainer) -> list[list[int]]:
    """Which experts each block still has, where some are dropped on the way."""
    if trainer.pruning is None or not isinstance(trainer.model, NanoKimi):
        return []
    return [list(mixture.experts.numbers) for mixture in trainer.model.mixtures]


def _forget_experts(trainer: Trainer, spec: RunSpec, numbers: list[list[int]]) -> None:
    """Drop those that were dropped until then; optimizers are built for what is left."""
    if not numbers:
        return
    assert isinstance(trainer.model, NanoKimi)
    trainer.optimizers = []
    for mixture, kept in zip(trainer.model.mixtures, numbers, strict=True):
        mixture.keep([mixture.experts.numbers.index(number) for number in kept])
    trainer.optimizers = build_optimizers(spec.optimizer, trainer.model)


@torch.no_grad()
def _make_late_buffers(trainer: Trainer) -> None:
    """Some models make buffers in their first pass; those in a state need their places."""
    batch = trainer.windows.at(trainer.positions[0])
    with trainer.evaluating():
        trainer.model(batch[:, :-1])


def _progress(trainer: Trainer) -> State:
    samples = [
        np.fromiter((getattr(each, name) for each in trainer.timer.samples), np.float64)
        for name in SAMPLE
    ]
    return {
        "done": trainer.done,
        "losses": trainer.losses[: trainer.done].cpu(),
        "curve": [astuple(point) for point in trainer.curve],
        "samples": torch.from_numpy(np.stack(samples, axis=1)),  # (n, 3)
        "timed": trainer.timer.steps,
        "passes": trainer.passes,
        "stepped": trainer.stepped,
        "in_graphs": trainer.on_device.in_graphs if trainer.on_device else 0,
        "seconds": {phase: trainer.clock.seconds.get(phase, 0.0) for phase in LASTING},
    }


def _go_on(trainer: Trainer, progress: State) -> None:
    trainer.done = trainer.begun = progress["done"]
    trainer.fresh = trainer.done == 0
    trainer.losses[: trainer.done] = progress["losses"].to(trainer.losses.device)
    trainer.curve = [Point(*values) for values in progress["curve"]]
    trainer.timer.samples = [
        StepSample(int(last_step), int(steps), time_ms)
        for last_step, steps, time_ms in progress["samples"].tolist()
    ]
    trainer.timer.steps = progress["timed"]
    trainer.passes, trainer.stepped = progress["passes"], progress["stepped"]
    if trainer.on_device:
        trainer.on_device.begin_at(trainer.done)
        trainer.on_device.in_graphs = progress["in_graphs"]
    for phase, seconds in progress["seconds"].items():
        trainer.clock.carry(phase, seconds)


def _streams(device: torch.device) -> State:
    """Where the shared streams stand, for models and optimizers that draw from them."""
    _, keys, *rest = np.random.get_state()
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), *map(float, rest)],
        "python": [version, list(words), gauss],
    }


def _set_streams(device: torch.device, streams: State) -> None:
    torch.set_rng_state(streams["torch"])
    if streams["cuda"] is not None:
        torch.cuda.set_rng_state(streams["cuda"], device)
    keys, position, has_gauss, gauss = streams["numpy"]
    legacy = ("MT19937", keys.numpy().astype(np.uint32), int(position), int(has_gauss), gauss)
    np.random.set_state(legacy)
    version, words, next_gauss = streams["python"]
    random.setstate((version, tuple(words), next_gauss))
