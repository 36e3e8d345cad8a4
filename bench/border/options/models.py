"""The settings of the built-in models."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bench.border.options.fields import Options, asked, option


@dataclass(frozen=True)
class DecoderOptions(Options):
    """What all built-in models share: pre-norm blocks of causal attention and a feed-forward."""

    n_embd: int = option(64, "width d of the residual stream", ge=1, le=65_536)
    n_layer: int = option(4, "number of blocks", ge=1, le=1_024)
    n_head: int = option(4, "attention heads; must divide n_embd", ge=1, le=1_024)
    attention_scale: Literal["n_embd", "head_size"] = option(
        "n_embd",
        "scores are multiplied by this size to the power -1/2; the original uses n_embd, "
        "the literature head_size",
    )
    norm: Literal["layernorm", "rmsnorm"] = option(
        "layernorm",
        "of a token's vector before each part of a block and before the head; rmsnorm: over its "
        "root mean square, times a learned gain",
    )
    position: Literal["learned", "rope"] = option(
        "learned",
        "learned: a table with a vector for each position, added to the token's; rope: queries and "
        "keys are rotated by their position, and there is no table; heads must be of even size",
    )
    rope_base: float = option(
        10_000.0,
        "rope: base of the angles; at position t pair i of a head of size h turns by "
        "t x base^(-2i / h)",
        gt=1,
    )
    qk_norm: bool = option(
        False, "each head's queries and keys are divided by their root mean square; not muonclip"
    )
    bias: bool = option(
        True, "false: no bias, neither in a linear layer, router and head included, nor in a norm"
    )
    tied_head: bool = option(
        False,
        "the head's matrix is the tokens' embedding as well, times sqrt(n_embd) where it is looked "
        "up; by role a head",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if mistakes := [what for wrong, what in self._rules() if wrong]:
            raise ValueError("; ".join(mistakes))

    def _rules(self) -> Iterator[tuple[bool, str]]:
        """Whether a setting contradicts the others, and what to do."""
        given, rotates = asked(self), self.position == "rope"
        head_size, rest = divmod(self.n_embd, self.n_head)
        yield rest > 0, f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}"
        what = f"rope_base is for position: rope, and position is {self.position}"
        yield not rotates and "rope_base" in given, what
        what = f"position rope turns pairs, and a head of {self.n_embd} / {self.n_head} numbers"
        remedy = f"has {head_size}: give n_embd and n_head whose quotient is even"
        yield rotates and not rest and head_size % 2 == 1, f"{what} {remedy}"

    @property
    def same_each_step(self) -> bool:
        """Whether every training step is the same operators on the same shapes."""
        return True


# Activations to which a first layer gives two numbers a hidden unit, one of which gates the other.
GATED = ("swiglu",)


@dataclass(frozen=True)
class NanoGPTOptions(DecoderOptions):
    """A dense decoder: one feed-forward a block, which every token visits."""

    activation: Literal["relu", "gelu", "swiglu", "relu2"] = option(
        "relu",
        "of the feed-forward: relu, gelu and relu2 (the square of relu) have 4 n_embd hidden "
        "units, swiglu as many as give equal parameters, about 8/3 n_embd",
    )

    @property
    def is_gated(self) -> bool:
        """Whether the first layer has two outputs for each hidden unit."""
        return self.activation in GATED

    @property
    def n_hidden(self) -> int:
        """Hidden units h of the feed-forward: equal parameters whatever the activation.

        Two matrices of 4d units have 8d² + 5d, biases included; SwiGLU's three have h (3d + 2) + d.
        Its h, rounded to the nearest, leaves them within half a unit: under 1 % from d = 19 on.
        Without biases h is the same, so that they are all that `bias` takes away.
        """
        d = self.n_embd
        return round((8 * d * d + 4 * d) / (3 * d + 2)) if self.is_gated else 4 * d


@dataclass(frozen=True)
class NanoKimiOptions(DecoderOptions):
    """NanoGPT with a mixture of experts, which a gate weights."""

    n_experts: int = option(4, "experts a block", ge=1, le=4_096)
    activation: Literal["swiglu", "relu", "gelu", "relu2"] = option(
        "swiglu", "of the experts; relu2 is the square of relu"
    )
    expert_hidden: int | None = option(
        None,
        "hidden units of an expert; where not given, n_embd with swiglu, and with the others as "
        "many as give equal parameters, about 3/2 n_embd",
        ge=1,
        le=262_144,
    )
    gating: Literal["all", "topk"] = option(
        "all",
        "all: every token visits every expert; topk: those of its top_k highest scores, no other "
        "being computed",
    )
    top_k: int = option(2, "topk: experts that a token visits", ge=1, le=4_096)
    n_shared_experts: int = option(
        0, "further experts a block, which every token visits with a weight of 1", ge=0, le=4_096
    )
    router: Literal["softmax", "sigmoid"] = option(
        "softmax",
        "how experts are scored; the gate is the scores of a token's experts over their sum",
    )
    balance: Literal["none", "aux", "bias"] = option(
        "none",
        "topk: what spreads tokens over the experts; aux: a term of the training loss; bias: a "
        "number an expert, which acts on the choice alone",
    )
    aux_coefficient: float = option(0.01, "balance aux: weight of the term", gt=0)
    bias_rate: float = option(0.001, "balance bias: change a step, up or down", gt=0)
    prune_every: int | None = option(
        None,
        "training steps until each block drops its least used expert, again and again",
        ge=1,
    )
    prune_to: int | None = option(None, "experts a block at which pruning ends", ge=1)

    @property
    def is_gated(self) -> bool:
        """Whether an expert's first layer has two outputs for each hidden unit."""
        return self.activation in GATED

    @property
    def n_hidden(self) -> int:
        """Hidden units h of an expert; where not given, equal parameters whatever the activation.

        SwiGLU's three matrices of d units have d (3d + 2) + d, biases included; two matrices have
        h (2d + 1) + d. Their h, rounded to the nearest, leaves them within half a unit: under 1 %
        from d = 33 on. Without biases h is the same.
        """
        d = self.n_embd
        equal = d if self.is_gated else round(d * (3 * d + 2) / (2 * d + 1))
        return self.expert_hidden or equal

    @property
    def same_each_step(self) -> bool:
        """Not where tokens choose, and each expert has as many as chose it, nor where some go."""
        return self.gating == "all" and self.prune_every is None

    def _rules(self) -> Iterator[tuple[bool, str]]:
        yield from super()._rules()
        given, chooses = asked(self), self.gating == "topk"
        for name in ("top_k", "balance"):
            what = f"{name} {getattr(self, name)} is for experts that are chosen: give gating: topk"
            yield not chooses and name in given, what
        for name, kind in (("aux_coefficient", "aux"), ("bias_rate", "bias")):
            what = f"{name} is for balance: {kind}, and balance is {self.balance}"
            yield self.balance != kind and name in given, what
        what = f"top_k {self.top_k} is more than n_experts {self.n_experts}: give at most that"
        yield chooses and self.top_k > self.n_experts, what
        what = "prune_every and prune_to go together: give both or neither"
        yield (self.prune_every is None) != (self.prune_to is None), what
        if self.prune_to is not None:
            what = f"prune_to {self.prune_to} is not below n_experts {self.n_experts}: give fewer"
            yield self.prune_to >= self.n_experts, what
            what = f"prune_to {self.prune_to} is below top_k {self.top_k}: give at least that"
            yield chooses and self.prune_to < self.top_k, what


MODEL_OPTIONS: dict[str, type[NanoGPTOptions] | type[NanoKimiOptions]] = {
    "nanogpt": NanoGPTOptions,
    "nanokimi": NanoKimiOptions,
}
