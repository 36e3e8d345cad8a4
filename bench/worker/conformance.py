"""What a brought model or optimizer must hold to, each as a check on a toy task.

With the vocabulary of the matrix's own text: what depends on it is as in a run.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from bench.border.options import OWN
from bench.border.spec import RunSpec
from bench.optim.leaves import as_brought
from bench.worker.arithmetic import leave_out_compiler
from bench.worker.cell import reset
from bench.worker.classes import WrongClassError, load, named
from bench.worker.clocks import PhaseClock
from bench.worker.evaluation import cross_entropy
from bench.worker.own_model import BroughtModel
from bench.worker.positions import BatchPositions
from bench.worker.registry import MODELS
from bench.worker.streams import seed_shared_streams, torch_stream
from bench.worker.training import Trainer
from bench.worker.windows import JoinedWindows

SEQUENCES = 4  # that are learned by heart
STEPS = 50
FEW = 5


def checks_of(spec: RunSpec, vocab_size: int) -> list[tuple[str, Callable[[], str]]]:
    """The checks of the class that a spec names: its optimizer's, else its model's."""
    torch.set_num_threads(spec.train.threads)
    leave_out_compiler()
    toy = Toy(spec, vocab_size)
    own = [("parameters", toy.covers)]
    if spec.optimizer.base != OWN:
        own = [("logits", toy.logits), ("causal", toy.causal), ("logical matrices", toy.logical)]
    return [
        ("class", toy.makes),
        *own,
        ("loss", toy.learns),
        ("state", toy.resumes if spec.optimizer.base == OWN else toy.reloads),
        ("seed", toy.repeats),
        ("device", toy.stays),
    ]


class Toy:
    """A few random sequences to learn by heart, and whoever is to learn them."""

    def __init__(self, spec: RunSpec, vocab_size: int) -> None:
        self.spec = spec
        self.V = vocab_size
        self.device = torch.device(spec.device)
        self.T = spec.train.block_size
        length = SEQUENCES * self.T + 1
        stream = torch_stream(spec.seed, "toy")
        tokens = torch.randint(self.V, (length,), generator=stream).to(self.device)
        self.windows = JoinedWindows(tokens, (length,), self.T)
        self.positions = torch.arange(SEQUENCES, device=self.device) * self.T
        self.batch = self.windows.at(self.positions)  # (B, T + 1)

    def fresh(self, steps: int = 0) -> Trainer:
        """A model and its optimizers as they begin, and after some steps."""
        build = MODELS[self.spec.model.base]
        model = build(self.spec.model.options, self.V, self.T).to(self.device)
        table = BatchPositions(self.spec.seed, STEPS, SEQUENCES, len(self.windows))
        trainer = Trainer(model, [], self.windows, table, PhaseClock())
        reset(trainer, self.spec)
        for _ in range(steps):
            trainer.step(self.positions)
        return trainer

    @torch.no_grad()
    def loss(self, trainer: Trainer) -> float:
        with trainer.evaluating():
            return cross_entropy(trainer.model(self.batch[:, :-1]), self.batch[:, 1:]).item()

    @torch.no_grad()
    def answer(self, trainer: Trainer) -> Tensor:
        """Logits (B, T, V) of the toy's sequences."""
        with trainer.evaluating():
            logits: Tensor = trainer.model(self.batch[:, :-1])
            return logits

    # --- Both ---

    def makes(self) -> str:
        trainer = self.fresh()
        if self.spec.optimizer.base != OWN:
            return f"built: {trainer.model.n_params():,} parameters"
        kinds = [type(as_brought(each)).__name__ for each in trainer.optimizers]
        return f"built: {', '.join(kinds)}{_unnamed(self.spec.optimizer.options)}"

    def learns(self) -> str:
        trainer = self.fresh()
        before = self.loss(trainer)
        for _ in range(STEPS):
            trainer.step(self.positions)
        after = self.loss(trainer)
        if not after < before:  # also if it is not a number
            raise WrongClassError(
                f"from {before:.4g} to {after:.4g} in {STEPS} steps on {SEQUENCES} sequences: it "
                "must fall. Lower lr, or look at the sign of the update"
                if self.spec.optimizer.base == OWN
                else f"from {before:.4g} to {after:.4g} in {STEPS} steps of AdamW on {SEQUENCES} "
                "sequences: it must fall. Is every parameter used, and nothing detached?"
            )
        return f"falls from {before:.4g} to {after:.4g} in {STEPS} steps on {SEQUENCES} sequences"

    def repeats(self) -> str:
        first, again = self.fresh(FEW).model, self.fresh(FEW).model
        if different := _different(first, again):
            raise WrongClassError(
                f"two runs of one seed differ after {FEW} steps, in {different}. Draw from torch's,"
                " numpy's or Python's own streams, which are seeded, and from no other"
            )
        return f"two runs of one seed are equal to the last digit after {FEW} steps"

    def stays(self) -> str:
        trainer = self.fresh(FEW)
        parameters = dict(_named(trainer.model))
        tensors = [*parameters.items(), *trainer.model.named_buffers()]
        for optimizer in trainer.optimizers:
            for state in optimizer.state.values():
                items = state.items() if isinstance(state, dict) else []
                tensors += [(f"state {name}", each) for name, each in items if _has_place(each)]
        for name, tensor in tensors:
            if tensor.device.type != self.device.type:
                raise WrongClassError(
                    f"{name} is on {tensor.device}, the cell on {self.device}. Make it like a "
                    "parameter (torch.zeros_like), or register it as a buffer"
                )
        as_built = dict(_named(self.fresh().model))
        for name, parameter in parameters.items():
            if parameter.dtype != as_built[name].dtype:
                raise WrongClassError(
                    f"{name} was {_format(as_built[name])} and is {_format(parameter)} after "
                    f"{FEW} steps. Update it in place: parameter.copy_(...)"
                )
        formats = Counter(map(_format, parameters.values()))
        told = ", ".join(f"{count} {name}" for name, count in formats.items())
        return f"all {len(tensors)} tensors are on {self.device}; parameters: {told}"

    # --- An optimizer ---

    def covers(self) -> str:
        """Every parameter in one optimizer; the roles that the groups are told by."""
        trainer = self.fresh()
        held = Counter[int]()
        for optimizer in trainer.optimizers:
            held.update(_held(optimizer))
        wanted = Counter({id(parameter): 1 for parameter in trainer.model.parameters()})
        if held != wanted:
            raise WrongClassError(
                f"the optimizers hold {held.total()} tensors of {len(wanted)} parameters. Keep "
                "those that the class is given, each in one group"
            )
        return f"each of {len(wanted)} is in one of {len(trainer.optimizers)} optimizers"

    def resumes(self) -> str:
        """A new optimizer with the saved state goes on as the old one does."""
        trainer = self.fresh(FEW)
        weights = {name: each.clone() for name, each in trainer.model.state_dict().items()}
        # With tensors of its own, as a state has that was read back from a file.
        saved = [copy.deepcopy(optimizer.state_dict()) for optimizer in trainer.optimizers]
        other = self.fresh()
        other.model.load_state_dict(weights)
        for optimizer, state in zip(other.optimizers, saved, strict=True):
            optimizer.load_state_dict(state)
        for each in (trainer, other):
            seed_shared_streams(self.spec.seed, "step")
            each.step(self.positions)
        if different := _different(trainer.model, other.model):
            raise WrongClassError(
                f"after load_state_dict(state_dict()) the next step differs, in {different}. Keep "
                "all that a step needs in self.state[parameter] and self.param_groups"
            )
        return "saved and restored, it takes the same next step"

    # --- A model ---

    def logits(self) -> str:
        found = self.answer(self.fresh())  # of which a brought model refuses what is no logits
        padded = found.shape[-1] - self.V
        more = f"; the last {padded} of V pad the vocabulary of {self.V}" if padded else ""
        return f"(B, T, V) = {tuple(found.shape)}, {_format(found)}{more}"

    @torch.no_grad()
    def causal(self) -> str:
        """A position must not see those after it, or the loss says nothing."""
        trainer = self.fresh()
        middle = self.T // 2
        changed = self.batch[:, :-1].clone()
        changed[:, middle:] = (changed[:, middle:] + 1) % self.V
        with trainer.evaluating():
            before = trainer.model(self.batch[:, :-1])[:, :middle]
            after = trainer.model(changed)[:, :middle]
        if not torch.allclose(before, after, rtol=1e-4, atol=1e-5):
            raise WrongClassError(
                "logits depend on later tokens, which they are to predict: mask the attention, and "
                "mix nothing over positions"
            )
        return "no position sees a later one"

    def logical(self) -> str:
        model = self.fresh().model
        roles = Counter[str]()
        for stack in model.stacks():  # which a brought model has checked: each parameter in one
            roles[stack.role] += len(stack.names)
        told = ", ".join(f"{count} {role}" for role, count in sorted(roles.items()))
        return f"{told}; together all {model.n_params():,} parameters{_stacked(model)}"

    def reloads(self) -> str:
        """A new model with the saved weights answers as the old one does."""
        trainer, other = self.fresh(FEW), self.fresh()
        self.answer(other)  # some make buffers in their first pass
        other.model.load_state_dict(trainer.model.state_dict())
        if not torch.equal(self.answer(trainer), self.answer(other)):
            raise WrongClassError(
                "after load_state_dict(state_dict()) the logits differ. Keep what they depend on "
                "in parameters and buffers, and let eval() switch off what is random"
            )
        return "saved and restored, it gives the same logits"


