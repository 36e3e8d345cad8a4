"""The batched optimizers against ones that know a single tensor."""

import copy
import re
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.border.logical import initialise
from bench.border.options import (
    OWN,
    AdamWOptions,
    MuonOptions,
    NanoGPTOptions,
    NanoKimiOptions,
    OwnOptimizer,
    SGDOptions,
    TrueMuonOptions,
)
from bench.border.spec import Optimizer
from bench.models import nanogpt, nanokimi
from bench.models.decoder import Decoder
from bench.optim import adamw, moments, muon, sgd, truemuon
from bench.worker.registry import build_optimizers
from tests.builders.reference import (
    AdamW,
    Muon,
    assert_near,
    is_block_matrix,
    logical,
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
    "polar-express": {"coefficients": "polar_express"},
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


MUONS = pytest.mark.parametrize(
    "changes",
    [
        {},
        {"adjust_lr": "match_rms_adamw"},
        {"nesterov": False},
        {"momentum": 0.5},
        {"weight_decay": 0.2},
        {"ns_steps": 3},
        {
            **{"lr": 0.02, "momentum": 0.8, "nesterov": False, "weight_decay": 0.1, "ns_steps": 3},
            **{"adamw_lr": 0.003, "adamw_weight_decay": 0.2},
        },
    ],
    ids=["muon", "muon-rms", "plain", "momentum", "decay", "steps", "changed"],
)


def adamw_beside(W: Tensor, options: MuonOptions) -> AdamW:
    return AdamW(W, lr=options.adamw_lr, weight_decay=options.adamw_weight_decay)


def plain_muon(W: Tensor, options: MuonOptions) -> Muon:
    return Muon(
        W,
        options.lr,
        options.momentum,
        options.weight_decay,
        options.ns_steps,
        "nesterov" if options.nesterov else "momentum",
        {"original": "sqrt_ratio", "match_rms_adamw": "match_rms"}[options.adjust_lr],
        options.coefficients,
        options.second_moment,
        options.second_moment_decay,
        options.cautious_decay,
    )


def hidden(model: Decoder) -> dict[str, Tensor]:
    return logical(stack for stack in model.stacks() if stack.role == "hidden")


@MUONS
def test_muon_is_pytorchs_on_the_hidden_matrices_to_its_rounding(name, changes):
    """PyTorch's on matrices that know of no model, and both beside a plain version in float64.

    In bfloat16 a product is right to 2^-8 = 0.004, and the iterations after it amplify what was
    rounded: after 20 steps both are 0.003 to 0.015 from the exact path, single matrices up to 0.03.
    A batch sums in another order, which moves few last bits (0.0024 at most here). Of a square
    matrix that is stored transposed ours takes the product of columns where PyTorch's takes that
    of rows, so that they round apart (0.027 at most); ours may be no farther from the exact path.
    """
    options = MuonOptions(**changes)
    model = build(name)
    before = {n: W.clone() for n, W in hidden(model).items()}
    matrices = {n: W.clone() for n, W in before.items()}
    theirs = {n: torchs_muon(W, options) for n, W in matrices.items()}
    exact = {n: plain_muon(W.double(), options) for n, W in before.items()}
    optimizers = muon.build(model.stacks(), options)
    for step in range(20):
        for n, g in gradients(model, seed=step).items():
            if n in matrices:
                matrices[n].grad = g.contiguous()
                theirs[n].step()
                exact[n].step(g.double())
        for optimizer in optimizers:
            optimizer.step()
    found = hidden(model)
    transposed = {n for stack in model.stacks() if stack.transposed for n in stack.names}
    for n, W in found.items():
        tolerance = 0.04 if n in transposed else 0.005
        assert_near(W - before[n], matrices[n] - before[n], tolerance, n)
    ours, pytorchs = (
        sum((each[n] - exact[n].W).norm().item() ** 2 for n in exact) ** 0.5
        for each in (found, matrices)
    )
    assert ours < 1.1 * pytorchs


OF_OTHERS = pytest.mark.parametrize(
    "changes",
    [
        {"coefficients": "polar_express"},
        {"second_moment": "rows"},
        {"second_moment": "elements"},
        {"second_moment": "rows", "second_moment_decay": 0.5, "adjust_lr": "match_rms_adamw"},
        {"cautious_decay": True, "weight_decay": 0.2},
        {
            **{"coefficients": "polar_express", "second_moment": "elements"},
            **{
                "second_moment_decay": 0.8,
                "cautious_decay": True,
                "weight_decay": 0.2,
                "lr": 0.02,
                "nesterov": False,
            },
        },
    ],
    ids=["polar-express", "rows", "elements", "rows-changed", "cautious", "all"],
)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-5)], ids=["f32", "f64"]
)
@MUONS
def test_muon_in_float32_equals_its_plain_version(name, changes, dtype, tolerance):
    """Weights in float64 are orthogonalised in float32 too; AdamW has everything else."""
    is_its_plain_version(name, changes, dtype, tolerance)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float64, 1e-5)], ids=["f32", "f64"]
)
@OF_OTHERS
def test_what_others_have_added_to_muon_equals_its_plain_version(name, changes, dtype, tolerance):
    """Rows are those that a matrix means, also of one that is stored transposed.

    A number of the orthogonal update that is next to 0 is rounded most, and division by its own
    size makes it as large as any other.
    """
    is_its_plain_version(name, changes, dtype, tolerance)


