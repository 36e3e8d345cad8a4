"""The stacked models against looped ones; their initialisation; their figures, worked by hand."""

from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.logical import assert_covers, initialise
from bench.border.options import DecoderOptions, NanoGPTOptions, NanoKimiOptions
from bench.models import nanogpt, nanokimi
from bench.models.decoder import Decoder
from bench.run.estimate import n_params, n_params_active
from tests.builders.reference import Reference, assert_near, copy_weights, logical, stream

VOCABULARY, BLOCK = 65, 32  # of the original
GPT = NanoGPTOptions(n_embd=8, n_layer=2, n_head=2)
KIMI = NanoKimiOptions(n_embd=8, n_layer=2, n_head=2, n_experts=3)


def build(
    options: DecoderOptions,
    vocab_size: int = VOCABULARY,
    block_size: int = BLOCK,
    dtype: torch.dtype = torch.float32,
    seed: int = 1,
) -> Decoder:
    module = nanokimi if isinstance(options, NanoKimiOptions) else nanogpt
    model = module.build(options, vocab_size, block_size).to(dtype)
    initialise(model.stacks(), stream(seed))
    return model


def drawn(
    options: DecoderOptions, vocab_size: int = VOCABULARY, seed: int = 1
) -> dict[str, Tensor]:
    return logical(build(options, vocab_size, seed=seed).stacks())


@pytest.fixture(
    params=[GPT, replace(GPT, activation="swiglu"), KIMI], ids=["nanogpt", "swiglu", "nanokimi"]
)
def options(request: pytest.FixtureRequest) -> DecoderOptions:
    return request.param


@pytest.fixture(params=[NanoGPTOptions(), NanoKimiOptions()], ids=["nanogpt", "nanokimi"])
def default(request: pytest.FixtureRequest) -> DecoderOptions:
    return request.param


# --- What it computes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=["f64", "f32"]
)
@pytest.mark.parametrize("attention_scale", ["n_embd", "head_size"])
@pytest.mark.parametrize("T", [2, 7])  # of up to 7
@pytest.mark.parametrize(
    "options",
    [
        replace(GPT, n_head=1),
        replace(GPT, n_head=2),
        replace(GPT, n_head=4),
        replace(GPT, activation="gelu"),
        replace(GPT, activation="swiglu"),
        replace(KIMI, n_head=4, n_experts=1),
        replace(KIMI, n_head=2, n_experts=3),
        replace(KIMI, n_head=1, n_experts=4),
        replace(KIMI, router="sigmoid", n_shared_experts=2),
        replace(KIMI, expert_hidden=5, n_shared_experts=1),
        replace(KIMI, n_experts=5, gating="topk", expert_hidden=20),
        replace(KIMI, n_experts=5, gating="topk"),
        replace(KIMI, n_experts=5, gating="topk", top_k=1, n_shared_experts=1),
        replace(KIMI, n_experts=5, gating="topk", top_k=5, router="sigmoid"),
        replace(KIMI, n_experts=5, gating="topk", top_k=1, router="sigmoid"),
        replace(KIMI, n_experts=40, gating="topk", top_k=3),  # some of which nobody chooses
    ],
    ids=lambda options: "-".join(map(str, asdict(options).values())),
)
def test_outputs_and_gradients_equal_the_looped_model(
    options, T, attention_scale, dtype, tolerance
):
    options = replace(options, attention_scale=attention_scale)
    model = build(options, vocab_size=11, block_size=7, dtype=dtype)
    torch.manual_seed(0)
    with torch.no_grad():  # also norms and biases take part
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    reference = Reference(options, vocab_size=11, block_size=7).to(dtype)
    copy_weights(model, reference)
    tokens, targets = torch.randint(11, (2, 3, T))

    logits, expected = model(tokens), reference(tokens)
    assert_near(logits, expected, tolerance, "logits")
    F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    F.cross_entropy(expected.flatten(0, 1), targets.flatten()).backward()
    gradients = logical(model.stacks(), of=lambda parameter: parameter.grad)
    for name, parameter in reference.named_parameters():
        assert_near(gradients[name], parameter.grad, tolerance, name)


def test_logits_see_the_past_and_the_present_but_not_the_future(options):
    model = build(options, dtype=torch.float64)
    tokens = torch.randint(VOCABULARY, (1, BLOCK), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 10] = (tokens[0, 10] + 1) % VOCABULARY

    moved = (model(changed) - model(tokens)).abs().amax(-1).squeeze(0)  # (T,)
    assert moved[:10].max() < 1e-14
    assert moved[10:].min() > 1e-6


