"""Muon in batches: momenta of many logical matrices, orthogonalised in a few operations.

Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks") replaces a
matrix's momentum by the nearest semi-orthogonal matrix.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor

from bench.border.logical import Stack
from bench.border.options import MuonOptions, TrueMuonOptions
from bench.optim import adamw, moments
from bench.optim.kept import KeepsPlace
from bench.optim.memory import refuse_complex, refuse_repeats, refuse_sparse, repeats_memory
from bench.optim.orthogonal import of_the_rest, products_flops

# Operations a number: momentum 3, norm and division 3, decay and update 4.
ELEMENTWISE_FLOPS = 10
FORM_FLOPS = {"momentum": 0, "original": 2, "nesterov": 3}
SCALE_FLOPS = 1
CAUTION_FLOPS = 3  # product, comparison, choice

Settings = MuonOptions | TrueMuonOptions


@dataclass(frozen=True)
class Update:
    """How a matrix's update is made of its gradient g and momentum m <- beta m + (1 - beta) g."""

    # What is orthogonalised: m, beta m + g, or beta m + (1 - beta) g
    form: Literal["momentum", "original", "nesterov"]
    scale: Literal["none", "sqrt_ratio", "match_rms"]
    # Of (n, rows <= columns), by so many iterations; in whatever number format
    orthogonalise: Callable[[Tensor, int], Tensor]
    second_moment: moments.Kind = "none"  # what the orthogonal matrix is divided by
    beta2: float = 0.95
    # Decay only what the update moves towards 0 too: Chen et al. 2025, "Cautious weight decay"
    cautious: bool = False


@dataclass(frozen=True)
class _Chosen:
    """What a step works on: some of the stacks, and views of where the flat tensors have them."""

    stacks: list[Stack]
    parameters: list[Tensor]
    updates: list[Tensor]  # of each parameter, in its shape
    scales: list[float]  # likewise
    flat_momenta: list[Tensor]  # (numbers,) each: what lies one after another is one
    flat_updates: list[Tensor]  # likewise
    batches: list[Tensor]  # of the updates: (n, rows <= columns) each
    moments: list[tuple[Tensor, Tensor]]  # of the updates (n, rows, columns), and their second one