def is_its_plain_version(name, changes, dtype, tolerance) -> None:
    options = MuonOptions(ns_dtype="float32", **changes)
    model = build(name, dtype)
    expected = {
        n: plain_muon(W, options) if stack.role == "hidden" else adamw_beside(W, options)
        for stack in model.stacks()
        for n, W in logical([stack]).items()
    }
    optimizers = muon.build(model.stacks(), options)
    for step in range(20):
        for n, g in gradients(model, seed=step).items():
            expected[n].step(g)
        for optimizer in optimizers:
            optimizer.step()
    for n, W in logical(model.stacks()).items():
        assert_near(W, expected[n].W, tolerance, n)


@OF_OTHERS
def test_what_others_have_added_is_no_default(name, changes):
    plain, changed = build(name), build(name)
    for model, settings in ((plain, {}), (changed, changes)):
        gradients(model, seed=0)
        for optimizer in muon.build(model.stacks(), MuonOptions(**settings)):
            optimizer.step()
    pairs = zip(plain.parameters(), changed.parameters(), strict=True)
    assert any(not one.equal(other) for one, other in pairs)


@pytest.mark.parametrize("kind", ["rows", "elements"])
def test_a_second_moment_leaves_norms_and_evens_out_its_rows_or_numbers(kind):
    """After one step from nothing each row's mean square, or each number's square, is the same."""
    torch.manual_seed(0)
    before = torch.randn(3, 6, 10, dtype=torch.float64) * torch.tensor([1.0, 5.0] * 3).view(6, 1)
    matrices, width = before.clone(), 1 if kind == "rows" else 10
    moments.divide(matrices, torch.zeros(3, 6, width, dtype=torch.float64), beta2=0.95)
    for one, other in zip(matrices, before, strict=True):
        assert one.norm().item() == pytest.approx(other.norm().item())
        assert one.sign().equal(other.sign())
        even = one.square().mean(1) if kind == "rows" else one.square()
        assert_near(even, even.mean().expand_as(even), 1e-4)