def test_defaults_are_the_originals():
    shared = {
        "n_embd": 64,
        "n_layer": 4,
        "n_head": 4,
        "attention_scale": "n_embd",
        "norm": "layernorm",
        "position": "learned",
        "rope_base": 10_000.0,
        "qk_norm": False,
        "bias": True,
        "tied_head": False,
    }
    assert asdict(NanoGPTOptions()) == shared | {"activation": "relu"}
    assert asdict(NanoKimiOptions()) == shared | {
        "n_experts": 4,
        "activation": "swiglu",
        "expert_hidden": None,
        "gating": "all",
        "top_k": 2,
        "n_shared_experts": 0,
        "router": "softmax",
        "balance": "none",
        "aux_coefficient": 0.01,
        "bias_rate": 0.001,
        "prune_every": None,
        "prune_to": None,
    }


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="n_embd 10 is not a multiple of n_head 4"):
        NanoGPTOptions(n_embd=10, n_head=4)


# --- What it tells of itself --------------------------------------------------------------------


def test_every_parameter_is_in_one_stack_and_every_name_is_unique(default):
    model = build(default)
    assert_covers(model.stacks(), model)
    names = [name for stack in model.stacks() for name in stack.names]
    assert len(names) == len(set(names))


def expected_role(name: str) -> str:
    if name.endswith("bias") or "norm" in name:
        return "vector"
    if name in ("token.weight", "position.weight"):
        return "embedding"
    if name == "head.weight":
        return "head"
    return "router" if name.endswith("gate.weight") else "hidden"


def test_every_logical_tensor_has_its_role(default):
    roles = {name: stack.role for stack in build(default).stacks() for name in stack.names}
    assert roles == {name: expected_role(name) for name in roles}
    assert ("router" in roles.values()) == isinstance(default, NanoKimiOptions)


def test_default_models_have_the_originals_size():
    # (65 + 32) 64 embeddings, 128 of the last norm, 65 (64 + 1) of the head: 10,561
    # a block: 4 x 64 x 64 + 64 of attention, 2 x 128 of norms: 16,704
    # dense: 64 x 256 + 256 + 256 x 64 + 64 = 33,088
    assert build(NanoGPTOptions()).n_params() == 10_561 + 4 * (16_704 + 33_088) == 209_729
    # mixture: 4 x 64 + 4 of the gate, 4 (64 x 128 + 128 + 64 x 64 + 64) of experts: 50,180
    assert build(NanoKimiOptions()).n_params() == 10_561 + 4 * (16_704 + 50_180) == 278_097


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
@pytest.mark.parametrize("d", [8, 19, 20, 21, 22, 32, 64, 96, 128, 256, 1000, 4096])
def test_a_feed_forward_has_as_many_parameters_with_any_activation(d, activation):
    def size(activation: str) -> int:
        options = NanoGPTOptions(n_embd=d, n_head=1, activation=activation)
        module = nanogpt.build(replace(options, n_layer=1), 1, 1).blocks[0].feed_forward
        return sum(parameter.numel() for parameter in module.parameters())

    assert size(activation) == pytest.approx(size("relu"), rel=0.01)


def test_swiglu_has_the_hidden_width_of_the_paper():
    # 8 d / 3 = 170.7: three matrices of 64 x 170, biases of 2 x 170 + 64
    options = NanoGPTOptions(activation="swiglu")
    assert options.n_hidden == 170
    assert build(options).n_params() == 10_561 + 4 * (16_704 + 3 * 64 * 170 + 340 + 64) == 209_553


@pytest.mark.parametrize(
    "options",
    [
        NanoGPTOptions(),
        NanoGPTOptions(n_embd=12, n_head=3, activation="gelu"),
        NanoGPTOptions(n_embd=12, n_head=3, activation="swiglu"),
        NanoKimiOptions(n_experts=3, n_layer=2),
        NanoKimiOptions(n_experts=6, n_shared_experts=2, gating="topk", top_k=3),
        NanoKimiOptions(n_experts=2, expert_hidden=21, n_shared_experts=1),
    ],
    ids=str,
)
def test_the_launching_side_counts_the_parameters_by_formula(options):
    model = build(options)
    assert n_params(options, VOCABULARY, BLOCK) == model.n_params()
    assert n_params_active(options, VOCABULARY, BLOCK) == model.n_params_active()


def test_every_parameter_is_active(default):
    model = build(default)
    assert model.n_params_active() == model.n_params()


def test_flops_of_a_small_dense_model():
    model = build(NanoGPTOptions(n_embd=2, n_layer=3, n_head=2), vocab_size=7, block_size=5)
    block = 4 * 2 * 2 + 2 * 8 + 8 * 2  # query, key, value, output; up; down: 48
    head = 7 * 2
    attention = 12 * 3 * 5 * 2  # layers x block x width: 360
    assert model.flops_per_token() == 6 * (3 * block + head) + attention == 1_308


