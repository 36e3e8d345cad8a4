"""CUDA_VISIBLE_DEVICES of whoever called us: the GPUs that it leaves out are not there for us."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.doctor import gpu
from bench.matrix.expansion import load_matrix
from bench.measure.gpus import Gpu, Gpus, WholeGpu
from bench.measure.listed import find_gpus
from bench.measure.machine import this_machine
from bench.measure.visible import AmbiguousError, chosen
from bench.run.lanes import choose_jobs, make_slots
from bench.run.standing import skip_reason
from tests.builders.nvml_stub import TWO_GPUS, NvmlStub
from tests.builders.shared import bench

pytest_plugins = "tests.builders.nvml_stub"

UUIDS = ("GPU-aaaa", "GPU-abbb", "GPU-cccc")
A, B = "Stub GPU A (GPU-aaaa)", "Stub GPU B (GPU-bbbb)"


def of(asked: str | None, names: Sequence[str] = ("a GPU",) * 3, order: str = "") -> list[int]:
    """The numbers of the GPUs that are left."""
    variables = {"CUDA_DEVICE_ORDER": order}
    if asked is not None:
        variables["CUDA_VISIBLE_DEVICES"] = asked
    gpus = [Gpu(uuid, name) for uuid, name in zip(UUIDS, names, strict=True)]
    return [gpus.index(gpu) for gpu in chosen([WholeGpu(gpu) for gpu in gpus], variables)]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0", [0]),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("1gpu,+2", [1, 2]),  # as strtoul reads them
        ("1,7,2", [1]),  # the first that is none ends the list
        ("1,-1,2", [1]),
        ("1,,2", [1]),
        ("1,1", []),  # one that comes twice empties it
        ("GPU-cccc", [2]),
        ("GPU-c,GPU-aa", [2, 0]),
        ("GPU-c,GPU-x,GPU-aa", [2]),
        ("GPU-c,GPU-cc", []),
        ("gpu-cccc", []),
        ("cccc", []),
        ("MIG-xx", []),  # none is in MIG mode here
        ("2, MIG-xx", [2]),
    ],
)
def test_the_list_is_read_as_cuda_reads_it(asked: str | None, found: list[int]) -> None:
    assert of(asked) == found


MIXED = ("large", "small", "large")


@pytest.mark.parametrize("asked", ["0", "2", "0,1", "1,9"])
def test_a_number_among_gpus_that_differ_may_mean_another(asked: str) -> None:
    with pytest.raises(AmbiguousError, match="numbers GPUs that differ"):
        of(asked, MIXED)
    with pytest.raises(AmbiguousError, match="numbers GPUs that differ"):
        of(asked, MIXED, "FASTEST_FIRST")
    assert of(asked, MIXED, "PCI_BUS_ID") == of(asked)


def test_a_number_that_can_mean_one_set_alone_is_none_of_these() -> None:
    for asked in itertools.permutations("012"):
        assert of(",".join(asked), MIXED) == [int(number) for number in asked]
    assert (of("", MIXED), of("-1", MIXED), of("GPU-c", MIXED)) == ([], [], [2])


@pytest.mark.parametrize("asked", ["MIG-GPU-aaaa/1/0", "0,MIG-GPU-aaaa/1/0"])
def test_the_older_way_to_name_an_instance_is_refused(asked: str) -> None:
    with pytest.raises(AmbiguousError, match="in a way that this driver does not") as caught:
        of(asked)
    assert caught.value.args[1] == "name it by its UUID (nvidia-smi -L)"


B0, B2 = Gpu("MIG-b0", "1g"), Gpu("MIG-b2", "2g")
WHOLE, IN_MIG_MODE = Gpu("GPU-a", "large"), Gpu("GPU-b", "large")
MIG = (WholeGpu(WHOLE), WholeGpu(IN_MIG_MODE, (B0, B2)), WholeGpu(Gpu("GPU-c", "large"), ()))


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, [WHOLE, B0, B2]),  # in place of the GPU that they are of
        ({"CUDA_VISIBLE_DEVICES": "MIG-b2"}, [B2]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-b2,GPU-a,MIG-b0"}, [B2, WHOLE, B0]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-b2,MIG-x,MIG-b0"}, [B2]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-b2,MIG-b2"}, []),
        ({"CUDA_VISIBLE_DEVICES": "0"}, [WHOLE]),
    ],
)
def test_instances_are_named_by_their_own_uuids(
    variables: dict[str, str], found: list[Gpu]
) -> None:
    assert chosen(MIG, variables) == found


@pytest.mark.parametrize(
    ("asked", "gpu", "remedy"),
    [
        ("1", "GPU-b", "name instances: MIG-b0, MIG-b2"),
        ("GPU-b", "GPU-b", "name instances: MIG-b0, MIG-b2"),
        ("MIG-b0,GPU-b", "GPU-b", "name instances: MIG-b0, MIG-b2"),
        ("2", "GPU-c", "make instances (nvidia-smi mig -cgi PROFILE -C), or end MIG mode"),
    ],
)
def test_a_gpu_in_mig_mode_is_had_by_its_instances_alone(asked: str, gpu: str, remedy: str) -> None:
    with pytest.raises(AmbiguousError) as caught:
        chosen(MIG, {"CUDA_VISIBLE_DEVICES": asked})
    why, told = caught.value.args
    assert why == f"CUDA_VISIBLE_DEVICES={asked} names large ({gpu}), which is in MIG mode"
    assert told.startswith(remedy)


@pytest.mark.parametrize(
    ("asked", "count", "entry"),
    [("GPU-a", 2, "GPU-a"), ("GPU-", 3, "GPU-"), ("2, GPU-a", 2, "GPU-a")],
)
def test_how_several_uuids_begin_is_refused(asked: str, count: int, entry: str) -> None:
    with pytest.raises(AmbiguousError) as caught:
        of(asked)
    why, remedy = caught.value.args
    assert why == f"CUDA_VISIBLE_DEVICES={asked}: the UUIDs of {count} GPUs begin with {entry}"
    assert remedy == "write more of the UUID (nvidia-smi -L)"


# --- Where it is told ---------------------------------------------------------------------------


@pytest.fixture
def gpus(nvml: NvmlStub, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Gpus:
    """Two GPUs of different kinds, as far as the variable leaves them to us."""
    nvml.write(TWO_GPUS)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", request.param)
    return find_gpus()


def visible(asked: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("gpus", [asked], indirect=True)


@pytest.fixture
def cuda_matrix(tiny_matrix: Path) -> Path:
    tiny_matrix.write_text(tiny_matrix.read_text().replace("[cpu]", "[cuda]"))
    return tiny_matrix


@visible("GPU-b")
def test_cells_get_what_is_left(gpus: Gpus, cuda_matrix: Path) -> None:
    cells = list(load_matrix(cuda_matrix).cells)
    machine = this_machine()
    (slot,) = make_slots(1, cells, machine)
    assert slot.gpus == gpus.gpus
    assert [str(each) for each in slot.gpus] == [B]
    told = f"CUDA_VISIBLE_DEVICES=GPU-b leaves out {A}"
    assert gpus.left_out == told
    if machine.room.cores > 1 and machine.room.free_gib > 16:
        assert choose_jobs(cells, machine) == (1, f"1 GPU for one a cell ({told})")
    found = gpu.gpu(gpus)
    assert (found.state, found.text) == ("ok", f"{B}; {told}")


@visible("")
def test_where_all_are_left_out_cells_are_skipped(gpus: Gpus, cuda_matrix: Path) -> None:
    why = skip_reason(load_matrix(cuda_matrix).cells[0], this_machine())
    told = f"CUDA_VISIBLE_DEVICES= leaves out {A}, {B}"
    remedy = (
        "Change CUDA_VISIBLE_DEVICES, or give the matrix device cpu and choose --only device=cpu"
    )
    assert why == f"no GPU here: {told}. {remedy}"
    found = gpu.gpu(gpus)
    assert (found.state, found.text) == ("problem", told)
    assert found.remedy == "change CUDA_VISIBLE_DEVICES"


@visible("1")
def test_a_number_for_one_of_two_kinds_is_refused_with_the_remedy(
    gpus: Gpus, cuda_matrix: Path, tmp_path: Path
) -> None:
    assert gpus.gpus == ()
    planned = bench("plan", cuda_matrix, "--runtime", "local", "--out", tmp_path / "none")
    assert "GPUs     0; CUDA_VISIBLE_DEVICES=1 numbers GPUs that differ" in planned.stdout
    assert planned.stdout.count("no GPU: will be skipped") == 4
    assert gpu.gpu(gpus).remedy == (
        "name them by UUID (nvidia-smi -L), or set CUDA_DEVICE_ORDER=PCI_BUS_ID"
    )


@pytest.mark.slow
@visible("GPU-bbbb")
def test_plan_and_doctor_say_what_is_left_out(
    gpus: Gpus, cuda_matrix: Path, tmp_path: Path
) -> None:
    planned = bench("plan", cuda_matrix, "--runtime", "local", "--out", tmp_path / "none")
    assert f"GPUs     1; CUDA_VISIBLE_DEVICES=GPU-bbbb leaves out {A}" in planned.stdout
    assert planned.stdout.count(" open ") == 4
    assert f"{B}; {gpus.left_out}" in bench("doctor", "--runtime", "local").stdout
