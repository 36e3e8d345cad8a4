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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")

    @property
    def same_each_step(self) -> bool:
        """Whether every training step is the same operators on the same shapes."""
        return True


@dataclass(frozen=True)
class NanoGPTOptions(DecoderOptions):
    """A dense decoder: one feed-forward a block, which every token visits."""

    activation: Literal["relu", "gelu", "swiglu"] = option(
        "relu",
        "of the feed-forward: relu and gelu have 4 n_embd hidden units, swiglu as many as give "
        "equal parameters, about 8/3 n_embd",
    )

    @property
    def n_hidden(self) -> int:
        """Hidden units h of the feed-forward: equal parameters whatever the activation.

        Two matrices of 4d units have 8d² + 5d, biases included; SwiGLU's three have h (3d + 2) + d.
        Its h, rounded to the nearest, leaves them within half a unit: under 1 % from d = 19 on.
        """
        d = self.n_embd
        return round((8 * d * d + 4 * d) / (3 * d + 2)) if self.activation == "swiglu" else 4 * d


@dataclass(frozen=True)
class NanoKimiOptions(DecoderOptions):
    """NanoGPT with a mixture of SwiGLU experts, which a gate weights."""

    n_experts: int = option(4, "experts a block", ge=1, le=4_096)
    expert_hidden: int | None = option(
        None, "hidden units of an expert; n_embd where not given", ge=1, le=262_144
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
    def n_hidden(self) -> int:
        """Hidden units h of an expert: its three matrices have 3 d h parameters."""
        return self.expert_hidden or self.n_embd

    @property
    def same_each_step(self) -> bool:
        """Not where tokens choose, and each expert has as many as chose it, nor where some go."""
        return self.gating == "all" and self.prune_every is None

    def __post_init__(self) -> None:
        super().__post_init__()
        if mistakes := [what for wrong, what in self._rules() if wrong]:
            raise ValueError("; ".join(mistakes))

    def _rules(self) -> Iterator[tuple[bool, str]]:
        """Whether a setting contradicts the others, and what to do."""
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
