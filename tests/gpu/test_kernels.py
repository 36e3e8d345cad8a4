"""The list of a step's kernels: grouped, timed, and named so that a person can read it."""

import re
from types import SimpleNamespace

import pytest
import torch

from tests.gpu import kernels
from tests.gpu.kernels import Kernel, Seen, busy_us, by_name, short, table, watched

NAMES = {
    "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float, false>"
    "(int, float, float const*)": "vectorized_layer_norm_kernel<float, float, false>",
    "void at::native::elementwise_kernel<128, 2, at::native::gpu_kernel_impl_nocast<"
    "at::native::CUDAFunctor_add<float> >(at::TensorIteratorBase&, at::native::CUDAFunctor_add"
    "<float> const&)::{lambda(int)#1}>(int, at::native::gpu_kernel_impl_nocast<float>)": (
        "elementwise_kernel<128, 2, gpu_kernel_impl_nocast<CUDAFunctor_add<float>>>"
    ),
    "void at::native::reduce_kernel<128, 4, at::native::ReduceOp<float, at::native::func_wrapper_t<"
    "float, at::native::sum_functor<float, float, float>::operator()(at::TensorIterator&)::"
    "{lambda(float, float)#1}>, unsigned int, float, 4, 4> >(at::native::ReduceOp<float>)": (
        "reduce_kernel<128, 4, ReduceOp<float, func_wrapper_t<float, "
        "sum_functor<float, float, float>>, unsigned int..."
    ),
    "void cutlass::Kernel2<cutlass_80_simt_sgemm_64x64_8x5_nt_align1>"
    "(cutlass_80_simt_sgemm_64x64_8x5_nt_align1::Params)": (
        "Kernel2<cutlass_80_simt_sgemm_64x64_8x5_nt_align1>"
    ),
    "fmha_cutlassB_f32_aligned_64x64_k32_sm80(PyTorchMemEffAttention::AttentionBackwardKernel<"
    "cutlass::arch::Sm80, float>::Params)": "fmha_cutlassB_f32_aligned_64x64_k32_sm80",
    "Memcpy DtoD (Device -> Device)": "Memcpy DtoD",
    "memcpy32_post": "memcpy32_post",
}


def event(name: str, begin: float, end: float) -> SimpleNamespace:
    return SimpleNamespace(name=name, time_range=SimpleNamespace(start=begin, end=end))


def test_events_are_grouped_by_name_and_those_that_took_longest_come_first():
    events = [event("add", 0, 2), event("gemm", 2, 7), event("add", 8, 9)]
    assert by_name(events) == [Kernel("gemm", 1, 5), Kernel("add", 2, 3)]


def test_time_in_which_several_run_is_busy_once():
    assert (
        busy_us([event("c", 20, 21), event("a", 0, 10), event("b", 4, 12), event("d", 5, 6)]) == 13
    )
    assert busy_us([]) == 0


def test_the_lines_are_of_one_step():
    seen = Seen([Kernel("gemm", 40, 100.0), Kernel("add", 10, 20.0)], busy_us=110, time_us=200)
    assert list(table("an+arm", seen, 10, alone_us=150.0)) == [
        "an+arm: 5 kernels a step, busy 11 us of 20 us a step while watched, 15 us otherwise",
        "     10.0 us    4.00 x  gemm",
        "      2.0 us    1.00 x  add",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_short(name):
    assert short(name) == NAMES[name]
    assert len(short(name)) <= kernels.WIDEST


def test_what_a_device_does_is_seen_while_it_works(device):
    number = torch.zeros(4, device=device)
    number.add_(1)

    def work() -> None:
        for _ in range(3):
            number.add_(1)
        number.mul_(2)

    seen = watched(work, device)
    launches = [kernel.launches for kernel in seen.kernels]
    if device == "cuda":
        assert sorted(launches) == [1, 3]
    assert {1, 3} <= set(launches)  # on a CPU there are operators within operators as well
    assert 0 < seen.busy_us <= seen.time_us


def test_an_arm_is_told_in_whole(device, capsys, monkeypatch):
    monkeypatch.setattr(kernels, "TOGETHER", 2)
    kernels.main("nanogpt+truemuon", device=device, steps=2)
    head, *lines = capsys.readouterr().out.splitlines()
    launches = re.match(r"nanogpt\+truemuon: (\d+) kernels a step, busy \d+ us of \d+ us", head)
    assert launches
    counts = [float(re.match(r" *[\d.]+ us +([\d.]+) x  \S", line)[1]) for line in lines]
    assert sum(counts) == pytest.approx(int(launches[1]), abs=1)
    times = [float(line.split()[0]) for line in lines]
    assert times == sorted(times, reverse=True)


def test_an_arm_that_there_is_not_is_refused_by_name():
    with pytest.raises(SystemExit, match=r"no arm is named nanogpt: nanogpt\+adamw, "):
        kernels.main("nanogpt")
