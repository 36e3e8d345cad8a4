"""A model that the matrix names by class, in the form that a cell trains."""

from typing import Any

import torch
from torch import Tensor, nn

from bench.border.logical import Stack
from bench.border.options import OwnModel
from bench.worker.classes import WrongClassError, arguments, check_arguments, load, parameters
from bench.worker.protocol import told
from bench.worker.streams import seed_shared_streams

GIVEN = ("vocab_size", "block_size")


class BroughtModel(nn.Module):
    """Tokens (B, T) in, logits (B, T, V) out, by a module that `draw` makes.

    The module's optional methods `stacks`, `n_params_active` and `flops_per_token` are asked; of a
    module without them the first is told from its layers, the others are unknown.
    """

    def __init__(self, options: OwnModel, vocab_size: int, block_size: int) -> None:
        super().__init__()
        self.options = options
        self.sizes = {"vocab_size": vocab_size, "block_size": block_size}
        self.builder = load(options.reference, options.code_sha256)
        if not callable(self.builder):
            raise WrongClassError(
                f"{options.reference} cannot be called: name a class, or a function that returns a "
                "model"
            )
        known = parameters(self.builder)
        takes_any = known and any(each.kind is each.VAR_KEYWORD for each in known.values())
        for name in GIVEN:
            if known is not None and name not in known and not takes_any:
                raise WrongClassError(
                    f"{options.reference} takes no {name!r}: it is called as "
                    f"{options.reference.partition(':')[2]}(vocab_size=, block_size=, **settings)"
                )
        check_arguments(options.reference, self.builder, options.settings, GIVEN)

    def draw(self, seed: int, device: torch.device) -> None:
        """A new module, built on the CPU while torch's stream is the seed's, as `build` draws it.

        A new one rather than new values: whatever a module keeps beside its weights is new too.
        """
        # The old one goes before the new one comes.
        self.module: Any = None
        self.logical: list[Stack] = []
        seed_shared_streams(seed, "weights")
        module = self.builder(**self.sizes, **arguments(self.options.settings))
        if not isinstance(module, nn.Module):
            raise WrongClassError(
                f"{self.options.reference} returned {type(module).__name__}: return a "
                "torch.nn.Module"
            )
        if not any(parameter.requires_grad for parameter in module.parameters()):
            raise WrongClassError(
                f"{self.options.reference}: no parameter requires a gradient, so that there is "
                "nothing to train. Leave at least one that is not frozen"
            )
        self.module = module.to(device)
        self.logical = self._stacks()

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.module(tokens)
        return logits

    def stacks(self) -> list[Stack]:
        return self.logical

    def _stacks(self) -> list[Stack]:
        if not hasattr(self.module, "stacks"):
            return derived_stacks(self.module, self.sizes["vocab_size"])
        stacks = list(self.module.stacks())
        _check_covers(self.options.reference, stacks, self.module)
        return stacks

    def n_params(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def n_params_active(self) -> int | None:
        """Parameters that one token uses, None if the module does not tell."""
        return self._asked("n_params_active")

    def flops_per_token(self) -> int | None:
        """Operations of one training token, None if the module does not tell."""
        return self._asked("flops_per_token")

    def _asked(self, method: str) -> int | None:
        if not hasattr(self.module, method):
            return None
        return told(f"{method}()", lambda: _whole(getattr(self.module, method)()))


def _whole(value: Any) -> int | None:
    """A count as a column holds it, None if it is not known.

    Raises:
        ValueError: for what is no count of at most 63 bits.
    """
    if value is None:
        return None
    count = int(value)
    if not 0 <= count < 2**63:
        raise ValueError(f"{count} is not from 0 to 2^63 - 1")
    return count


def derived_stacks(module: nn.Module, vocab_size: int) -> list[Stack]:
    """A logical tensor for each parameter, its role by the layer that it is in.

    Weights of nn.Embedding are embeddings; that of the last nn.Linear with one output a token of
    the vocabulary is the head; other matrices are hidden; the rest are vectors, whatever their
    shape: what lies stacked in one parameter, only the module's own `stacks` can tell.
    """
    embeddings = {id(each.weight) for each in module.modules() if isinstance(each, nn.Embedding)}
    heads = [
        id(each.weight)
        for each in module.modules()
        if isinstance(each, nn.Linear) and each.out_features == vocab_size
    ]
    stacks = []
    for name, parameter in module.named_parameters():  # one that is used twice comes once
        if id(parameter) in embeddings:
            role = "embedding"
        elif parameter.ndim == 2:
            role = "head" if heads[-1:] == [id(parameter)] else "hidden"
        else:
            role = "vector"
        stacks.append(Stack((name,), role, parameter, tuple(parameter.shape)))  # type: ignore[arg-type]
    return stacks


def _check_covers(reference: str, stacks: list[Stack], module: nn.Module) -> None:
    """Every parameter belongs to exactly one stack.

    Raises:
        WrongClassError: naming those that do not.
    """
    counts = {id(parameter): 0 for parameter in module.parameters()}
    for stack in stacks:
        if id(stack.parameter) not in counts:
            raise WrongClassError(
                f"{reference}: stacks() names {stack.names[0]}, which is no parameter of the "
                "module. Give each parameter one Stack, and nothing else"
            )
        counts[id(stack.parameter)] += 1
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for wrong, what in ((0, "leaves out"), (2, "names more than once")):
        found = [names[key] for key, count in counts.items() if min(count, 2) == wrong]
        if found:
            raise WrongClassError(
                f"{reference}: stacks() {what} {', '.join(found)}. Give each parameter one Stack"
            )
