"""The settings of the built-in models."""

from dataclasses import dataclass
from typing import Literal

from bench.options.fields import option


@dataclass(frozen=True)
class NanoGPTOptions:
    """A dense decoder: pre-norm blocks of causal attention and a ReLU feed-forward."""

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
class NanoKimiOptions(NanoGPTOptions):
    """NanoGPT with a mixture of SwiGLU experts, all of them weighted by a softmax gate."""

    n_experts: int = option(4, "experts a block; every token visits all of them", ge=1, le=4_096)


MODEL_OPTIONS: dict[str, type[NanoGPTOptions]] = {
    "nanogpt": NanoGPTOptions,
    "nanokimi": NanoKimiOptions,
}