class BatchedMuon(KeepsPlace):
    """Orthogonalised momentum on logical matrices; those of one shape in memory are one batch.

    Momenta of all matrices lie in one tensor, batch by batch, and so do the gradients once they
    are gathered: what is elementwise is one operation, and a batch is a slice of it. Parameters
    without a gradient are left out of a step, which then has more and smaller slices.

    stacks: of one number format.
    """

    name: str  # as a matrix calls it

    def __init__(self, stacks: Sequence[Stack], options: Settings, update: Update) -> None:
        self.stacks = sorted(stacks, key=_stored_shape)
        defaults: dict[str, Any] = {
            "lr": options.lr,
            "momentum": options.momentum,
            "weight_decay": options.weight_decay,
            "ns_steps": options.ns_steps,
        }
        parameters: list[Tensor] = [stack.parameter for stack in self.stacks]
        super().__init__(parameters, defaults)
        self.made_by = update
        self.repeating = [stack for stack in stacks if repeats_memory(stack.parameter)]
        total = sum(parameter.numel() for parameter in parameters)
        self.momentum = torch.zeros(total, dtype=parameters[0].dtype, device=parameters[0].device)
        self.update = torch.empty_like(self.momentum)
        self.momentum_of = _parts(self.momentum, parameters)
        self.update_of = _parts(self.update, parameters)
        shapes = [moments.shape(stack, update.second_moment) for stack in self.stacks]
        numbers = [torch.Size(shape).numel() for shape in shapes]
        self.moment = self.momentum.new_zeros(sum(numbers))
        parts = zip(parameters, self.moment.split(numbers), shapes, strict=True)
        self.moment_of = {each: part.view(shape) for each, part, shape in parts}
        self.chosen = self._choose([])
        self.remember()

    def fresh(self, parameter: Tensor) -> dict[str, Tensor]:
        state = {"momentum": self.momentum_of[parameter]}
        if self.made_by.second_moment != "none":
            state["second_moment"] = self.moment_of[parameter]
        return state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        chosen = self._with_gradients()
        if not chosen.stacks:
            return
        gradients: list[Any] = [parameter.grad for parameter in chosen.parameters]
        torch._foreach_copy_(chosen.updates, gradients)
        self._combine(chosen, group["momentum"])
        for wide in chosen.batches:
            wide.copy_(self.made_by.orthogonalise(wide, group["ns_steps"]))
        for matrices, moment in chosen.moments:
            moments.divide(matrices, moment, self.made_by.beta2)
        if self.made_by.scale != "none":
            torch._foreach_mul_(chosen.updates, chosen.scales)
        rate = group["lr"]
        self._decay(chosen, rate * group["weight_decay"])
        if isinstance(rate, Tensor):  # which `alpha` would read on the host
            torch._foreach_mul_(chosen.flat_updates, rate)
            rate = 1.0
        torch._foreach_add_(chosen.parameters, chosen.updates, alpha=-rate)

    def _combine(self, chosen: _Chosen, beta: float) -> None:
        """Update the momenta by the gradients, and make of both what is orthogonalised."""
        momenta, updates = chosen.flat_momenta, chosen.flat_updates
        torch._foreach_lerp_(momenta, updates, 1 - beta)
        match self.made_by.form:
            case "momentum":
                torch._foreach_copy_(updates, momenta)
            case "original":
                torch._foreach_add_(updates, momenta, alpha=beta)
            case "nesterov":
                torch._foreach_lerp_(updates, momenta, beta)

    def _decay(self, chosen: _Chosen, share: float | Tensor) -> None:
        """Take this share off the weights, or off those alone whose update has their sign."""
        if not self.made_by.cautious:
            torch._foreach_mul_(chosen.parameters, 1 - share)
            return
        products = torch._foreach_mul(chosen.parameters, chosen.updates)
        for parameter, product in zip(chosen.parameters, products, strict=True):
            parameter.mul_(1 - share * (product >= 0).to(parameter.dtype))

    def _with_gradients(self) -> _Chosen:
        """The stacks that have a gradient: as a rule those of the step before."""
        found = [stack for stack in self.stacks if stack.parameter.grad is not None]
        for stack in found:
            refuse_sparse(stack, self.name)
        if list(map(id, found)) != list(map(id, self.chosen.stacks)):
            refuse_repeats(self.repeating)
            refuse_complex(found, self.name)
            self.chosen = self._choose(found)
        return self.chosen

    def _choose(self, stacks: list[Stack]) -> _Chosen:
        parameters: list[Tensor] = [stack.parameter for stack in stacks]
        pieces = [piece for _, piece in _pieces(self.stacks, stacks, key=lambda _: None)]
        by_shape = _pieces(self.stacks, stacks, key=_stored_shape)
        return _Chosen(
            stacks=stacks,
            parameters=parameters,
            updates=[self.update_of[parameter] for parameter in parameters],
            scales=[_scale(stack.shape, self.made_by.scale) for stack in stacks],
            flat_momenta=[self.momentum[piece] for piece in pieces],
            flat_updates=[self.update[piece] for piece in pieces],
            batches=[_lying(self.update[piece].view(-1, *shape)) for shape, piece in by_shape],
            moments=list(self._moments(stacks)),
        )

    def _moments(self, stacks: list[Stack]) -> Iterator[tuple[Tensor, Tensor]]:
        """The updates of these stacks and their second moments, in as few pieces as can be.

        A row is one of the matrix as it is meant, also where its transpose is stored.
        """
        kind = self.made_by.second_moment
        if kind == "none":
            return

        def alike(stack: Stack) -> Any:
            return _stored_shape(stack), kind == "rows" and stack.transposed

        places = _pieces(self.stacks, stacks, alike)
        of_moments = _pieces(
            self.stacks, stacks, alike, lambda stack: self.moment_of[stack.parameter].numel()
        )
        for ((shape, turned), piece), (_, place) in zip(places, of_moments, strict=True):
            stored = self.update[piece].view(-1, *shape)
            matrices = stored.mT if turned else stored
            yield matrices, self.moment[place].view(*matrices.shape[:2], -1)