@pytest.mark.parametrize("kind", ["rows", "elements"])
def test_a_matrix_without_a_gradient_yet_stays_finite(kind):
    model = build("nanokimi")
    options = MuonOptions(second_moment=kind, weight_decay=0.0)
    before = {n: W.clone() for n, W in hidden(model).items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in muon.build(model.stacks(), options):
        optimizer.step()
    for n, W in hidden(model).items():
        assert W.equal(before[n]), n


def test_cautious_decay_leaves_weights_that_their_update_lets_grow():
    plain, cautious = build("nanogpt"), build("nanogpt")
    before = {n: W.clone() for n, W in hidden(plain).items()}
    for model, settings in ((plain, {}), (cautious, {"cautious_decay": True})):
        gradients(model, seed=0)
        for optimizer in muon.build(model.stacks(), MuonOptions(weight_decay=0.5, **settings)):
            optimizer.step()
    spared = hidden(cautious)
    for n, W in hidden(plain).items():
        undecayed = W + 0.01 * 0.5 * before[n]
        shrinks = (undecayed - before[n]).sign() * before[n].sign() < 0
        expected = torch.where(shrinks, W, undecayed)
        torch.testing.assert_close(spared[n], expected, rtol=1e-5, atol=1e-6)
        assert 0 < shrinks.sum() < shrinks.numel()


def test_a_decay_of_no_second_moment_is_refused():
    with pytest.raises(
        ValueError, match=r"decay 0\.9 belongs to second_moment rows or elements, and"
    ):
        MuonOptions(second_moment_decay=0.9)
    assert MuonOptions(second_moment_decay=0.95) == MuonOptions()


def test_pytorchs_muon_is_reached_by_its_class(name):
    """One matrix after another, each a leaf, to the last digit of PyTorch's own steps."""
    model, options = build(name), MuonOptions(weight_decay=0.1)
    matrices = {n: W.clone() for n, W in hidden(model).items()}
    theirs = {n: torchs_muon(W, options) for n, W in matrices.items()}
    asked = OwnOptimizer(
        "torch.optim:Muon",
        {"lr": options.lr, "weight_decay": 0.1},
        leaves="matrices",
        groups={"hidden": {}, "other": {"base": "adamw"}},
    )
    optimizers = build_optimizers(Optimizer("theirs", OWN, asked), model)
    for step in range(3):
        for n, g in gradients(model, seed=step).items():
            if n in matrices:
                matrices[n].grad = g.contiguous()
                theirs[n].step()
        for optimizer in optimizers:
            optimizer.step()
    for n, W in hidden(model).items():
        assert torch.equal(W, matrices[n]), n


@pytest.mark.parametrize(
    ("scale", "adjust_lr"), [("sqrt_ratio", "original"), ("match_rms", "match_rms_adamw")]
)
def test_truemuon_with_all_switches_but_the_heads_is_muon(name, scale, adjust_lr):
    """To the last digit where both are in float32, and else to bfloat16's rounding."""
    switches = {"momentum_form": "nesterov", "update_scale": scale, "router": "adamw"}
    of_truemuon = TrueMuonOptions(momentum=0.95, **switches)
    models = [build(name) for _ in range(3)]
    before = {n: W.clone() for n, W in logical(models[0].stacks()).items()}
    optimizers = truemuon.build(models[0].stacks(), of_truemuon)
    for model, ns_dtype in zip(models[1:], ("float32", "bfloat16"), strict=True):
        asked = MuonOptions(adjust_lr=adjust_lr, ns_dtype=ns_dtype)
        optimizers += muon.build(model.stacks(), asked)
        assert muon.flops_per_step(model.stacks(), asked) == truemuon.flops_per_step(
            model.stacks(), of_truemuon
        )
    for step in range(20):
        for model in models:
            gradients(model, seed=step)
        for optimizer in optimizers:
            optimizer.step()
    switched, same, rounded = (logical(model.stacks()) for model in models)
    for n, W in switched.items():
        assert torch.equal(W, same[n]), n
        assert_near(W - before[n], rounded[n] - before[n], 0.02, n)


def test_muon_leaves_the_router_to_adamw():
    model = build("nanokimi")
    assert any(stack.role == "router" for stack in model.stacks())
    (batched, _) = muon.build(model.stacks(), MuonOptions())
    owned = {id(each) for group in batched.param_groups for each in group["params"]}
    shapes = {stack.shape for stack in model.stacks() if id(stack.parameter) in owned}
    assert shapes == {(2, 8), (8, 8), (16, 8)}  # heads; output and down; up: no (9, 8) router


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
