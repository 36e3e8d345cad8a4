"""The largest attention logit of each head, as observed, and heads that QK-clip brings back."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.border.logical import Stack, initialise
from bench.border.options import MuonClipOptions, MuonOptions, NanoGPTOptions, NanoKimiOptions
from bench.models import nanogpt, nanokimi
from bench.models.decoder import Decoder
from bench.optim import muon, muonclip
from tests.builders.reference import Reference, copy_weights, logical, stream

OPTIONS = NanoGPTOptions(n_embd=8, n_layer=2, n_head=2)
TOKENS = torch.randint(11, (3, 7), generator=torch.Generator().manual_seed(0))
STILL = {"lr": 1e-30, "weight_decay": 0.0, "adamw_lr": 1e-30, "adamw_weight_decay": 0.0}


def build(options: NanoGPTOptions = OPTIONS) -> Decoder:
    kind = nanokimi if isinstance(options, NanoKimiOptions) else nanogpt
    model = kind.build(options, 11, 7)
    initialise(model.stacks(), stream(1))
    return model


def attentions(model: Decoder) -> list[Stack]:
    return [stack for stack in model.stacks() if stack.logits is not None]


def observed(model: Decoder) -> Tensor:
    """Each head's largest logit by layer: (layers, heads), of a forward pass on TOKENS."""
    for stack in attentions(model):
        stack.logits.asked = True
    model(TOKENS)
    return torch.stack([stack.logits.largest for stack in attentions(model)])


def backward(model: Decoder) -> float:
    loss = F.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.roll(-1, 1).flatten())
    loss.backward()
    return loss.item()


def step(model: Decoder, optimizers: list[torch.optim.Optimizer]) -> float:
    loss = backward(model)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss


def sharpen(model: Decoder, layer: int, head: int, factor: float) -> None:
    """Multiply one head's logits by a factor, through its query alone."""
    with torch.no_grad():
        logical(model.stacks())[f"blocks.{layer}.attention.query.{head}.weight"].mul_(factor)


# --- What is observed ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["n_embd", "head_size"])
def test_the_largest_logit_of_each_head_is_that_of_its_scores(scale):
    options = NanoGPTOptions(n_embd=8, n_layer=2, n_head=2, attention_scale=scale)
    model, plain = build(options), Reference(options, 11, 7)
    copy_weights(model, plain)
    inputs: list[Tensor] = []
    for block in plain.blocks:
        block.attention.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    plain(TOKENS)
    for block, x, largest in zip(plain.blocks, inputs, observed(model), strict=True):
        attention = block.attention
        for head, (query, key) in enumerate(zip(attention.query, attention.key, strict=True)):
            scores = query(x) @ key(x).mT * attention.scale
            allowed = torch.ones(7, 7, dtype=torch.bool).tril()
            assert largest[head].item() == pytest.approx(scores[:, allowed].max().item(), rel=1e-5)


def test_nothing_is_observed_unless_asked_and_in_training():
    model = build()
    model(TOKENS)
    assert all(stack.logits.largest is None for stack in attentions(model))
    observed(model)
    for stack in attentions(model):
        stack.logits.largest = None
    with torch.inference_mode():
        model(TOKENS)
    assert all(stack.logits.largest is None for stack in attentions(model))


def test_observing_changes_no_output():
    plain, watched = build(), build()
    observed(watched)
    assert plain(TOKENS).equal(watched(TOKENS))


# --- What is clipped ----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [OPTIONS, NanoKimiOptions(n_embd=8, n_layer=2, n_head=2)])
def test_a_logit_that_exceeds_tau_is_brought_back_to_it(options):
    model = build(options)
    sharpen(model, layer=0, head=1, factor=1e4)
    before = observed(model)
    tau = 10.0
    assert before[0, 1] > 2 * tau
    assert before[0, 0] < tau
    optimizers = muonclip.build(model.stacks(), MuonClipOptions(tau=tau, **STILL))
    step(model, optimizers)
    after = observed(model)
    assert after[0, 1].item() == pytest.approx(tau, rel=1e-4)
    assert after[0, 0] == before[0, 0]


def test_query_and_key_of_a_clipped_head_shrink_alike_and_nothing_else_does():
    model = build()
    sharpen(model, layer=1, head=0, factor=1e4)
    weights = {n: W.clone() for n, W in logical(model.stacks()).items()}
    share = (10.0 / observed(model)[1, 0]).item()
    step(model, muonclip.build(model.stacks(), MuonClipOptions(tau=10.0, **STILL)))
    for n, W in logical(model.stacks()).items():
        clipped = n in ("blocks.1.attention.query.0.weight", "blocks.1.attention.key.0.weight")
        expected = weights[n] * share**0.5 if clipped else weights[n]
        torch.testing.assert_close(W, expected, rtol=1e-5, atol=1e-20, msg=n)


def test_below_tau_it_is_muon_as_kimi_has_it():
    clipped, plain = build(), build()
    as_kimi = MuonOptions(nesterov=False, adjust_lr="match_rms_adamw")
    ours = muonclip.build(clipped.stacks(), MuonClipOptions())
    theirs = muon.build(plain.stacks(), as_kimi)
    for _ in range(5):
        assert step(clipped, ours) == step(plain, theirs)
    for parameter, expected in zip(clipped.parameters(), plain.parameters(), strict=True):
        assert parameter.equal(expected)


def test_training_lowers_the_loss_with_logits_held_at_tau():
    model, free = build(), build()
    tau = 0.1
    ours = muonclip.build(model.stacks(), MuonClipOptions(tau=tau))
    theirs = muonclip.build(free.stacks(), MuonClipOptions())
    losses = [step(model, ours) for _ in range(60)]
    for _ in range(60):
        step(free, theirs)
    assert losses[-1] < 0.85 * losses[0]
    assert observed(free).max() > 3 * tau
    assert observed(model).max() < 2 * tau  # a step may exceed it, and is brought back by the next


def test_a_step_without_a_forward_pass_is_refused():
    model = build()
    optimizers = muonclip.build(model.stacks(), MuonClipOptions())
    step(model, optimizers)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with pytest.raises(RuntimeError, match=r"query\.0\.weight: no attention logits since the last"):
        optimizers[0].step()


def test_a_model_that_tells_no_logits_is_refused():
    stacks = [stack for stack in build().stacks() if stack.logits is None]
    with pytest.raises(ValueError, match="this model tells of none: give the stack of its query"):
        muonclip.build(stacks, MuonClipOptions())


def test_flops_are_muons_and_a_product_for_each_number_of_query_and_key():
    stacks = build().stacks()
    as_kimi = MuonOptions(nesterov=False)
    more = muonclip.flops_per_step(stacks, MuonClipOptions()) - muon.flops_per_step(stacks, as_kimi)
    assert more == 2 * 2 * 8 * 8  # layers, query and key, width x width
