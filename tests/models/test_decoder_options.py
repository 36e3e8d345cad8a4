"""The decoder of today, option by option: against plain models, by hand, and in combination."""

import itertools
import math
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.border.logical import assert_covers, initialise
from bench.border.options import (
    OPTIMIZER_OPTIONS,
    DecoderOptions,
    MuonClipOptions,
    NanoGPTOptions,
    NanoKimiOptions,
)
from bench.models import nanogpt, nanokimi
from bench.models.attention import Attention
from bench.models.decoder import Decoder
from bench.models.norms import RMSNorm, rms_normalised
from bench.models.rotary import Rotary
from bench.optim import muonclip
from bench.run.estimate import n_params, n_params_active
from bench.worker.registry import OPTIMIZERS
from tests.builders.reference import (
    Reference,
    assert_near,
    copy_weights,
    logical,
    rotated,
    stream,
)

VOCABULARY, BLOCK = 11, 7
OF_TODAY: dict[str, Any] = {
    "norm": "rmsnorm",
    "position": "rope",
    "qk_norm": True,
    "activation": "relu2",
    "bias": False,
    "attention_scale": "head_size",
}
GPT = NanoGPTOptions(n_embd=8, n_layer=2, n_head=2)
KIMI = NanoKimiOptions(n_embd=8, n_layer=2, n_head=2, n_experts=3)
# Each that changes what is computed, alone.
CHANGES: list[dict[str, Any]] = [
    {"norm": "rmsnorm"},
    {"position": "rope"},
    {"position": "rope", "rope_base": 20.0},
    {"qk_norm": True},
    {"activation": "relu2"},
    {"bias": False},
    {"tied_head": True},
]


def build(
    options: DecoderOptions,
    vocab_size: int = VOCABULARY,
    block_size: int = BLOCK,
    dtype: torch.dtype = torch.float32,
) -> Decoder:
    module = nanokimi if isinstance(options, NanoKimiOptions) else nanogpt
    model = module.build(options, vocab_size, block_size).to(dtype)
    initialise(model.stacks(), stream(1))
    return model


def drawn(options: DecoderOptions) -> dict[str, Tensor]:
    return logical(build(options).stacks())


