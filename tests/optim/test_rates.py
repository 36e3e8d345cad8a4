"""Learning rates as tensors on the device: the same steps, and nothing waits for the device."""

from collections.abc import Iterator
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.border.logical import AttentionLogits, Stack
from bench.border.options import (
    AdamWOptions,
    MuonClipOptions,
    MuonOptions,
    SGDOptions,
    TrueMuonOptions,
)
from bench.optim import adamw, muon, muonclip, sgd, truemuon
from bench.optim.adamw import AdamW
from bench.optim.sgd import FusedSGD
from bench.worker.schedule import rates_of
from tests.builders.layouts import contiguous, transposed

SHARES = [0.1, 0.4, 0.7, 1.0, 1.0, 0.9, 0.6, 0.3, 0.2, 0.05]  # of the base rate, step by step
EACH = pytest.mark.parametrize(
    ("module", "options"),
    [
        (adamw, AdamWOptions()),
        (sgd, SGDOptions(weight_decay=0.1)),
        (sgd, SGDOptions(nesterov=True)),
        (sgd, SGDOptions(momentum=0.0)),
        (truemuon, TrueMuonOptions()),
        (truemuon, TrueMuonOptions(momentum_form="nesterov", update_scale="match_rms")),
        (muon, MuonOptions()),
        (muon, MuonOptions(ns_dtype="float32", weight_decay=0.0)),
        (muon, MuonOptions(ns_dtype="float32", second_moment="rows", cautious_decay=True)),
        (muon, MuonOptions(ns_dtype="float32", second_moment="elements")),
        (muonclip, MuonClipOptions(tau=1.0)),
    ],
    ids=[
        *("adamw", "sgd", "sgd-nesterov", "sgd-plain", "truemuon", "truemuon-switched"),
        *("muon", "muon-float32", "muon-rows", "muon-elements", "muonclip"),
    ],
)


class ReadOnHostError(Exception):
    pass


class NothingRead(TorchDispatchMode):
    """Stops at whatever would wait for the device to read one of its numbers."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.item):
            raise ReadOnHostError(str(func))
        return func(*args, **(kwargs or {}))


class Toy:
    """Matrices and a vector, which lie one after another or transposed, of one number format."""

    def __init__(self, module, options, layout, dtype) -> None:
        torch.manual_seed(3)
        shapes = {"qkv": (6, 4), "up": (8, 4), "bias": (5,)}
        self.stacks = []
        for name, shape in shapes.items():
            # `contiguous` parameters go to the fused kernels, the others to the loops.
            parameter = nn.Parameter(layout(shape, dtype)[0])
            if name == "qkv":
                names = tuple(f"qkv.{index}" for index in range(6))
                heads = {"heads": 2, "logits": AttentionLogits()}
                self.stacks.append(Stack(names, "hidden", parameter, (1, 4), **heads))
            else:
                role = "vector" if name == "bias" else "hidden"
                self.stacks.append(Stack((name,), role, parameter, shape))
        self.optimizers = module.build(self.stacks, options)
        for optimizer in self.optimizers:
            if isinstance(optimizer, AdamW):
                optimizer.param_groups[0]["capturable"] = True

    def step(self, number: int) -> None:
        torch.manual_seed(number)
        for stack in self.stacks:
            stack.parameter.grad = torch.randn(stack.parameter.shape).to(stack.parameter.dtype)
            if stack.logits is not None:
                stack.logits.largest = torch.tensor([3.0, 0.5])
        for optimizer in self.optimizers:
            optimizer.step()

    def rates(self) -> Iterator[tuple[dict, str]]:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for name in rates_of(group):
                    yield group, name


def both_ways(module, options, layout, dtype) -> tuple[Toy, Toy]:
    """Ten steps with a number as rate, and with a tensor that nothing reads."""
    of_numbers, of_tensors = (Toy(module, options, layout, dtype) for _ in range(2))
    base = [group[name] for group, name in of_numbers.rates()]
    places: list[Tensor] = []
    for group, name in of_tensors.rates():
        group[name] = torch.zeros(())  # float32, where the parameters are
        places.append(group[name])
    assert len(base) == len(places) >= 1
    for number, share in enumerate(SHARES):
        for rate, place, (group, name) in zip(base, places, of_numbers.rates(), strict=True):
            group[name] = rate * share
            place.fill_(rate * share)
        of_numbers.step(number)
        with NothingRead():
            of_tensors.step(number)
    for (group, name), place in zip(of_tensors.rates(), places, strict=True):
        assert group[name] is place
    return of_numbers, of_tensors


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's loop for AdamW leaves its counts of steps on the device if that is a GPU.

    On a CPU it reads them, which nobody waits for, unless it takes that for a GPU.
    """
    module = import_module("torch.optim.adam")
    monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda: ["cpu"])


@EACH
@pytest.mark.parametrize("layout", [contiguous, transposed])
@pytest.mark.usefixtures("as_on_a_gpu")
def test_ten_steps_with_a_tensor_as_rate_are_those_with_a_number(module, options, layout):
    of_numbers, of_tensors = both_ways(module, options, layout, torch.float32)
    for one, other in zip(of_numbers.stacks, of_tensors.stacks, strict=True):
        torch.testing.assert_close(one.parameter, other.parameter, rtol=1e-6, atol=1e-6)


@EACH
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.bfloat16, 0.03)], ids=["f64", "bf16"]
)
@pytest.mark.usefixtures("as_on_a_gpu")
def test_parameters_of_other_formats_take_a_rate_in_float32(module, options, dtype, tolerance):
    of_numbers, of_tensors = both_ways(module, options, contiguous, dtype)
    for one, other in zip(of_numbers.stacks, of_tensors.stacks, strict=True):
        torch.testing.assert_close(one.parameter, other.parameter, rtol=tolerance, atol=tolerance)


def test_reading_a_rate_on_the_host_is_noticed():
    """As PyTorch's plain loop does."""
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    plain = torch.optim.SGD([parameter], lr=torch.tensor(0.1), foreach=False, fused=False)
    with NothingRead(), pytest.raises(ReadOnHostError):
        plain.step()


def test_contiguous_parameters_stay_with_the_fused_kernel():
    (optimizer,) = Toy(sgd, SGDOptions(), contiguous, torch.float32).optimizers
    assert type(optimizer) is FusedSGD
    (optimizer,) = Toy(sgd, SGDOptions(), transposed, torch.float32).optimizers[1:]
    assert type(optimizer) is not FusedSGD
