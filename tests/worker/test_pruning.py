"""What is left after experts are dropped: their fellows, and what optimizers knew of these."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.logical import Stack, assert_covers, cut, initialise
from bench.border.options import (
    AdamWOptions,
    MuonClipOptions,
    MuonOptions,
    NanoKimiOptions,
    TrueMuonOptions,
)
from bench.models.nanokimi import NanoKimi, build
from bench.optim import adamw
from bench.optim.leaves import Leaves, OnLeaves
from bench.optim.orthogonal import by_role, of_the_rest
from bench.worker.pruning import Pruning, carry_over
from bench.worker.registry import OPTIMIZERS
from tests.builders.reference import logical, stream

OPTIONS = {
    "adamw": AdamWOptions(),
    "truemuon": TrueMuonOptions(),
    "muon": MuonOptions(),
    "muonclip": MuonClipOptions(),
    "rows": MuonOptions(second_moment="rows"),
    "elements": MuonOptions(second_moment="elements"),
    "leaves": MuonOptions(),
}
PER_OPTIMIZER = pytest.mark.parametrize("optimizer", ["adamw", "truemuon", "muon", "muonclip"])
PER_GATING = pytest.mark.parametrize("gating", ["all", "topk"])


class Training:
    """A model that has trained for a few steps, and may go on."""

    def __init__(self, optimizer: str, gating: str, **options: Any) -> None:
        sizes: dict[str, Any] = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_experts": 5}
        asked = NanoKimiOptions(**sizes, gating=gating, prune_every=3, prune_to=2, **options)
        model = build(asked, vocab_size=11, block_size=7)
        assert isinstance(model, NanoKimi)
        self.model = model
        initialise(model.stacks(), stream(1))
        base = "muon" if optimizer in ("rows", "elements") else optimizer
        make = pytorchs_muon if optimizer == "leaves" else OPTIMIZERS[base].build
        self.pruning = Pruning(model, 3, lambda model: make(model.stacks(), OPTIONS[optimizer]))
        self.optimizers = self.pruning.build(model)
        self.batch = torch.randint(11, (4, 7), generator=torch.Generator().manual_seed(0))
        self.run(3)

    def run(self, steps: int) -> float:
        for _ in range(steps):
            logits = self.model(self.batch[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1), self.batch[:, 1:].flatten())
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad()
        return loss.item()

    def prune(self) -> None:
        self.optimizers = self.pruning.prune(self.optimizers)

    def weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in logical(self.model.stacks()).items()}

    def states(self) -> dict[tuple[str, str], Tensor]:
        """(logical tensor, what is known of it) -> that, for what has the tensor's shape."""
        return {
            (name, key): value.clone()
            for key in ("exp_avg", "exp_avg_sq", "momentum")
            for stack in self.model.stacks()
            if key in (state := self.state(stack.parameter))
            for name, value in logical([stack], of=lambda _, s=state, k=key: s[k]).items()
        }

    def state(self, parameter: nn.Parameter) -> dict[str, Any]:
        (found,) = (o.state[parameter] for o in self.optimizers if parameter in o.state)
        return found

    def n_state(self) -> int:
        return sum(
            value.numel()
            for optimizer in self.optimizers
            for state in optimizer.state.values()
            for value in state.values()
            if value.dim()
        )


def pytorchs_muon(stacks: Sequence[Stack], options: MuonOptions) -> list[torch.optim.Optimizer]:
    """As `{class: torch.optim.Muon, leaves: matrices}` makes it of the hidden matrices."""
    hidden, rest = by_role(stacks, ["hidden"])
    leaves = Leaves(hidden)
    on_leaves = OnLeaves(leaves, torch.optim.Muon(leaves.tensors, lr=options.lr))
    return [on_leaves, *adamw.build(rest, of_the_rest(options))]


def rows_left(before: Tensor, mass: Tensor) -> Tensor:
    return before[torch.arange(len(before)) != mass.argmin()]