def shaken(model: Decoder) -> Decoder:
    """Norms and biases take part as well."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def assert_equals_the_plain_model(options: DecoderOptions, T: int = BLOCK) -> None:
    """Logits, and gradients by name, in float64."""
    model = shaken(build(options, dtype=torch.float64))
    reference = Reference(options, VOCABULARY, BLOCK).to(torch.float64)
    copy_weights(model, reference)
    tokens, targets = torch.randint(VOCABULARY, (2, 3, T))
    logits, expected = model(tokens), reference(tokens)
    assert_near(logits, expected, 1e-10, "logits")
    F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    F.cross_entropy(expected.flatten(0, 1), targets.flatten()).backward()
    gradients = logical(model.stacks(), of=lambda parameter: parameter.grad)
    for name, parameter in reference.named_parameters():
        assert_near(gradients[name], parameter.grad, 1e-10, name)


# --- What it computes ---------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("base", [GPT, KIMI], ids=["nanogpt", "nanokimi"])
@pytest.mark.parametrize("T", [2, BLOCK])
def test_each_option_alone_computes_what_the_plain_model_does(base, change, T):
    assert_equals_the_plain_model(replace(base, **change), T)


@pytest.mark.parametrize("activation", get_args(get_type_hints(NanoKimiOptions)["activation"]))
@pytest.mark.parametrize("gating", ["all", "topk"])
@pytest.mark.parametrize("bias", [True, False])
def test_experts_of_every_activation_compute_what_plain_ones_do(gating, activation, bias):
    assert_equals_the_plain_model(
        replace(KIMI, n_shared_experts=1, gating=gating, activation=activation, bias=bias)
    )


def choices(options: type[DecoderOptions]) -> dict[str, st.SearchStrategy[Any]]:
    """Every value of what is a choice among few."""
    return {
        name: st.sampled_from(get_args(kind) if get_args(kind) else (False, True))
        for name, kind in get_type_hints(options).items()
        if kind is bool or (get_args(kind) and isinstance(get_args(kind)[0], str))
    }


@st.composite
def any_options(draw: st.DrawFn) -> DecoderOptions:
    """Of either model, at tiny sizes, with what goes together."""
    kind = draw(st.sampled_from([NanoGPTOptions, NanoKimiOptions]))
    asked = {name: draw(values) for name, values in choices(kind).items()}
    asked |= {"n_layer": 1, "n_head": draw(st.sampled_from([1, 2])), "n_embd": 4}
    if asked["position"] == "rope":
        asked["rope_base"] = draw(st.sampled_from([10.0, 10_000.0]))
    if kind is NanoKimiOptions:
        # One alone, scored by itself, has a gate of 1 whatever its score: no gradient to compare.
        asked["n_experts"] = draw(st.integers(2, 4))
        asked["n_shared_experts"] = draw(st.integers(0, 2))
        asked["expert_hidden"] = draw(st.sampled_from([None, 3]))
        if asked["gating"] == "all":
            del asked["balance"]
        else:
            asked["top_k"] = draw(st.integers(1, asked["n_experts"]))
    return kind(**asked)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(options=any_options(), T=st.integers(2, BLOCK))
def test_any_combination_computes_what_the_plain_model_does(options, T):
    assert_equals_the_plain_model(options, T)


@settings(max_examples=50, deadline=None)
@given(options=any_options())
def test_any_combination_is_covered_by_its_stacks_and_counted_by_formula(options):
    model = build(options)
    assert_covers(model.stacks(), model)
    names = [name for stack in model.stacks() for name in stack.names]
    assert len(names) == len(set(names))
    assert n_params(options, VOCABULARY, BLOCK) == model.n_params()
    assert n_params_active(options, VOCABULARY, BLOCK) == model.n_params_active()
    has_bias = [name for name in names if name.endswith("bias")]
    assert bool(has_bias) == options.bias


def test_no_bias_is_left_without_them_and_nothing_else_goes():
    for base in (GPT, replace(KIMI, n_shared_experts=1)):
        with_them = drawn(base)
        assert drawn(replace(base, bias=False)).keys() == {
            name for name in with_them if not name.endswith("bias")
        }


def test_an_rms_norm_takes_no_mean_away():
    x = torch.tensor([[3.0, 4.0], [5.0, 5.0], [0.0, 0.0]], dtype=torch.float64)
    rms = (12.5 + 1e-5) ** 0.5  # of 3 and 4
    norm = RMSNorm(2).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0]))
    expected = torch.tensor([[3 / rms, 8 / rms], [1.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(norm(x), expected, rtol=1e-6, atol=1e-12)


def test_relu2_is_the_square_of_what_is_positive():
    model = build(NanoGPTOptions(n_embd=2, n_layer=1, n_head=1, activation="relu2"))
    x = torch.tensor([-3.0, -0.0, 0.5, 2.0])
    assert model.blocks[0].feed_forward.activate(x).tolist() == [0.0, 0.0, 0.25, 4.0]


# --- Positions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("h", [2, 6, 16])
@pytest.mark.parametrize("base", [2.0, 10_000.0])
def test_a_rotation_is_that_of_the_paper_with_halves_for_neighbours(h, base):
    x = torch.randn(3, 9, h, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rotary = Rotary(h, 12, base).double()
    assert_near(rotary(x), rotated(x, base), 1e-12)
    neighbours = torch.arange(h).view(2, h // 2).T.flatten()  # 0, h/2, 1, h/2 + 1, ...
    found = rotary(x)[..., neighbours]
    for i, t in itertools.product(range(h // 2), range(9)):  # Su et al. 2021, equation 34
        angle = t * base ** (-2 * i / h)
        one, other = x[:, t, neighbours[2 * i]], x[:, t, neighbours[2 * i + 1]]
        turned = one * math.cos(angle) - other * math.sin(angle)
        torch.testing.assert_close(found[:, t, 2 * i], turned, rtol=1e-6, atol=1e-6)


def test_angles_are_right_far_from_the_start():
    """A float32 angle of 65,535 is right to 0.004 only."""
    rotary = Rotary(8, 65_536, 10_000.0)
    for i in range(4):
        angle = 65_535 * 10_000.0 ** (-2 * i / 8)
        assert rotary.cos[-1, i].item() == pytest.approx(math.cos(angle), abs=1e-6)
        assert rotary.sin[-1, i].item() == pytest.approx(math.sin(angle), abs=1e-6)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_rotated_logits_depend_on_the_distance_alone(qk_norm):
    """The same vector at every place: a query's logits with keys are told by how far they are."""
    model = build(replace(GPT, position="rope", qk_norm=qk_norm), block_size=20)
    attention = model.blocks[0].attention
    assert isinstance(attention, Attention)
    one = torch.randn(2, 1, 2, 1, 4, generator=torch.Generator().manual_seed(0))
    query, key = attention._prepared(one.expand(2, 1, 2, 20, 4))
    logits = (query @ key.mT)[0]  # (H, T, T)
    for distance in range(-19, 20):
        diagonal = logits.diagonal(distance, 1, 2)
        torch.testing.assert_close(diagonal, diagonal[:, :1].expand_as(diagonal))
    assert logits[:, 10].unique().numel() > 20  # and it does matter


