"""A model that the matrix names by class, in the form that a cell trains."""

import inspect
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bench.border.logical import Stack
from bench.border.options import OwnModel
from bench.worker.classes import (
    WrongClassError,
    arguments,
    check_arguments,
    load,
    method,
    parameters,
)
from bench.worker.protocol import told
from bench.worker.streams import seed_shared_streams

GIVEN = ("vocab_size", "block_size")
# What a run calls of a module.
METHODS = ("train", "eval", "to", "parameters", "modules", "buffers", "children", "zero_grad")


class BroughtModel(nn.Module):
    """Tokens (B, T) in, logits (B, T, V) out, by a module that `draw` makes.

    The module's optional methods `stacks`, `n_params_active` and `flops_per_token` are asked; of a
    module without them the first is told from its layers, the others are unknown. What is no
    method is the author's own, whatever its name: an attribute `stacks` is nothing to us.
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
        self._before: list[weakref.ref[nn.Parameter]] = []  # of modules drawn before
        self._names: list[str] | None = None  # of parameters, until the first pass
        self._wider: dict[str, int] | None = None  # its layers' widths with a larger vocabulary

    def draw(self, seed: int, device: torch.device) -> None:
        """A new module, built on the CPU while torch's stream is the seed's, as `build` draws it.

        A new one rather than new values: whatever a module keeps beside its weights is new too.
        """
        # The old one goes before the new one comes.
        self.module: Any = None
        self.logical: list[Stack] = []
        if self._wider is None:
            self._wider = self._widths_if_wider()
        seed_shared_streams(seed, "weights")
        module = self._built(self.sizes["vocab_size"])
        _check_module(self.options.reference, module)
        self._check_new(module)
        self._names = [name for name, _ in module.named_parameters()]
        self.module = module.to(device)
        self.logical = self._stacks()

    def _built(self, vocab_size: int) -> nn.Module:
        sizes = {**self.sizes, "vocab_size": vocab_size}
        module = self.builder(**sizes, **arguments(self.options.settings))
        if not isinstance(module, nn.Module):
            raise WrongClassError(
                f"{self.options.reference} returned {type(module).__name__}: return a "
                "torch.nn.Module"
            )
        return module

    def _widths_if_wider(self) -> dict[str, int]:
        """Outputs of each nn.Linear of a module for a larger vocabulary; empty if none is built.

        What grows with the vocabulary is a head. In one module alone a layer may be as wide as the
        vocabulary by chance. Some builders take even sizes only.
        """
        V = self.sizes["vocab_size"]
        for larger in (V + 1, 2 * V):
            found = told("the head", lambda size=larger: widths(self._built(size)))  # type: ignore[misc]
            if found is not None:
                return found
        return {}

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: (B, T) -> (B, T, V).

        Raises:
            WrongClassError: for a module that returns something else.
        """
        logits: Tensor = self.module(tokens)
        self._check_logits(logits, tokens)
        if self._names is not None:
            self._check_names()
        return logits

    def stacks(self) -> list[Stack]:
        return self.logical

    def _stacks(self) -> list[Stack]:
        if (tell := method(self.module, "stacks")) is None:
            return derived_stacks(self.module, onto_vocabulary(self.module, self._wider or {}))
        stacks = list(tell())
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

    def _asked(self, name: str) -> int | None:
        """What a method of this name counts, or a plain number does."""

        def ask() -> int | None:
            count = getattr(self.module, name, None)
            return _whole(count() if inspect.isroutine(count) else count)

        return told(f"{name}()", ask)

    def _check_new(self, module: nn.Module) -> None:
        """Weights of before would have been trained by warm-up."""
        known = {id(parameter()) for parameter in self._before} - {id(None)}
        if any(id(parameter) in known for parameter in module.parameters()):
            raise WrongClassError(
                f"{self.options.reference} returned parameters that it had returned before. Build "
                "new ones at each call: no cache, no module that is kept"
            )
        self._before = [weakref.ref(parameter) for parameter in module.parameters()]

    def _check_names(self) -> None:
        """After a first pass: it has made no parameter, which no optimizer would know."""
        names = [name for name, _ in self.module.named_parameters()]
        if made := [name for name in names if name not in (self._names or [])]:
            raise WrongClassError(
                f"{self.options.reference}: forward makes parameters ({', '.join(made)}), which no "
                "optimizer has. Make them in __init__"
            )
        self._names = None

    def _check_logits(self, logits: Any, tokens: Tensor) -> None:
        told_by = f"{self.options.reference}: forward returned"
        if not isinstance(logits, Tensor):
            pair = isinstance(logits, tuple)
            what = f"{len(logits)} things" if pair else type(logits).__name__
            but = ", not (logits, loss)" if pair else ""
            raise WrongClassError(
                f"{told_by} {what}: return the logits alone, one tensor (B, T, V){but}"
            )
        V = self.sizes["vocab_size"]
        # More than V are a padded vocabulary, whose last tokens never come.
        if logits.ndim != 3 or logits.shape[:2] != tokens.shape or logits.shape[2] < V:
            raise WrongClassError(
                f"{told_by} {tuple(logits.shape)}, (B, T, V) is {(*tokens.shape, V)}: return one "
                "logit for each token of the vocabulary at each position"
            )
        if logits.dtype not in (torch.float32, torch.float64) and not torch.is_autocast_enabled(
            tokens.device.type
        ):
            raise WrongClassError(
                f"{told_by} logits of {logits.dtype}, and losses are float32: return logits.float()"
            )


