"""The batched optimizers against ones that know a single tensor; their cost, worked by hand."""

import copy
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from reference import AdamW, Muon, assert_near, is_block_matrix, logical, newton_schulz, stream
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.logical import initialise
from bench.models import nanogpt, nanokimi
from bench.models.decoder import Decoder
from bench.optim import adamw, truemuon
from bench.optim.truemuon import orthogonalise, orthogonalise_flops
from bench.options import AdamWOptions, NanoGPTOptions, NanoKimiOptions, TrueMuonOptions

PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=["f64", "f32"]
)
BOTH = pytest.mark.parametrize(
    ("module", "options"),
    [(adamw, AdamWOptions()), (truemuon, TrueMuonOptions())],
    ids=["adamw", "truemuon"],
)


def build(name: str, dtype: torch.dtype = torch.float32) -> Decoder:
    """Small, with matrices that lie, stand and are square, and more experts than columns."""
    if name == "nanogpt":
        model = nanogpt.build(NanoGPTOptions(n_embd=8, n_layer=2, n_head=2), 11, 7)
    else:
        options = NanoKimiOptions(n_embd=8, n_layer=2, n_head=4, n_experts=9)
        model = nanokimi.build(options, 11, 7)
    model.to(dtype)
    initialise(model.stacks(), stream(1))
    return model