def test_queries_may_be_normalised_before_or_after_they_are_rotated():
    x = torch.randn(3, 9, 6, generator=torch.Generator().manual_seed(0))
    rotary = Rotary(6, 9, 100.0)
    torch.testing.assert_close(rotary(rms_normalised(x)), rms_normalised(rotary(x)))


def test_rope_needs_no_table_and_adds_no_parameter():
    names = drawn(GPT).keys() - drawn(replace(GPT, position="rope")).keys()
    assert names == {"position.weight"}
    model = build(replace(GPT, position="rope"))
    assert {name for name, _ in model.named_buffers()} == {
        "blocks.0.attention.rotary.cos",  # one for all blocks
        "blocks.0.attention.rotary.sin",
    }
    assert not any("rotary" in name for name in model.state_dict())


def test_order_matters_to_a_model_with_rotary_positions():
    model = build(replace(GPT, position="rope", n_layer=2))
    tokens = torch.tensor([[1, 2, 3, 4], [2, 1, 3, 4]])
    one, other = model(tokens)[:, -1]
    assert (one - other).abs().max() > 1e-4


def test_no_position_sees_a_later_one():
    for base in (GPT, KIMI):
        model = build(replace(base, **OF_TODAY | {"tied_head": True}), dtype=torch.float64)
        tokens = torch.randint(VOCABULARY, (1, BLOCK), generator=torch.Generator().manual_seed(0))
        changed = tokens.clone()
        changed[0, 4] = (tokens[0, 4] + 1) % VOCABULARY
        moved = (model(changed) - model(tokens)).abs().amax(-1).squeeze(0)
        assert moved[:4].max() < 1e-14
        assert moved[4:].min() > 1e-6


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"rope_base": 500.0}, "rope_base is for position: rope, and position is learned"),
        (
            {"position": "rope", "n_embd": 12, "n_head": 4},
            "a head of 12 / 4 numbers has 3: give n_embd and n_head whose quotient is even",
        ),
        ({"n_embd": 10, "n_head": 4}, "n_embd 10 is not a multiple of n_head 4"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [NanoGPTOptions, NanoKimiOptions])
def test_what_contradicts_itself_is_refused(kind, asked, says):
    with pytest.raises(ValueError, match=says):
        kind(**asked)


# --- A tied head --------------------------------------------------------------------------------


def test_the_gradient_of_a_tied_head_is_that_of_both_its_uses():
    tied = build(replace(GPT, tied_head=True), dtype=torch.float64)
    apart = build(GPT, dtype=torch.float64)
    with torch.no_grad():
        apart.token.copy_(apart.head * 8**0.5)
    tokens = torch.randint(VOCABULARY, (3, BLOCK), generator=torch.Generator().manual_seed(0))
    for model in (tied, apart):
        F.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(-1, 1).flatten()).backward()
    assert_near(tied.head.grad, apart.token.grad * 8**0.5 + apart.head.grad, 1e-12)


def test_a_tied_head_is_a_head_and_no_optimizer_of_hidden_matrices_has_it():
    model = build(replace(GPT, tied_head=True))
    assert model.head is model.token
    roles = {name: stack.role for stack in model.stacks() for name in stack.names}
    assert roles["head.weight"] == "head"
    assert "token.weight" not in roles
    for name in ("truemuon", "muon", "muonclip"):
        hidden, rest = OPTIMIZERS[name].build(model.stacks(), OPTIMIZER_OPTIONS[name]())
        held = [
            {id(each) for group in optimizer.param_groups for each in group["params"]}
            for optimizer in (hidden, rest)
        ]
        assert id(model.head) not in held[0]
        assert id(model.head) in held[1]