def test_flops_of_a_small_mixture():
    options = NanoKimiOptions(n_embd=2, n_layer=3, n_head=1, n_experts=3)
    model = build(options, vocab_size=7, block_size=5)
    block = 4 * 2 * 2 + 3 * 2 + 3 * (4 * 2 + 2 * 2)  # attention, gate, experts: 58
    head = 7 * 2
    attention = 12 * 3 * 5 * 2
    assert model.flops_per_token() == 6 * (3 * block + head) + attention == 1_488


def test_parameters_and_flops_of_chosen_experts_are_those_of_the_chosen_and_shared():
    options = NanoKimiOptions(
        n_embd=2, n_layer=3, n_head=1, n_experts=9, gating="topk", top_k=2, n_shared_experts=1
    )
    model = build(options, vocab_size=7, block_size=5)
    expert = 4 * 2 + 4 + 2 * 2 + 2  # up, its bias, down, its bias: 18
    assert model.n_params() - model.n_params_active() == 3 * (9 - 2) * expert == 378
    block = 4 * 2 * 2 + 9 * 2 + (2 + 1) * (4 * 2 + 2 * 2)  # attention, gate, experts: 70
    assert model.flops_per_token() == 6 * (3 * block + 7 * 2) + 12 * 3 * 5 * 2 == 1_704


# --- How it begins ------------------------------------------------------------------------------


def test_every_logical_tensor_begins_as_pytorch_would_draw_it(default):
    vocab_size = 200  # 65 as fan-in would go unnoticed beside a width of 64
    values = drawn(default, vocab_size)
    checked = set()
    for name, module in Reference(default, vocab_size, BLOCK).named_modules():
        if isinstance(module, nn.Linear):
            bound = module.in_features**-0.5  # of both; a uniform draw's deviation is bound / √3
            for part, _ in module.named_parameters():
                value = values[f"{name}.{part}"]
                assert value.abs().max() <= bound
                if value.numel() >= 64:
                    assert value.abs().max() > 0.9 * bound
                if value.numel() >= 1024:
                    assert value.std().item() == pytest.approx(bound / 3**0.5, rel=0.06)
        elif isinstance(module, nn.Embedding):
            assert values[f"{name}.weight"].std().item() == pytest.approx(1, rel=0.06)
        elif isinstance(module, nn.LayerNorm):
            assert values[f"{name}.weight"].eq(1).all()
            assert values[f"{name}.bias"].eq(0).all()
        checked |= {f"{name}.{part}" for part, _ in module.named_parameters(recurse=False)}
    assert checked == set(values)


def test_a_large_matrix_is_distributed_as_in_nn_linear():
    value = drawn(NanoGPTOptions(n_embd=128, n_layer=1))["blocks.0.feed_forward.down.weight"]
    torch.manual_seed(0)
    linear = nn.Linear(4 * 128, 128).weight.detach()  # (128, 512), as down
    hundredths = torch.linspace(0, 1, 101)
    torch.testing.assert_close(
        value.flatten().quantile(hundredths),
        linear.flatten().quantile(hundredths),
        rtol=0,
        atol=0.02 * 512**-0.5,
    )


def assert_shared_tensors_are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    shared = {name for name in one.keys() & other.keys() if one[name].shape == other[name].shape}
    for name in shared:
        assert torch.equal(one[name], other[name]), name
    return shared


def test_both_models_begin_equal_wherever_they_are_alike():
    dense, mixture = drawn(NanoGPTOptions()), drawn(NanoKimiOptions())
    shared = assert_shared_tensors_are_equal(dense, mixture)
    assert shared == {name for name in dense if "feed_forward." not in name}


@pytest.mark.parametrize("change", [{"n_experts": 5}, {"n_layer": 3}])
def test_a_larger_mixture_keeps_the_tensors_of_the_smaller(change):
    small, large = drawn(KIMI), drawn(replace(KIMI, **change))
    gates = {name for name in small if ".gate." in name}  # have another shape
    shared = assert_shared_tensors_are_equal(small, large)
    assert shared == (set(small) - gates if "n_experts" in change else set(small))
    assert len(large) > len(small)


def test_no_two_random_tensors_begin_equal(options):
    one, other = drawn(options), drawn(options, seed=2)
    random = [value for name, value in one.items() if "norm" not in name]
    random += [value for name, value in other.items() if "norm" not in name]
    assert len({value.flatten()[0].item() for value in random}) == len(random)


def test_the_order_of_drawing_is_irrelevant(options):
    model = build(options)
    before = {name: value.clone() for name, value in logical(model.stacks()).items()}
    initialise(reversed(model.stacks()), stream(1))
    after = logical(model.stacks())
    assert assert_shared_tensors_are_equal(before, after) == set(before)
