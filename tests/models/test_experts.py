"""Experts that tokens choose: what is computed, what balances them, what is told of their use."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.border.logical import initialise
from bench.border.options import NanoKimiOptions
from bench.models.nanokimi import Mixture, NanoKimi, build
from bench.models.router import Router, Routing
from bench.worker.usage import Usage
from tests.builders.reference import Mixture as PlainMixture
from tests.builders.reference import assert_near, logical, stream

SMALL = NanoKimiOptions(n_embd=8, n_layer=2, n_head=2, n_experts=6, gating="topk", top_k=2)
N = 40  # tokens


def pair(options: NanoKimiOptions, dtype: torch.dtype = torch.float64) -> tuple[Mixture, Any]:
    """Ours and the plain one, with the same weights."""
    mixture, plain = Mixture(options).to(dtype), PlainMixture(options).to(dtype)
    initialise(mixture.stacks("m"), stream(1))
    values = logical(mixture.stacks("m"))
    plain.load_state_dict({name.removeprefix("m."): value for name, value in values.items()})
    return mixture, plain


def tokens(n: int = N, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, 8, dtype=dtype, generator=torch.Generator().manual_seed(0))


def gradients(mixture: Mixture) -> dict[str, Tensor]:
    found = logical(mixture.stacks("m"), of=lambda parameter: parameter.grad)
    return {name.removeprefix("m."): value for name, value in found.items()}


def route_to(mixture: Mixture, plain: Any, experts: list[int]) -> None:
    """Make every token choose these: their scores stand out."""
    with torch.no_grad():
        for bias in (mixture.router.gate_bias, plain.gate.bias):
            bias.fill_(-20.0)
            bias[experts] = torch.arange(len(experts), dtype=bias.dtype)


# --- What is computed ---------------------------------------------------------------------------


@pytest.mark.parametrize("router", ["softmax", "sigmoid"])
@pytest.mark.parametrize("experts", [[3], [0, 5], [5, 1, 2]], ids=str)
def test_experts_without_a_token_get_no_gradient_and_no_token_is_dropped(experts, router):
    """All tokens on as few experts as they may visit: nobody has room for that many but we."""
    mixture, plain = pair(replace(SMALL, router=router, top_k=len(experts)))
    route_to(mixture, plain, experts)
    x = tokens().requires_grad_()
    ours = mixture(x, torch.zeros_like(x))
    (of_x,) = torch.autograd.grad(ours.square().sum(), x, retain_graph=True)
    ours.square().sum().backward()
    expected = plain(x)
    (of_x_expected,) = torch.autograd.grad(expected.square().sum(), x, retain_graph=True)
    expected.square().sum().backward()

    assert_near(ours, expected, 1e-12)
    assert_near(of_x, of_x_expected, 1e-12)
    for name, gradient in gradients(mixture).items():
        assert_near(gradient, plain.get_parameter(name).grad, 1e-11, name)
        if name.startswith("experts.") and int(name.split(".")[1]) not in experts:
            assert gradient.count_nonzero() == 0


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences():
    mixture, _ = pair(SMALL)
    parameters = list(mixture.parameters())

    def of(x: Tensor, *_: Tensor) -> Tensor:
        return mixture(x, x)

    assert torch.autograd.gradcheck(of, (tokens(5).requires_grad_(), *parameters))


def test_all_experts_chosen_is_all_experts_visited():
    chosen, _ = pair(replace(SMALL, top_k=6))
    visited, _ = pair(replace(SMALL, gating="all"))
    x = tokens()
    assert_near(chosen(x, x), visited(x, x), 1e-12)


def test_a_step_is_the_same_every_time():
    mixture, _ = pair(SMALL, torch.float32)
    x = tokens(dtype=torch.float32)
    found = []
    for _ in range(3):
        mixture.zero_grad()
        y = mixture(x, x)
        y.square().sum().backward()
        found.append([y.detach(), *(parameter.grad for parameter in mixture.parameters())])
    for again in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], again, strict=True))


def test_only_the_chosen_experts_are_computed():
    """Where the others hold no number, nobody notices."""
    mixture, plain = pair(SMALL)
    route_to(mixture, plain, [1, 4])
    with torch.no_grad():
        for name, value in logical(mixture.stacks("m")).items():
            if name.startswith("m.experts.") and int(name.split(".")[2]) not in (1, 4):
                value.fill_(math.nan)
    x = tokens().requires_grad_()
    y = mixture(x, x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


# --- Balance ------------------------------------------------------------------------------------


def small_model(options: NanoKimiOptions) -> tuple[NanoKimi, Tensor]:
    model = build(options, vocab_size=11, block_size=7).double()
    initialise(model.stacks(), stream(1))
    assert isinstance(model, NanoKimi)
    return model, torch.randint(11, (3, 7), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("router", ["softmax", "sigmoid"])
@pytest.mark.parametrize("top_k", [1, 3])
def test_the_auxiliary_loss_is_that_of_the_paper(router, top_k):
    options = replace(SMALL, balance="aux", aux_coefficient=0.5, router=router, top_k=top_k)
    mixture, plain = pair(options)
    x = tokens()
    mixture(x, x)
    loss, expected = mixture.router.take_auxiliary_loss(), plain.auxiliary_loss(x)
    assert_near(loss, expected, 1e-12)
    loss.backward()
    expected.backward()
    assert_near(mixture.router.gate.grad, plain.gate.weight.grad, 1e-11)
    assert mixture.experts.up.grad is None


def test_the_auxiliary_loss_is_least_where_all_experts_are_used_alike():
    mixture, plain = pair(replace(SMALL, top_k=1, balance="aux", aux_coefficient=1.0))
    x = tokens()
    route_to(mixture, plain, [2])
    mixture(x, x)
    assert mixture.router.take_auxiliary_loss().item() == pytest.approx(6)  # one expert does it all
    balanced = torch.eye(6, dtype=x.dtype)[torch.arange(36) % 6].requires_grad_()
    with torch.no_grad():
        mixture.router.gate_bias.zero_()
        mixture.router.gate.copy_(torch.eye(6, 8))
    mixture(F.pad(balanced, (0, 2)), torch.zeros(36, 8, dtype=x.dtype))
    assert mixture.router.take_auxiliary_loss().item() == pytest.approx(1)


def test_the_models_auxiliary_loss_is_of_all_blocks_and_of_one_forward():
    model, batch = small_model(replace(SMALL, balance="aux"))
    model(batch)
    terms = [mixture.router.auxiliary_loss for mixture in model.mixtures]
    assert model.auxiliary_loss().item() == pytest.approx(sum(term.item() for term in terms))
    assert all(mixture.router.auxiliary_loss is None for mixture in model.mixtures)
    with torch.inference_mode():
        model(batch)
    assert all(mixture.router.auxiliary_loss is None for mixture in model.mixtures)


@pytest.mark.parametrize("balance", ["none", "bias"])
def test_without_such_a_term_there_is_no_auxiliary_loss(balance):
    model, batch = small_model(replace(SMALL, balance=balance))
    model(batch)
    assert model.auxiliary_loss() is None


@pytest.mark.parametrize("router", ["softmax", "sigmoid"])
def test_the_bias_acts_on_the_choice_alone(router):
    mixture, plain = pair(replace(SMALL, balance="bias", router=router))
    preference = torch.linspace(-0.3, 0.3, 6, dtype=torch.float64)
    mixture.router.preference.copy_(preference)
    plain.preference = preference
    x = tokens()
    with torch.no_grad():
        routing: Routing = mixture.router(x)
        assert_near(mixture(x, torch.zeros_like(x)), plain(x), 1e-12)
    scores = plain.scores(x)
    assert (routing.chosen.sort(-1).values != scores.topk(2).indices.sort(-1).values).any()
    taken = scores.gather(1, routing.chosen)
    assert_near(routing.gate, taken / taken.sum(-1, keepdim=True), 1e-12)


def test_a_training_step_moves_the_bias_towards_an_equal_load():
    mixture, _ = pair(replace(SMALL, balance="bias", bias_rate=0.25))
    x = tokens()
    load = mixture.router(x).load
    expected = 0.25 * (load.double().mean() - load).sign()
    assert expected.abs().sum() > 0
    assert torch.equal(mixture.router.preference, expected)
    with torch.no_grad():
        mixture.router(x)
    assert torch.equal(mixture.router.preference, expected)  # an evaluation moves nothing


def test_the_bias_balances_the_load_in_the_end():
    mixture, _ = pair(replace(SMALL, balance="bias", bias_rate=0.002))
    with torch.no_grad():
        mixture.router.gate_bias.copy_(torch.linspace(0, 2, 6))
    x = tokens(600)
    before = mixture.router(x).load
    for _ in range(500):
        after = mixture.router(x).load
    assert before.max() / before.double().mean() > 2
    assert after.max() / after.double().mean() < 1.1


# --- What is told of their use ------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [SMALL, replace(SMALL, router="sigmoid"), replace(SMALL, gating="all")],
    ids=["topk", "sigmoid", "all"],
)
def test_load_and_entropy_are_those_of_all_tokens_watched(options):
    model, batch = small_model(options)
    seen: dict[Router, list[Tensor]] = {mixture.router: [] for mixture in model.mixtures}
    hooks = [
        router.register_forward_pre_hook(lambda router, given: seen[router].append(given[0]))
        for router in seen
    ]
    usage = Usage(model)
    with torch.no_grad():
        for _ in range(2):  # the second time counts anew
            with usage.watching():
                model(batch)
                model(batch[:1])
            for given in seen.values():
                del given[:-2]
    for hook in hooks:
        hook.remove()

    busiest, entropies = [], []
    for router, given in seen.items():
        x = torch.cat(given)
        logits = F.linear(x, router.gate, router.gate_bias)
        scores = logits.softmax(-1) if options.router == "softmax" else logits.sigmoid()
        shares = scores / scores.sum(-1, keepdim=True)
        entropies.append(-(shares * shares.log()).sum(-1).mean())
        load = shares.sum(0) if options.gating == "all" else torch.zeros(6).double()
        if options.gating == "topk":
            for expert in scores.topk(2).indices.flatten().tolist():
                load[expert] += 1
        busiest.append(load.max() / load.mean())
    assert usage.load_max == pytest.approx(max(busiest).item())
    assert usage.entropy == pytest.approx(torch.stack(entropies).mean().item())


def test_nothing_watches_once_it_is_over():
    model, batch = small_model(SMALL)
    usage = Usage(model)
    with torch.no_grad():
        with usage.watching():
            model(batch)
        before = usage.entropy
        model(batch)
    assert usage.entropy == before
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_experts_has_no_figures():
    usage = Usage(torch.nn.Linear(2, 2))
    with usage.watching():
        pass
    assert (usage.load_max, usage.entropy) == (None, None)


# --- Options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"top_k": 3}, "top_k 3 is for experts that are chosen: give gating: topk"),
        ({"balance": "bias"}, "balance bias is for experts that are chosen: give gating: topk"),
        ({"gating": "topk", "top_k": 5}, "top_k 5 is more than n_experts 4: give at most that"),
        (
            {"gating": "topk", "bias_rate": 0.1},
            "bias_rate is for balance: bias, and balance is none",
        ),
        (
            {"gating": "topk", "balance": "bias", "aux_coefficient": 0.1},
            "aux_coefficient is for balance: aux, and balance is bias",
        ),
        ({"prune_every": 10}, "prune_every and prune_to go together: give both or neither"),
        ({"prune_to": 2}, "prune_every and prune_to go together: give both or neither"),
        (
            {"prune_every": 10, "prune_to": 4},
            "prune_to 4 is not below n_experts 4: give fewer",
        ),
        (
            {"gating": "topk", "top_k": 3, "prune_every": 10, "prune_to": 2},
            "prune_to 2 is below top_k 3: give at least that",
        ),
        (
            {"n_embd": 10},
            "n_embd 10 is not a multiple of n_head 4",
        ),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused(settings, says):
    with pytest.raises(ValueError, match=f"^{says}$"):
        NanoKimiOptions(**settings)


def test_all_contradictions_are_told_at_once():
    with pytest.raises(
        ValueError, match=r"top_k 3 is for .*; bias_rate is for .*; prune_every and"
    ):
        NanoKimiOptions(top_k=3, bias_rate=0.1, prune_to=2)