@PER_OPTIMIZER
@PER_GATING
@pytest.mark.parametrize("options", [{}, {"n_shared_experts": 1}], ids=["", "shared"])
def test_what_is_left_is_unchanged_in_weights_and_in_what_optimizers_know(
    gating, optimizer, options
):
    training = Training(optimizer, gating, **options)
    masses = [mixture.router.mass.clone() for mixture in training.model.mixtures]
    weights, states = training.weights(), training.states()
    training.prune()
    after, known = training.weights(), training.states()

    dropped = {
        f"blocks.{block}.feed_forward.experts.{int(mass.argmin())}."
        for block, mass in enumerate(masses)
    }
    assert len(dropped) == 2
    left = {name for name in weights if not any(name.startswith(each) for each in dropped)}
    assert set(after) == left
    assert {name for name, _ in known} == left
    assert len(known) == len([key for key in states if key[0] in left])
    for before, now in ((weights, after), (states, known)):
        for key, value in now.items():
            name = key if isinstance(key, str) else key[0]
            expected = before[key]
            if ".gate." in name:
                expected = rows_left(expected, masses[int(name.split(".")[1])])
            assert torch.equal(value, expected), key


@PER_OPTIMIZER
@PER_GATING
def test_counts_shrink_by_an_expert_and_its_row_of_the_gate(gating, optimizer):
    training = Training(optimizer, gating)
    expert = 2 * (2 * 8 * 8 + 2 * 8 + 8 * 8 + 8)  # of both blocks
    row_matrix, row_bias = 2 * 8, 2 * 1
    n_params, n_active, n_state = (
        training.model.n_params(),
        training.model.n_params_active(),
        training.n_state(),
    )
    training.prune()
    lost = expert + row_matrix + row_bias
    assert n_params - training.model.n_params() == lost
    active = n_active - training.model.n_params_active()
    assert active == (lost if gating == "all" else row_matrix + row_bias)
    # AdamW keeps two numbers each; the others one of a matrix, and leave vectors to AdamW (and
    # but for TrueMuon the gate)
    matrices = 2 * 3 * 8 * 8 + (row_matrix if optimizer == "truemuon" else 0)
    expected = 2 * lost if optimizer == "adamw" else matrices + 2 * (lost - matrices)
    assert n_state - training.n_state() == expected
    assert_covers(training.model.stacks(), training.model)


@pytest.mark.parametrize("kind", ["rows", "elements"])
def test_second_moments_of_the_experts_that_are_left_go_on(kind):
    training = Training(kind, "all")
    up = next(stack for stack in training.model.stacks() if stack.names[0].endswith("0.up.weight"))
    before = training.state(up.parameter)["second_moment"].clone()
    dropped = int(training.model.mixtures[0].router.mass.argmin())
    training.prune()
    again = next(stack for stack in training.model.stacks() if stack.names[0] in up.names)
    left = [index for index in range(5) if index != dropped]
    after = training.state(again.parameter)["second_moment"]
    assert torch.equal(after.reshape(4, -1), before.reshape(5, -1)[left])
    place = training.optimizers[0].moment.untyped_storage().data_ptr()
    assert after.untyped_storage().data_ptr() == place
    first = training.run(1)
    assert training.run(3) < first


@PER_OPTIMIZER
@PER_GATING
def test_training_goes_on_until_as_many_are_left_as_asked(gating, optimizer):
    training = Training(optimizer, gating)
    first = training.run(1)
    left = []
    for _ in range(5):
        training.prune()
        left.append(len(training.model.mixtures[0].experts.numbers))
        last = training.run(3)
    assert left == [4, 3, 2, 2, 2]
    assert last < first
    kept = training.optimizers
    training.prune()
    assert training.optimizers is kept  # nothing was rebuilt


@PER_OPTIMIZER
def test_an_expert_that_nobody_visits_can_go_without_a_trace(optimizer):
    """With the gate closed to it, the model computes the same before and after."""
    training = Training(optimizer, "topk")
    with torch.no_grad():
        for mixture in training.model.mixtures:
            mixture.router.gate_bias[3] = -1e4
            mixture.router.mass[3] = 0
        before = training.model(training.batch)
        training.prune()
        torch.testing.assert_close(training.model(training.batch), before, rtol=1e-6, atol=1e-6)


@PER_OPTIMIZER
def test_steps_are_counted_on(optimizer):
    """AdamW's correction of its young averages must not begin anew."""
    training = Training(optimizer, "all")
    training.prune()
    adamw = training.optimizers[-1]
    assert {state["step"].item() for state in adamw.state.values()} == {3.0}
    counts = {state["step"].untyped_storage().data_ptr() for state in adamw.state.values()}
    assert counts == {adamw.counts.untyped_storage().data_ptr()}


