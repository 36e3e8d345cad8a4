"""The settings of the built-in models."""

from dataclasses import dataclass
from typing import Literal

from bench.options.fields import option


@dataclass(frozen=True)
class DecoderOptions:
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
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")


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
    """NanoGPT with a mixture of SwiGLU experts, all of them weighted by a softmax gate."""

    n_experts: int = option(4, "experts a block; every token visits all of them", ge=1, le=4_096)


MODEL_OPTIONS: dict[str, type[NanoGPTOptions] | type[NanoKimiOptions]] = {
    "nanogpt": NanoGPTOptions,
    "nanokimi": NanoKimiOptions,
}