def _format(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _has_place(value: Any) -> bool:
    """A tensor that must lie beside its parameter; torch keeps counts of steps on the CPU."""
    return isinstance(value, Tensor) and value.ndim > 0


def _held(optimizer: Any) -> list[int]:
    if hasattr(optimizer, "leaves"):
        return [id(stack.parameter) for stack in optimizer.leaves.stacks]
    return [id(each) for group in optimizer.param_groups for each in group["params"]]


def _different(one: torch.nn.Module, other: torch.nn.Module) -> str:
    """Which parameters of two models of a kind differ; empty if none does."""
    pairs = zip(_named(one), other.parameters(), strict=True)
    names = [name for (name, value), their in pairs if not torch.equal(value, their)]
    return f"{len(names)} parameters ({names[0]} first)" if names else ""


def _unnamed(options: Any) -> str:
    """A remark on settings that are no arguments by name, which a class may never look at."""
    valid = named(load(options.reference))
    names = [name for name in options.settings if name not in valid]
    return f"; only its **kwargs take {', '.join(names)}: is it used?" if names else ""


def _named(model: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters by the names that their author knows."""
    return (model.module if isinstance(model, BroughtModel) else model).named_parameters()


def _stacked(model: Any) -> str:
    """A remark on parameters whose matrices only the author can tell."""
    if not isinstance(model, BroughtModel) or hasattr(model.module, "stacks"):
        return ""
    names = [name for name, each in model.module.named_parameters() if each.ndim > 2]
    return f"; taken as vectors, unless stacks() tells: {', '.join(names)}" if names else ""