def widths(module: nn.Module) -> dict[str, int]:
    """The outputs of each nn.Linear, by its name."""
    layers = module.named_modules(remove_duplicate=False)
    return {name: layer.out_features for name, layer in layers if isinstance(layer, nn.Linear)}


def onto_vocabulary(module: nn.Module, wider: Mapping[str, int]) -> list[str]:
    """The layers whose outputs are other ones in a module for another vocabulary."""
    return [name for name, width in widths(module).items() if wider.get(name, width) != width]


def _check_module(reference: str, module: nn.Module) -> None:
    for name, each in module.named_modules():
        if hidden := [called for called in METHODS if not callable(getattr(each, called))]:
            raise WrongClassError(
                f"{reference}: {name or 'the module'} has an attribute {hidden[0]!r}, which hides "
                f"nn.Module.{hidden[0]}(). Call it by another name"
            )
    lazy = [name for name, parameter in module.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise WrongClassError(
            f"{reference}: {', '.join(lazy)} get a shape in the first forward pass only, and "
            "optimizers need it before. Give the layer its sizes: nn.Linear, not nn.LazyLinear"
        )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise WrongClassError(
            f"{reference}: no parameter requires a gradient, so that there is "
            "nothing to train. Leave at least one that is not frozen"
        )


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


def derived_stacks(module: nn.Module, heads: Sequence[str]) -> list[Stack]:
    """A logical tensor for each parameter, its role by the layer that it is in.

    Weights of nn.Embedding are embeddings; that of the last of `heads`, the nn.Linear layers with
    one output a token of the vocabulary, is the head; other matrices are hidden; the rest are
    vectors, whatever their shape: what lies stacked in one parameter, only the module's own
    `stacks` can tell.
    """
    # All parameters of a layer: of weight_norm, a weight is made of several.
    embeddings = {
        id(parameter)
        for each in module.modules()
        if isinstance(each, nn.Embedding)
        for parameter in each.parameters()
    }
    of_head = module.get_submodule(heads[-1]).parameters() if heads else ()
    head = {id(parameter) for parameter in of_head if parameter.ndim == 2}
    stacks = []
    for name, parameter in module.named_parameters():  # one that is used twice comes once
        if id(parameter) in embeddings:
            role = "embedding"
        elif parameter.ndim == 2:
            role = "head" if id(parameter) in head else "hidden"
        else:
            role = "vector"
        stacks.append(Stack((name,), role, parameter, tuple(parameter.shape)))  # type: ignore[arg-type]
    return stacks


def _check_covers(reference: str, stacks: list[Any], module: nn.Module) -> None:
    """Every parameter belongs to exactly one stack.

    Raises:
        WrongClassError: naming those that do not.
    """
    for each in stacks:
        if not isinstance(each, Stack):
            raise WrongClassError(
                f"{reference}: stacks() returned {type(each).__name__} among others: it is to "
                "return a list of bench.border.logical.Stack. Call yours by another name, or do so"
            )
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
