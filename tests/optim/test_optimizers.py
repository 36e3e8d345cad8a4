"""The batched optimizers against ones that know a single tensor; their cost, worked by hand."""

import copy
import re
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim._muon import _zeropower_via_newtonschulz as zeropower
from torch.utils.flop_counter import FlopCounterMode

from bench.border.logical import initialise
from bench.border.options import (
    AdamWOptions,
    MuonOptions,
    NanoGPTOptions,
    NanoKimiOptions,
    SGDOptions,
    TrueMuonOptions,
)
from bench.models import nanogpt, nanokimi
from bench.models.decoder import Decoder
from bench.optim import adamw, muon, sgd, truemuon
from bench.optim.orthogonal import NS_COEFFICIENTS, orthogonalise, orthogonalise_flops
from tests.builders.reference import (
    AdamW,
    Muon,
    assert_near,
    is_block_matrix,
    logical,
    newton_schulz,
    stream,
)

PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=["f64", "f32"]
)
EACH = pytest.mark.parametrize(
    ("module", "options"),
    [
        (adamw, AdamWOptions()),
        (sgd, SGDOptions()),
        (truemuon, TrueMuonOptions()),
        (muon, MuonOptions()),
    ],
    ids=["adamw", "sgd", "truemuon", "muon"],
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


@EACH
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


@EACH
def test_without_parameters_there_is_no_optimizer(module, options):
    assert module.build([], options) == []


def muon_reference(name: str, W: Tensor, options: TrueMuonOptions) -> Muon | AdamW:
    to_adamw = options.router == "adamw" and name.endswith("gate.weight")
    if is_block_matrix(name, W) and not to_adamw:
        settings = asdict(options)
        for other in ("adamw_lr", "adamw_weight_decay", "router", "heads"):
            del settings[other]
        return Muon(W, **settings)
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


def joined_heads(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The queries of all heads one below another, as one matrix; likewise keys and values."""
    joined: dict[str, list[Tensor]] = {}
    for n, tensor in tensors.items():
        joined.setdefault(re.sub(r"(query|key|value)\.\d+", r"\1", n), []).append(tensor)
    return {n: torch.cat(parts) for n, parts in joined.items()}


SWITCHES = {
    "nesterov": {"momentum_form": "nesterov"},
    "sqrt-ratio": {"update_scale": "sqrt_ratio"},
    "match-rms": {"update_scale": "match_rms"},
    "router": {"router": "adamw"},
    "heads": {"heads": "together"},
    "all": {
        "momentum_form": "nesterov",
        "update_scale": "sqrt_ratio",
        "router": "adamw",
        "heads": "together",
    },
}


@pytest.mark.parametrize("switches", SWITCHES)
def test_every_switch_of_truemuon_equals_its_plain_version(name, switches):
    options = TrueMuonOptions(**SWITCHES[switches])
    together = options.heads == "together"
    seen = joined_heads if together else dict
    model = build(name, torch.float64)
    expected = {n: muon_reference(n, W, options) for n, W in seen(logical(model.stacks())).items()}
    optimizers = truemuon.build(model.stacks(), options)
    for step in range(20):
        for n, g in seen(gradients(model, seed=step)).items():
            expected[n].step(g)
        for optimizer in optimizers:
            optimizer.step()
    for n, W in seen(logical(model.stacks())).items():
        assert_near(W, expected[n].W, 1e-10, n)


@pytest.mark.parametrize("switches", SWITCHES)
def test_no_switch_is_the_default(switches):
    """On a mixture of several heads, where each of them matters."""
    plain, switched = build("nanokimi"), build("nanokimi")
    for model, settings in ((plain, {}), (switched, SWITCHES[switches])):
        gradients(model, seed=0)
        for optimizer in truemuon.build(model.stacks(), TrueMuonOptions(**settings)):
            optimizer.step()
    assert any(
        not one.equal(other)
        for one, other in zip(plain.parameters(), switched.parameters(), strict=True)
    )


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


@EACH
def test_every_parameter_has_exactly_one_optimizer(name, module, options):
    model = build(name)
    optimizers = module.build(model.stacks(), options)
    owned = [
        parameter.numel()
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert sum(owned) == model.n_params()
    before = {n: W.clone() for n, W in logical(model.stacks()).items()}
    gradients(model, seed=0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    for n, W in logical(model.stacks()).items():
        assert W.ne(before[n]).any(), f"{n} has not moved"
    assert all(parameter.grad is None for parameter in model.parameters())


@EACH
@pytest.mark.parametrize("role", ["hidden", "vector"])
def test_stacks_of_one_role_alone_have_their_optimizers(name, module, options, role):
    stacks = [stack for stack in build(name).stacks() if stack.role == role]
    assert len(module.build(stacks, options)) == 1
    assert module.build([], options) == []
    assert module.flops_per_step(stacks, options) > module.flops_per_step([], options) == 0


@EACH
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


# --- The references -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        SGDOptions(),
        SGDOptions(lr=0.02, momentum=0.8, nesterov=True, weight_decay=0.1),
        SGDOptions(lr=0.02, momentum=0.0),
    ],
    ids=["default", "nesterov", "plain"],
)
def test_sgd_is_pytorchs(name, options):
    model, twin = build(name), build(name)
    (optimizer,) = sgd.build(model.stacks(), options)
    plain = torch.optim.SGD(twin.parameters(), **asdict(options), foreach=False, fused=False)
    for step in range(20):
        gradients(model, seed=step)
        gradients(twin, seed=step)
        optimizer.step()
        plain.step()
    for parameter, expected in zip(model.parameters(), twin.parameters(), strict=True):
        assert_near(parameter, expected, 1e-5)  # sums in another order


def test_nesterov_without_a_momentum_is_refused():
    with pytest.raises(ValueError, match="nesterov needs a momentum: give one above 0"):
        SGDOptions(momentum=0.0, nesterov=True)


def torchs_muon(W: Tensor, options: MuonOptions) -> torch.optim.Muon:
    """PyTorch's Muon on one matrix that knows of no model."""
    return torch.optim.Muon(
        [W],
        lr=options.lr,
        momentum=options.momentum,
        nesterov=options.nesterov,
        weight_decay=options.weight_decay,
        ns_steps=options.ns_steps,
        adjust_lr_fn=options.adjust_lr,
    )


@pytest.mark.parametrize(
    "options",
    [
        MuonOptions(),
        MuonOptions(adjust_lr="match_rms_adamw"),
        MuonOptions(0.02, 0.8, False, 0.1, 3, "original", 0.003, 0.2),
    ],
    ids=["muon", "muon-rms", "changed"],
)
def test_muon_is_pytorchs_on_the_hidden_matrices_and_adamw_elsewhere(name, options):
    model = build(name)
    matrices, others = {}, {}
    for stack in model.stacks():
        for n, W in logical([stack]).items():
            if stack.role == "hidden":
                W = W.clone(memory_format=torch.contiguous_format)
                matrices[n] = (W, torchs_muon(W, options))
            else:
                others[n] = AdamW(W, options.adamw_lr, weight_decay=options.adamw_weight_decay)
    optimizers = muon.build(model.stacks(), options)
    for step in range(20):
        for n, g in gradients(model, seed=step).items():
            if n in others:
                others[n].step(g)
            else:
                W, alone = matrices[n]
                W.grad = g.contiguous()
                alone.step()
        for optimizer in optimizers:
            optimizer.step()
    for n, W in logical(model.stacks()).items():
        if n in others:
            assert_near(W, others[n].W, 1e-4, n)
        else:
            assert torch.equal(W, matrices[n][0]), n


@pytest.mark.parametrize(
    ("scale", "adjust_lr"), [("sqrt_ratio", "original"), ("match_rms", "match_rms_adamw")]
)
def test_truemuon_with_all_switches_but_the_heads_is_muon(name, scale, adjust_lr):
    """In batches and float32 what PyTorch does matrix by matrix in bfloat16, to its rounding."""
    switches = {"momentum_form": "nesterov", "update_scale": scale, "router": "adamw"}
    batched, theirs = build(name), build(name)
    optimizers = [
        *truemuon.build(batched.stacks(), TrueMuonOptions(momentum=0.95, **switches)),
        *muon.build(theirs.stacks(), MuonOptions(adjust_lr=adjust_lr)),
    ]
    before = logical(build(name).stacks())
    for step in range(20):
        gradients(batched, seed=step)
        gradients(theirs, seed=step)
        for optimizer in optimizers:
            optimizer.step()
    expected = logical(theirs.stacks())
    for n, W in logical(batched.stacks()).items():
        assert_near(W - before[n], expected[n] - before[n], 0.02, n)


def test_muon_leaves_the_router_to_adamw():
    assert any(stack.role == "router" for stack in build("nanokimi").stacks())
    (hidden, _) = muon.build(build("nanokimi").stacks(), MuonOptions())
    shapes = {tuple(leaf.shape) for group in hidden.param_groups for leaf in group["params"]}
    assert shapes == {(2, 8), (8, 8), (16, 8)}  # heads; output and down; up: no (9, 8) router


@pytest.mark.parametrize("shape", [(16, 64), (64, 64), (64, 256)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 0.03), (torch.bfloat16, 0.06)])
def test_the_batched_orthogonalisation_is_pytorchs(shape, dtype, tolerance):
    """Within the rounding of PyTorch's bfloat16, and of ours where we compute in it too.

    bfloat16 has 8 bits: a product of an iteration is right to 2^-8 = 0.004, and what one iteration
    has rounded the next ones amplify, small singular values by up to 3.4445 each. Of 300 matrices
    the worst is 0.023 from float32, 0.045 from our bfloat16, which rounds a I + B as well.
    """
    X = random_matrices(5, *shape).float()
    ours = orthogonalise(X.to(dtype), 5).float()
    for one, batched in zip(X, ours, strict=True):
        theirs = zeropower(one, NS_COEFFICIENTS, 5, 1e-7).float()
        assert_near(batched, theirs, tolerance)


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


def test_flops_of_truemuons_switches():
    options = NanoKimiOptions(n_embd=4, n_layer=1, n_head=2, n_experts=3)
    stacks = nanokimi.build(options, 3, 5).stacks()

    def more(**switches) -> int:
        plain, switched = TrueMuonOptions(), TrueMuonOptions(**switches)
        return truemuon.flops_per_step(stacks, switched) - truemuon.flops_per_step(stacks, plain)

    router = 3 * 4
    numbers = 4 * 4 * 4 + 3 * (8 * 4 + 4 * 4) + router  # 220: attention, experts, router
    assert more(momentum_form="nesterov") == numbers
    assert more(update_scale="match_rms") == more(update_scale="sqrt_ratio") == numbers
    assert more(router="adamw") == (14 - 12) * router - 5 * (4 * 3 * 3 * 4 + 2 * 3**3)
    apart, together = 6 * (4 * 2 * 2 * 4 + 2 * 2**3), 3 * (4 * 4 * 4 * 4 + 2 * 4**3)
    assert more(heads="together") == 5 * (together - apart)


def test_flops_of_an_adamw_step():
    model = nanogpt.build(NanoGPTOptions(), 65, 32)
    assert adamw.flops_per_step(model.stacks(), AdamWOptions()) == 14 * 209_729


def test_truemuon_is_a_third_of_a_nano_step():
    model = nanogpt.build(NanoGPTOptions(), 65, 32)
    step = 16 * 32 * model.flops_per_token()  # 512 tokens
    assert 0.3 < truemuon.flops_per_step(model.stacks(), TrueMuonOptions()) / step < 0.4


def test_flops_of_an_sgd_step():
    stacks = nanogpt.build(NanoGPTOptions(), 65, 32).stacks()
    assert sgd.flops_per_step(stacks, SGDOptions()) == 4 * 209_729
    assert sgd.flops_per_step(stacks, SGDOptions(momentum=0.0)) == 2 * 209_729
    everything = SGDOptions(nesterov=True, weight_decay=0.1)
    assert sgd.flops_per_step(stacks, everything) == 8 * 209_729


def test_flops_of_a_muon_step_differ_from_truemuons_by_form_and_router():
    """13 a number of a matrix where TrueMuon takes 12; the router is AdamW's: 14 and no product."""
    options = NanoKimiOptions(n_embd=2, n_layer=1, n_head=1, n_experts=3)
    stacks = nanokimi.build(options, 3, 5).stacks()
    hidden, router = 4 * 2 * 2 + 3 * (4 * 2 + 2 * 2), 3 * 2
    more = muon.flops_per_step(stacks, MuonOptions()) - truemuon.flops_per_step(
        stacks, TrueMuonOptions()
    )
    assert more == hidden + (14 - 12) * router - 5 * (4 * 2 * 2 * 3 + 2 * 2**3)
    plain = MuonOptions(nesterov=False)
    assert muon.flops_per_step(stacks, MuonOptions()) - muon.flops_per_step(stacks, plain) == (
        3 * hidden
    )


@EACH
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
        (1 if has_one_momentum(module, n, value) else 2) * value.numel()
        for n, value in logical(model.stacks()).items()
    )
    assert held == expected


def has_one_momentum(module, name: str, value: Tensor) -> bool:
    matrix = is_block_matrix(name, value)
    return {
        adamw: False,
        sgd: True,
        truemuon: matrix,
        muon: matrix and not name.endswith("gate.weight"),
    }[module]