def test_the_window_begins_anew_and_biases_keep_their_experts():
    training = Training("adamw", "topk", balance="bias", bias_rate=0.5)
    for mixture in training.model.mixtures:
        mixture.router.preference.copy_(torch.arange(5.0))
        mixture.router.mass.copy_(torch.tensor([3.0, 2.0, 0.5, 4.0, 5.0]))
    training.prune()
    for mixture in training.model.mixtures:
        assert mixture.experts.numbers == (0, 1, 3, 4)
        assert mixture.router.preference.tolist() == [0, 1, 3, 4]
        assert mixture.router.mass.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("gating", ["all", "topk"])
def test_the_mass_is_the_sum_of_all_gates_of_training(gating):
    training = Training("adamw", gating)
    router = training.model.mixtures[0].router
    router.mass.zero_()
    gates: list[Tensor] = []
    hook = router.register_forward_hook(lambda _, __, routing: gates.append(routing.weights()))
    training.run(2)
    torch.testing.assert_close(router.mass, torch.cat(gates).sum(0))
    assert router.mass.sum().item() == pytest.approx(2 * 4 * 6)  # each token's gate sums to 1
    before = router.mass.clone()
    with torch.no_grad():
        training.model(training.batch)
    assert torch.equal(router.mass, before)
    hook.remove()


# --- Any other optimizer ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
        lambda parameters: torch.optim.Adam(parameters, lr=0.1),
    ],
    ids=["sgd", "adam"],
)
def test_state_that_an_optimizer_makes_on_use_and_settings_that_changed_come_along(
    make: Callable[[Any], torch.optim.Optimizer],
):
    module = nn.Linear(2, 6)
    before = make(module.parameters())
    module(torch.ones(1, 2)).square().sum().backward()
    before.step()
    before.param_groups[0]["lr"] = 0.05  # by a schedule
    old = dict(before.state[module.weight])
    bias = dict(before.state[module.bias])
    cuts = [cut(module, "weight", torch.tensor([0, 2]), 3)]  # three parts of two rows
    after = make([module.weight, module.bias])
    carry_over(before, after, cuts)

    assert after.param_groups[0]["lr"] == 0.05
    state = after.state[module.weight]
    assert state.keys() == old.keys()
    for key, value in old.items():
        whole = value.shape == (6, 2)
        expected = value[[0, 1, 4, 5]] if whole else value
        assert torch.equal(state[key], expected)
        assert torch.equal(after.state[module.bias][key], bias[key])


@PER_GATING
def test_optimizers_of_single_matrices_go_on_with_those_that_are_left(gating):
    training = Training("leaves", gating)
    masses = [mixture.router.mass.clone() for mixture in training.model.mixtures]
    before = momenta(training)
    training.prune()
    after = momenta(training)

    dropped = {
        f"blocks.{block}.feed_forward.experts.{int(mass.argmin())}."
        for block, mass in enumerate(masses)
    }
    assert set(after) == {name for name in before if not name.startswith(tuple(dropped))}
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert training.run(3) < float("inf")


def momenta(training: Training) -> dict[str, Tensor]:
    """Of the logical matrices, by their names."""
    on_leaves = training.optimizers[0]
    assert isinstance(on_leaves, OnLeaves)
    pairs = zip(on_leaves.leaves.stacks, on_leaves.leaves.by_stack, strict=True)
    return {
        name: on_leaves.state[leaf]["momentum_buffer"].clone()
        for stack, leaves in pairs
        for name, leaf in zip(stack.names, leaves, strict=True)
    }


def test_an_optimizer_of_other_tensors_is_refused():
    """Its state would be lost without a word."""
    module = nn.Linear(2, 6)
    before = torch.optim.SGD([module.weight.detach().clone()], lr=0.1)
    cuts = [cut(module, "weight", torch.tensor([0, 2]), 3)]
    after = torch.optim.SGD([module.weight.detach().clone()], lr=0.1)
    with pytest.raises(ValueError, match=r"SGD holds tensors .* Leave out prune_every"):
        carry_over(before, after, cuts)
