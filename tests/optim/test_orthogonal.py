"""Orthogonalisation, and what optimizers cost, worked by hand."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.optim._muon import _zeropower_via_newtonschulz as zeropower
from torch.utils.flop_counter import FlopCounterMode

from bench.border.options import (
    AdamWOptions,
    MuonOptions,
    NanoGPTOptions,
    NanoKimiOptions,
    SGDOptions,
    TrueMuonOptions,
)
from bench.models import nanogpt, nanokimi
from bench.optim import adamw, muon, sgd, truemuon
from bench.optim.orthogonal import (
    NS_COEFFICIENTS,
    orthogonalise,
    orthogonalise_flops,
    orthogonalise_in_bfloat16,
    orthogonalise_in_float32,
)
from tests.builders.reference import assert_near, newton_schulz

# --- Orthogonalisation --------------------------------------------------------------------------


WAYS = [
    partial(by, coefficients=coefficients)
    for by in (orthogonalise, orthogonalise_in_float32, orthogonalise_in_bfloat16)
    for coefficients in ("jordan", "polar_express")
]
EACH_WAY = pytest.mark.parametrize("by", WAYS)


def random_matrices(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_orthogonalising_maps_singular_values_by_the_polynomial():
    X = random_matrices(1, 6, 10)
    U, S, Vh = torch.linalg.svd(X, full_matrices=False)
    s = S / S.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    assert_near(orthogonalise(X, 5), U @ torch.diag_embed(s) @ Vh, 1e-6)  # epsilon moves by 1e-7


@EACH_WAY
def test_orthogonalising_brings_singular_values_near_one(by):
    S = torch.linalg.svdvals(by(random_matrices(3, 16, 64), 5).double())
    assert S.min() > 0.6
    assert S.max() < 1.3


@EACH_WAY
def test_zero_stays_zero(by):
    assert by(torch.zeros(2, 3, 5), 5).eq(0).all()


def test_scale_does_not_matter():
    X = random_matrices(2, 4, 6)
    assert_near(orthogonalise(1000 * X, 5), orthogonalise(X, 5), 1e-6)


def test_matrices_of_a_batch_do_not_mix():
    X = random_matrices(3, 4, 6) * torch.tensor([1e-3, 1.0, 1e3]).view(3, 1, 1)
    for alone, together in zip(X, orthogonalise(X, 5), strict=True):
        assert_near(together, newton_schulz(alone), 1e-10)


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


@pytest.mark.parametrize("shape", [(2, 8), (8, 8), (16, 64), (64, 64), (64, 256)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_in_bfloat16_it_rounds_as_pytorch_does(shape, dtype):
    """Whatever the format of what it is given; a batch's products differ in their order alone.

    An order of sums changes a last bit here and there, 2^-8 of one number, which is amplified by
    what follows: of these shapes the worst is 0.003.
    """
    X = random_matrices(20, *shape).to(dtype)
    ours = orthogonalise_in_bfloat16(X, 5)
    assert ours.equal(ours.bfloat16().to(ours.dtype))  # also where float32 holds them
    for one, batched in zip(X, ours, strict=True):
        theirs = zeropower(one, NS_COEFFICIENTS, 5, 1e-7)
        assert_near(batched.float(), theirs.float(), 0.01)


@pytest.mark.parametrize("size", [1e-12, 1e-8, 1e-5, 1e5])
def test_a_matrix_next_to_nothing_is_scaled_as_pytorchs(size):
    X = size * random_matrices(3, 8, 16).float()
    for one, batched in zip(X, orthogonalise_in_bfloat16(X, 5), strict=True):
        assert_near(batched.float(), zeropower(one, NS_COEFFICIENTS, 5, 1e-7).float(), 0.01)


def test_in_float32_it_is_the_batched_one_of_rounded_numbers():
    X = random_matrices(3, 8, 16)
    assert orthogonalise_in_float32(X, 5).equal(orthogonalise(X.float(), 5))


# --- What they cost -----------------------------------------------------------------------------


@EACH_WAY
@pytest.mark.parametrize("shape", [(4, 4), (3, 7)])
def test_orthogonalising_takes_the_products_that_are_counted(shape, by):
    with FlopCounterMode(display=False) as counter:
        by(torch.ones(1, *shape), 5)
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
    """14 a number of a matrix where TrueMuon takes 12; the router is AdamW's: 14 and no product."""
    options = NanoKimiOptions(n_embd=2, n_layer=1, n_head=1, n_experts=3)
    stacks = nanokimi.build(options, 3, 5).stacks()
    hidden, router = 4 * 2 * 2 + 3 * (4 * 2 + 2 * 2), 3 * 2
    more = muon.flops_per_step(stacks, MuonOptions()) - truemuon.flops_per_step(
        stacks, TrueMuonOptions()
    )
    assert more == (14 - 12) * (hidden + router) - 5 * (4 * 2 * 2 * 3 + 2 * 2**3)
    plain = MuonOptions(nesterov=False)
    assert muon.flops_per_step(stacks, MuonOptions()) - muon.flops_per_step(stacks, plain) == (
        3 * hidden
    )


def test_flops_of_what_others_have_added_to_muon():
    """Rows: 8 a number and 5 a row; elements: 12 a number; cautious decay: 3 a number."""
    options = NanoKimiOptions(n_embd=2, n_layer=1, n_head=1, n_experts=3)
    stacks = nanokimi.build(options, 3, 5).stacks()

    def more(**changes) -> int:
        plain = muon.flops_per_step(stacks, MuonOptions())
        return muon.flops_per_step(stacks, MuonOptions(**changes)) - plain

    hidden = 4 * 2 * 2 + 3 * (4 * 2 + 2 * 2)
    rows = 4 * 2 + 3 * (4 + 2)
    assert more(second_moment="rows") == 8 * hidden + 5 * rows
    assert more(second_moment="elements") == 12 * hidden
    assert more(cautious_decay=True) == 3 * hidden
    assert more(coefficients="polar_express") == 0
