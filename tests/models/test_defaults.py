"""Both models at their defaults: the losses and the operators of before there were options.

Losses are recorded in float64, where what other CPUs round otherwise is lost in the tolerance;
float32 is held by the operators, which must be the same ones, as often.
"""

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.border.logical import initialise
from bench.border.options import MODEL_OPTIONS, OPTIMIZER_OPTIONS
from bench.models.decoder import Decoder
from bench.worker.registry import MODELS, OPTIMIZERS
from tests.builders.reference import stream

VOCABULARY, BLOCK, STEPS = 65, 32, 20
# The loss of steps 0, 9 and 19, as it was before the first of the decoder's options.
LOSSES = {
    ("nanogpt", "adamw"): (4.340906335256575, 4.409241508260513, 4.308031529233986),
    ("nanogpt", "sgd"): (4.340906335256575, 4.422518037770047, 4.307062166089782),
    ("nanogpt", "truemuon"): (4.340906335256575, 4.390219172811592, 4.3377653054749254),
    ("nanokimi", "adamw"): (4.356115088007444, 4.434740912154167, 4.337271882949283),
    ("nanokimi", "sgd"): (4.356115088007444, 4.426757586294577, 4.302541409069922),
    ("nanokimi", "truemuon"): (4.356115088007444, 4.428733842849528, 4.330899509726714),
}
# Of one forward and backward pass, without those that look at memory in another way.
OPERATORS = {
    "nanogpt": {
        "_log_softmax": 1,
        "_log_softmax_backward_data": 1,
        "_scaled_dot_product_flash_attention_for_cpu": 4,
        "_scaled_dot_product_flash_attention_for_cpu_backward": 4,
        "_unsafe_view": 5,
        "add": 9,
        "add_": 8,
        "addmm": 13,
        "clone": 5,
        "embedding": 1,
        "embedding_dense_backward": 1,
        "mm": 38,
        "native_layer_norm": 9,
        "native_layer_norm_backward": 9,
        "nll_loss_backward": 1,
        "nll_loss_forward": 1,
        "ones_like": 1,
        "relu_": 4,
        "slice_backward": 1,
        "stack": 4,
        "sum": 14,
        "threshold_backward": 4,
    },
    "nanokimi": {
        "_log_softmax": 1,
        "_log_softmax_backward_data": 1,
        "_scaled_dot_product_flash_attention_for_cpu": 4,
        "_scaled_dot_product_flash_attention_for_cpu_backward": 4,
        "_softmax": 4,
        "_softmax_backward_data": 4,
        "_unsafe_view": 5,
        "add": 17,
        "add_": 4,
        "addmm": 21,
        "clone": 5,
        "embedding": 1,
        "embedding_dense_backward": 1,
        "mm": 54,
        "mul": 24,
        "native_layer_norm": 9,
        "native_layer_norm_backward": 9,
        "nll_loss_backward": 1,
        "nll_loss_forward": 1,
        "ones_like": 1,
        "silu": 4,
        "silu_backward": 4,
        "slice_backward": 1,
        "stack": 8,
        "sum": 18,
    },
}
VIEWS = {"detach", "permute", "slice", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view"}


def build(model: str, dtype: torch.dtype) -> Decoder:
    built = MODELS[model](MODEL_OPTIONS[model](), VOCABULARY, BLOCK).to(dtype)
    assert isinstance(built, Decoder)
    initialise(built.stacks(), stream(1))
    return built


def batch(generator: torch.Generator) -> Tensor:
    return torch.randint(VOCABULARY, (4, BLOCK + 1), generator=generator)


def loss_of(model: Decoder, tokens: Tensor) -> Tensor:
    return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


@pytest.mark.parametrize(("model", "optimizer"), LOSSES)
def test_losses_are_those_of_before(model, optimizer):
    trained = build(model, torch.float64)
    optimizers = OPTIMIZERS[optimizer].build(trained.stacks(), OPTIMIZER_OPTIONS[optimizer]())
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(STEPS):
        loss = loss_of(trained, batch(generator))
        loss.backward()
        for each in optimizers:
            each.step()
            each.zero_grad()
        losses.append(loss.item())
    found = (losses[0], losses[9], losses[19])
    assert found == pytest.approx(LOSSES[model, optimizer], rel=1e-10)


class Operators(TorchDispatchMode):
    """Counts PyTorch's operators by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("model", OPERATORS)
def test_operators_are_those_of_before(model):
    built, tokens = build(model, torch.float32), batch(torch.Generator().manual_seed(0))
    with Operators() as operators:
        loss_of(built, tokens).backward()
    counts = {name: n for name, n in operators.counts.items() if name not in VIEWS}
    assert counts == OPERATORS[model]