def _scale(shape: tuple[int, ...], form: str) -> float:
    """What a logical matrix's orthogonal update is multiplied by, as PyTorch's Muon does it."""
    rows, columns = shape
    match form:
        case "sqrt_ratio":  # Jordan et al. 2024
            return math.sqrt(max(1.0, rows / columns))
        case "match_rms":  # Liu et al. 2025: the RMS of AdamW's updates, 0.2 to 0.4
            return 0.2 * math.sqrt(max(rows, columns))
        case _:
            return 1.0


def _stored_shape(stack: Stack) -> tuple[int, int]:
    """Of one matrix, as it lies in memory."""
    rows, columns = stack.shape
    return (columns, rows) if stack.transposed else (rows, columns)


def _parts(flat: Tensor, parameters: Sequence[Tensor]) -> dict[Tensor, Tensor]:
    """Views of a flat tensor, one after another: one for each parameter, in its shape."""
    pieces = flat.split([each.numel() for each in parameters])
    return {each: piece.view_as(each) for each, piece in zip(parameters, pieces, strict=True)}


def _pieces(
    stacks: Sequence[Stack],
    chosen: Sequence[Stack],
    key: Callable[[Stack], Any],
    numbers: Callable[[Stack], int] = lambda stack: stack.parameter.numel(),
) -> Iterator[tuple[Any, slice]]:
    """Where chosen ones of these stacks lie in a flat tensor of all, and the key of each piece.

    Those one after another with one key are one piece. A stack has so many numbers there.
    """
    wanted = {id(stack) for stack in chosen}
    begin = 0
    for (is_wanted, each), run in groupby(stacks, lambda stack: (id(stack) in wanted, key(stack))):
        end = begin + sum(map(numbers, run))
        if is_wanted and end > begin:
            yield each, slice(begin, end)
        begin = end


def _lying(stored: Tensor) -> Tensor:
    """Matrices (n, rows, columns), or their transposes where those are the wider ones.

    A matrix and its transpose have the same singular values, so it does not matter which of the
    two is stored.
    """
    return stored if stored.shape[1] <= stored.shape[2] else stored.mT


Divided = tuple[Sequence[Stack], Sequence[Stack]]  # what is orthogonalised, and what is AdamW's


def build(
    kind: Callable[[Sequence[Stack], Any], BatchedMuon], divided: Divided, options: Settings
) -> list[torch.optim.Optimizer]:
    """One of this kind for each number format of the matrices, and AdamW for the rest."""
    matrices, rest = divided
    by_dtype: dict[torch.dtype, list[Stack]] = {}
    for stack in matrices:
        by_dtype.setdefault(stack.parameter.dtype, []).append(stack)
    batched = [kind(part, options) for part in by_dtype.values()]
    return [*batched, *adamw.build(rest, of_the_rest(options))]


def flops_per_step(divided: Divided, options: Settings, update: Update) -> int:
    matrices, rest = divided
    products = products_flops(matrices, options.ns_steps)
    a_number = ELEMENTWISE_FLOPS + FORM_FLOPS[update.form]
    a_number += SCALE_FLOPS * (update.scale != "none")
    a_number += CAUTION_FLOPS * update.cautious
    elementwise = a_number * sum(stack.parameter.numel() for stack in matrices)
    elementwise += sum(moments.flops(stack, update.second_moment) for stack in matrices)
    return products + elementwise + adamw.flops_per_step(rest, of_the_rest(options))