@pytest.fixture(params=["nanogpt", "nanokimi"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def gradients(model: Decoder, seed: int) -> dict[str, Tensor]:
    """Random gradients, set in the model and returned by logical name."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return logical(model.stacks(), of=lambda parameter: parameter.grad)


# --- What they do -------------------------------------------------------------------------------


@BOTH
def test_a_saved_state_takes_the_same_next_step(name, module, options):
    models = [build(name), build(name)]
    optimizers = [module.build(model.stacks(), options) for model in models]
    for step in range(3):
        gradients(models[0], step)
        for optimizer in optimizers[0]:
            optimizer.step()
    models[1].load_state_dict(models[0].state_dict())
    for saved, restored in zip(*optimizers, strict=True):
        restored.load_state_dict(copy.deepcopy(saved.state_dict()))
    for step in (3, 4):
        for model, stepping in zip(models, optimizers, strict=True):
            gradients(model, step)
            for optimizer in stepping:
                optimizer.step()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


@BOTH
def test_without_parameters_there_is_no_optimizer(module, options):
    assert module.build([], options) == []


def muon_reference(name: str, W: Tensor, options: TrueMuonOptions) -> Muon | AdamW:
    if is_block_matrix(name, W):
        return Muon(W, options.lr, options.momentum, options.weight_decay, options.ns_steps)
    return AdamW(W, lr=options.adamw_lr, weight_decay=options.adamw_weight_decay)


def adamw_reference(name: str, W: Tensor, options: AdamWOptions) -> AdamW:
    return AdamW(W, **asdict(options))


@PRECISIONS
@pytest.mark.parametrize(
    ("module", "options", "reference"),
    [
        (truemuon, TrueMuonOptions(), muon_reference),
        (truemuon, TrueMuonOptions(0.02, 0.8, 0.1, 3, 0.003, 0.2), muon_reference),
        (adamw, AdamWOptions(), adamw_reference),
        (adamw, AdamWOptions(0.002, 0.8, 0.95, 1e-3, 0.1), adamw_reference),
    ],
    ids=["truemuon", "truemuon-changed", "adamw", "adamw-changed"],
)
def test_twenty_steps_equal_those_of_one_tensor_at_a_time(
    name, module, options, reference, dtype, tolerance
):
    model = build(name, dtype)
    expected = {n: reference(n, W, options) for n, W in logical(model.stacks()).items()}
    optimizers = module.build(model.stacks(), options)
    for step in range(20):
        for n, g in gradients(model, seed=step).items():
            expected[n].step(g)
        for optimizer in optimizers:
            optimizer.step()
    for n, W in logical(model.stacks()).items():
        assert_near(W, expected[n].W, tolerance, n)


def test_defaults_are_the_originals():
    assert TrueMuonOptions() == TrueMuonOptions(
        lr=1e-2, momentum=0.9, weight_decay=0.01, ns_steps=5, adamw_lr=1e-3, adamw_weight_decay=0.01
    )
    assert AdamWOptions() == AdamWOptions(
        lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01
    )


@PRECISIONS
def test_adamw_is_pytorchs_with_its_defaults(name, dtype, tolerance):
    model, twin = build(name, dtype), build(name, dtype)
    (optimizer,) = adamw.build(model.stacks(), AdamWOptions())
    plain = torch.optim.AdamW(twin.parameters(), foreach=False, fused=False)
    for step in range(20):
        gradients(model, seed=step)
        gradients(twin, seed=step)
        optimizer.step()
        plain.step()
    for parameter, expected in zip(model.parameters(), twin.parameters(), strict=True):
        assert_near(parameter, expected, tolerance)


@BOTH
def test_every_parameter_has_exactly_one_optimizer(name, module, options):
    model = build(name)
    owned = [
        id(parameter)
        for optimizer in module.build(model.stacks(), options)
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert sorted(owned) == sorted(id(parameter) for parameter in model.parameters())


@BOTH
def test_training_lowers_the_loss(name, module, options):
    model = build(name)
    optimizers = module.build(model.stacks(), options)
    torch.manual_seed(0)
    tokens, targets = torch.randint(11, (2, 4, 7))
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        model.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.85 * losses[0]


def test_a_tensor_without_a_gradient_stays_as_it_is_under_adamw(name):
    model = build(name)
    (optimizer,) = adamw.build(model.stacks(), AdamWOptions())
    gradients(model, seed=0)
    model.token.grad = None
    token, head = model.token.detach().clone(), model.head.detach().clone()
    optimizer.step()
    assert model.token.equal(token)
    assert not model.head.equal(head)


# --- Orthogonalisation --------------------------------------------------------------------------


def random_matrices(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_orthogonalising_maps_singular_values_by_the_polynomial():
    X = random_matrices(1, 6, 10)
    U, S, Vh = torch.linalg.svd(X, full_matrices=False)
    s = S / S.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    assert_near(orthogonalise(X, 5), U @ torch.diag_embed(s) @ Vh, 1e-6)  # epsilon moves by 1e-7


def test_orthogonalising_brings_singular_values_near_one():
    S = torch.linalg.svdvals(orthogonalise(random_matrices(3, 16, 64), 5))
    assert S.min() > 0.6
    assert S.max() < 1.3


def test_zero_stays_zero():
    assert orthogonalise(torch.zeros(2, 3, 5), 5).eq(0).all()


def test_scale_does_not_matter():
    X = random_matrices(2, 4, 6)
    assert_near(orthogonalise(1000 * X, 5), orthogonalise(X, 5), 1e-6)


def test_matrices_of_a_batch_do_not_mix():
    X = random_matrices(3, 4, 6) * torch.tensor([1e-3, 1.0, 1e3]).view(3, 1, 1)
    for alone, together in zip(X, orthogonalise(X, 5), strict=True):
        assert_near(together, newton_schulz(alone), 1e-10)


# --- What they cost -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 4), (3, 7)])
def test_orthogonalising_takes_the_products_that_are_counted(shape):
    with FlopCounterMode(display=False) as counter:
        orthogonalise(torch.ones(1, *shape), 5)
    assert counter.get_total_flops() == orthogonalise_flops(*shape, 5)
    assert orthogonalise_flops(*shape, 5) == orthogonalise_flops(*reversed(shape), 5)


def test_flops_of_a_small_truemuon_step():
    stacks = nanogpt.build(NanoGPTOptions(n_embd=4, n_layer=1, n_head=2), 3, 5).stacks()
    # an iteration takes 4 r^2 c + 2 r^3
    projections = 2 * 3 * (4 * 2 * 2 * 4 + 2 * 2**3)  # 2 heads' query, key and value, 2 x 4: 480
    output = 4 * 4 * 4 * 4 + 2 * 4**3  # 4 x 4: 384
    feed_forward = 2 * (4 * 4 * 4 * 16 + 2 * 4**3)  # 16 x 4 and 4 x 16: 2,304
    products = projections + output + feed_forward
    # elementwise: 12 a number of a matrix, 14 of any other
    matrices = 4 * 4 * 4 + 2 * 4 * 16  # 192
    others = (3 + 5) * 4 + 3 * 4 + 3 + 3 * 8 + 4 + 16 + 4  # embeddings, head, norms, biases: 95
    assert truemuon.flops_per_step(stacks, TrueMuonOptions()) == (
        5 * products + 12 * matrices + 14 * others
    )
    more = truemuon.flops_per_step(stacks, TrueMuonOptions(ns_steps=6))
    assert more - truemuon.flops_per_step(stacks, TrueMuonOptions()) == products == 3_168


def test_flops_of_a_small_mixtures_truemuon_step():
    options = NanoKimiOptions(n_embd=2, n_layer=1, n_head=1, n_experts=3)
    stacks = nanokimi.build(options, 3, 5).stacks()
    square = 4 * 2 * 2 * 2 + 2 * 2**3  # 48: query, key, value, output and 3 experts' down
    gate = 4 * 2 * 2 * 3 + 2 * 2**3  # 3 x 2: 64
    up = 4 * 2 * 2 * 4 + 2 * 2**3  # 4 x 2: 80, for each of 3 experts
    five, six = (truemuon.flops_per_step(stacks, TrueMuonOptions(ns_steps=n)) for n in (5, 6))
    assert six - five == 7 * square + gate + 3 * up == 640


def test_flops_of_an_adamw_step():
    model = nanogpt.build(NanoGPTOptions(), 65, 32)
    assert adamw.flops_per_step(model.stacks(), AdamWOptions()) == 14 * 209_729


def test_truemuon_is_a_third_of_a_nano_step():
    model = nanogpt.build(NanoGPTOptions(), 65, 32)
    step = 16 * 32 * model.flops_per_token()  # 512 tokens
    assert 0.3 < truemuon.flops_per_step(model.stacks(), TrueMuonOptions()) / step < 0.4


@BOTH
def test_state_is_one_momentum_a_matrix_or_two_moments(name, module, options):
    model = build(name)
    optimizers = module.build(model.stacks(), options)
    gradients(model, seed=0)
    for optimizer in optimizers:
        optimizer.step()
    held = sum(
        value.numel()
        for optimizer in optimizers
        for state in optimizer.state.values()
        for value in state.values()
        if value.dim() > 0  # without AdamW's step counts
    )
    expected = sum(
        (1 if module is truemuon and is_block_matrix(n, value) else 2) * value.numel()
        for n, value in logical(model.stacks()).items()
    )
    assert held == expected