@pytest.mark.parametrize(
    "changes", [{}, {"tied_head": True}, OF_TODAY, OF_TODAY | {"tied_head": True}]
)
@pytest.mark.parametrize("kind", [NanoGPTOptions, NanoKimiOptions])
def test_a_new_model_hardly_knows_better_than_chance(kind, changes):
    V = 400
    model = build(kind(**changes), V, 32)
    tokens = torch.randint(V, (16, 33), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert math.log(V) - 0.1 < loss.item() < math.log(V) + 1.0


# --- How it begins ------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("base", [GPT, KIMI], ids=["nanogpt", "nanokimi"])
def test_what_both_variants_have_begins_equal(base, change):
    one, other = drawn(base), drawn(replace(base, **change))
    assert other.keys() <= one.keys()
    differ = {name for name in other if one[name].shape != other[name].shape}
    assert not differ or (base is KIMI and "activation" in change)
    of_them = {name.replace(".weight", ".bias") for name in differ}  # have the bound of their layer
    for name in other.keys() - differ - of_them:
        assert torch.equal(one[name], other[name]), name


# --- What it tells of itself --------------------------------------------------------------------


def test_parameters_of_a_small_decoder_of_today():
    # d = 4, V = 11: embedding 44, head 44, last norm 4
    # a block: norms 2 x 4, attention 4 x 16, feed-forward 2 x 4 x 16: 200
    options = NanoGPTOptions(n_embd=4, n_layer=3, n_head=2, **OF_TODAY)
    model = build(options)
    assert model.n_params() == n_params(options, VOCABULARY, BLOCK) == 44 + 44 + 4 + 3 * 200 == 692
    tied = replace(options, tied_head=True)
    assert build(tied).n_params() == n_params(tied, VOCABULARY, BLOCK) == 692 - 44
    learned = replace(options, position="learned")
    assert build(learned).n_params() == n_params(learned, VOCABULARY, BLOCK) == 692 + 7 * 4
    # biases: output 4, up 16, down 4 a block, head 11; an RMSNorm has none
    biases = replace(options, bias=True)
    assert build(biases).n_params() == n_params(biases, VOCABULARY, BLOCK) == 692 + 3 * 24 + 11
    # a LayerNorm has one more of 4, seven of them
    layernorms = replace(biases, norm="layernorm")
    assert n_params(layernorms, VOCABULARY, BLOCK) == 692 + 3 * 24 + 11 + 7 * 4
    assert build(layernorms).n_params() == 692 + 3 * 24 + 11 + 7 * 4


def test_operations_of_a_small_decoder_of_today():
    options = NanoGPTOptions(n_embd=4, n_layer=3, n_head=2, **OF_TODAY)
    block = 4 * 16 + 2 * 4 * 16  # query, key, value, output; up, down: 192
    scores = 12 * 3 * 7 * 4  # layers x block x width: 1,008
    expected = 6 * (3 * block + 44) + scores  # a head of 11 x 4
    assert build(options).flops_per_token() == expected == 4_728
    # Also where the head's product is with the embedding, with biases, and with a table.
    for change in ({"tied_head": True}, {"bias": True}, {"position": "learned"}):
        assert build(replace(options, **change)).flops_per_token() == expected


def test_relu2_experts_have_three_halves_of_the_units_and_the_same_parameters():
    # swiglu at d = 64: 64 x 128 + 128 + 64 x 64 + 64 = 12,480; relu2: 96 units, as 96.25 are equal
    options = NanoKimiOptions(activation="relu2")
    assert options.n_hidden == 96
    assert NanoKimiOptions(activation="relu2", expert_hidden=20).n_hidden == 20
    relu2, swiglu = build(options), build(NanoKimiOptions())
    # 64 x 96 + 96 + 96 x 64 + 64 = 12,448 an expert, of four in each of four blocks
    assert swiglu.n_params() - relu2.n_params() == 16 * (12_480 - 12_448)
    assert build(replace(options, bias=False)).blocks[0].feed_forward.experts.h == 96


@pytest.mark.parametrize("activation", ["relu", "gelu", "relu2"])
@pytest.mark.parametrize("d", [16, 33, 64, 96, 128, 256, 1000])
def test_an_expert_has_as_many_parameters_with_any_activation(d, activation):
    def size(activation: str) -> int:
        options = NanoKimiOptions(n_embd=d, n_head=1, n_layer=1, n_experts=1, activation=activation)
        module = nanokimi.build(options, 1, 1).blocks[0].feed_forward.experts
        return sum(parameter.numel() for parameter in module.parameters())

    assert size(activation) == pytest.approx(size("swiglu"), rel=0.01)


def test_the_size_of_gpt_2():
    """Radford et al. 2019: 12 layers, 768 wide, 50,257 tokens, contexts of 1,024; 124,439,808.

    Of these 12 x 2,304 are biases of queries, keys and values, which our attention lacks; it has
    none in the head, ours has 50,257 with `bias`.
    """
    d, V, T = 768, 50_257, 1_024
    gpt_2 = NanoGPTOptions(
        n_embd=d,
        n_layer=12,
        n_head=12,
        attention_scale="head_size",
        activation="gelu",
        tied_head=True,
    )
    assert n_params(gpt_2, V, T) == 124_439_808 - 12 * 2_304 + 50_257 == 124_462_417
    # embeddings (V + T) d, a block 12 d², norms 2 d: without biases what nanoGPT has so
    plain = replace(gpt_2, bias=False)
    by_hand = (V + T) * d + 12 * (12 * d * d + 2 * d) + d
    assert n_params(plain, V, T) == by_hand == 124_337_664
    # a vocabulary padded to a multiple of 64, for whole tiles of a GPU's products
    assert n_params(plain, 50_304, T) == 124_337_664 + 47 * d == 124_373_760


# --- What optimizers make of it -----------------------------------------------------------------


def test_attention_logits_are_told_after_the_rotation():
    options = replace(GPT, position="rope", norm="rmsnorm", rope_base=10.0)
    model, plain = build(options), Reference(options, VOCABULARY, BLOCK)
    copy_weights(model, plain)
    tokens = torch.randint(VOCABULARY, (3, BLOCK), generator=torch.Generator().manual_seed(0))
    inputs: list[Tensor] = []
    for block in plain.blocks:
        block.attention.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    plain(tokens)
    attentions = [stack for stack in model.stacks() if stack.logits is not None]
    for stack in attentions:
        stack.logits.asked = True
    model(tokens)
    past = torch.ones(BLOCK, BLOCK, dtype=torch.bool).tril()
    for block, x, stack in zip(plain.blocks, inputs, attentions, strict=True):
        for head, largest in enumerate(stack.logits.largest):
            expected = block.attention.scores(x, head)[:, past].max()
            assert largest.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_rotated_logit_above_tau_is_brought_back_to_it():
    model = build(replace(GPT, position="rope"))
    with torch.no_grad():
        logical(model.stacks())["blocks.0.attention.query.1.weight"].mul_(1e4)
    still = {"lr": 1e-30, "weight_decay": 0.0, "adamw_lr": 1e-30, "adamw_weight_decay": 0.0}
    optimizers = muonclip.build(model.stacks(), MuonClipOptions(tau=10.0, **still))
    tokens = torch.randint(VOCABULARY, (3, BLOCK), generator=torch.Generator().manual_seed(0))
    stack = next(stack for stack in model.stacks() if stack.logits is not None)
    F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    assert stack.logits.largest[1] > 20.0
    for optimizer in optimizers:
        optimizer.step()
    model(tokens)
    assert stack.logits.largest[1].item() == pytest.approx(10.0, rel=1e-4)


def test_normalised_queries_take_no_notice_of_their_weights_size():
    """Which is why MuonClip is refused beside them."""
    model = build(replace(GPT, qk_norm=True), dtype=torch.float64)
    tokens = torch.randint(VOCABULARY, (3, BLOCK), generator=torch.Generator().manual_seed(0))
    before = model(tokens)
    with torch.no_grad():
        for kind in ("query", "key"):
            logical(model.stacks())[f"blocks.0.attention.{kind}.0.weight"].mul_(100.0)
    assert_near(model(tokens), before, 1e-3)  # what is left is the epsilon's
    with pytest.raises(ValueError, match="muonclip bounds the logits of attention heads, and this"):
        muonclip.build(model.stacks(), MuonClipOptions())


@pytest.mark.parametrize(
    ("optimizer", "change"),
    [
        (optimizer, change)
        for optimizer, change in itertools.product(OPTIMIZERS, [*CHANGES, OF_TODAY])
        if optimizer != "muonclip" or "qk_norm" not in change
    ],
    ids=str,
)
def test_every_optimizer_learns_with_every_option(optimizer, change):
    model = build(replace(KIMI, **change))
    optimizers = OPTIMIZERS[optimizer].build(model.stacks(), OPTIMIZER_OPTIONS[optimizer]())
    tokens = torch.randint(VOCABULARY, (4, BLOCK), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(-1, 1).flatten())
        loss.backward()
        for each in optimizers:
            each.step()
            each.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("change", [*CHANGES, OF_TODAY], ids=str)
@pytest.mark.parametrize("base", [GPT, KIMI], ids=["nanogpt", "nanokimi"])
def test_under_autocast_every_option_is_near_float32(base, change):
    model = build(replace(base, **change))
    tokens = torch.randint(VOCABULARY, (4, BLOCK), generator=torch.Generator().manual_seed(0))
    expected = model(tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(tokens)
        F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
    assert_near(logits.float(), expected, 0.03)
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())


def test_positions_move_with_their_model_and_are_no_part_of_what_is_saved():
    model = build(replace(GPT, position="rope"))
    again = build(replace(GPT, position="rope"), block_size=BLOCK)
    again.load_state_dict(model.state_dict())
    assert all(buffer.dtype == torch.float64 for buffer in model.double().buffers())
    assert isinstance(model.norm, nn.LayerNorm)
