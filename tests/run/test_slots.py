"""How many cells at once a machine allows, and on which of its CPUs and GPUs."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.border.program import Program
from bench.errors import RequestError
from bench.matrix.expansion import load_matrix
from bench.measure import cgroup
from bench.measure.cgroup import Cgroup
from bench.measure.gpus import Gpu, Gpus, WholeGpu, kind_of
from bench.measure.machine import Machine, Room, this_room
from bench.records.cells import Cell
from bench.run.lanes import choose_jobs, gpus_each, make_slots
from bench.run.standing import skip_reason

NO_GPU = Gpus((), None, "NVML finds no NVIDIA driver")
TWO_GPUS = Gpus((Gpu("GPU-a", "a GPU"), Gpu("GPU-b", "a GPU")), "580.1", None)
ROOM = Room(cpus=(2, 3, 5, 7), cores=4, memory_gib=16.0, free_gib=12.0)


def machine(gpus: Gpus = NO_GPU, **room: float) -> Machine:
    return Machine("host-1", None, None, replace(ROOM, **room), gpus, None, None)


@pytest.fixture
def matrix(tiny_matrix: Path) -> Path:
    return tiny_matrix


def cells(matrix: Path, limits: str = "", device: str = "cpu") -> list[Cell]:
    """The four cells of a tiny matrix."""
    text = matrix.read_text().replace("device: [cpu]", f"device: [{device}]")
    matrix.write_text(text + f"limits: {{{limits}}}\n")
    return list(load_matrix(matrix).cells)


def test_each_slot_has_cpus_and_a_gpu_of_its_own(matrix: Path) -> None:
    slots = make_slots(2, cells(matrix, "cpus: 2", "cuda"), machine(TWO_GPUS))
    assert [slot.cpus for slot in slots] == [(2, 3), (5, 7)]
    assert [[gpu.uuid for gpu in slot.gpus] for slot in slots] == [["GPU-a"], ["GPU-b"]]


@pytest.mark.parametrize(
    ("limits", "device", "words"),
    [
        ("cpus: 2", "cpu", "needs 6 CPUs; this process may use 4. Lower --jobs"),
        ("memory_gib: 6", "cpu", "may take 18 GiB; here are 16.0. Lower --jobs or limits.mem"),
        ("memory_gib: 1", "cuda", "as many GPUs; here are 2. Lower --jobs"),
    ],
)
def test_more_than_there_is_is_an_error(matrix: Path, limits: str, device: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        make_slots(3, cells(matrix, limits, device), machine(TWO_GPUS))


def test_several_cells_do_not_share_a_quota_of_less(matrix: Path) -> None:
    asked = cells(matrix, "memory_gib: 1")
    assert len(make_slots(2, asked, machine(quota=2.5))) == 2
    with pytest.raises(RequestError, match=r"needs 3 CPUs; this process may use 2\.5\. Lower"):
        make_slots(3, asked, machine(quota=2.5))
    assert len(make_slots(1, asked, machine(quota=0.5))) == 1  # slow, but nobody else's time


def test_one_cell_runs_whatever_it_may_take(matrix: Path) -> None:
    """As it always has: its limit is what it must not exceed, not what it takes."""
    assert len(make_slots(1, cells(matrix, "memory_gib: 64"), machine())) == 1


@pytest.mark.parametrize(
    ("limits", "room", "chosen"),
    [
        ("memory_gib: 1", {"cores": 8}, (4, "4 cells open")),
        ("memory_gib: 1, cpus: 2", {}, (2, "4 cores for 2 CPUs a cell")),
        ("memory_gib: 1", {"cores": 2}, (2, "2 cores for 1 CPU a cell")),
        ("memory_gib: 4", {}, (3, "12.0 GiB free for 4 GiB a cell")),
        ("memory_gib: 64", {}, (1, "12.0 GiB free for 64 GiB a cell")),
        ("memory_gib: 1, cpus: 4", {"cores": 1}, (1, "1 core for 4 CPUs a cell")),
    ],
)
def test_auto_takes_what_every_limit_allows_and_says_which_was_the_least(
    matrix: Path, limits: str, room: dict[str, float], chosen: tuple[int, str]
) -> None:
    assert choose_jobs(cells(matrix, limits), machine(**room)) == chosen


def test_auto_takes_a_gpu_a_cell(matrix: Path) -> None:
    asked = cells(matrix, "memory_gib: 1", device="cuda")
    assert choose_jobs(asked, machine(TWO_GPUS)) == (2, "2 GPUs for one a cell")


# --- Several GPUs a cell --------------------------------------------------------------------------


def kinds(text: str) -> Gpus:
    """A GPU a letter, which is its kind; a small one is a MIG instance."""
    gpus = [
        Gpu(f"{'MIG' if kind.islower() else 'GPU'}-{number}", f"kind {kind}")
        for number, kind in enumerate(text)
    ]
    every = tuple(map(WholeGpu, gpus))
    return Gpus(tuple(gpus), "580.1", None, every=every)


def asking(matrix: Path, gpus: int, limits: str = "memory_gib: 1") -> list[Cell]:
    """Cells of a program with so many GPUs each."""
    program = Program("train.py", "0" * 64, ("python", "train.py"), gpus=gpus)
    found = cells(matrix, limits, "cuda")
    return [replace(cell, spec=replace(cell.spec, program=program)) for cell in found]


@given(st.text("ABc", max_size=12), st.integers(1, 5), st.randoms())
def test_gpus_of_cells_are_of_one_kind_and_disjoint_and_none_is_wasted(
    text: str, each: int, order: Random
) -> None:
    every = kinds(text)
    shuffled = list(every.gpus)
    order.shuffle(shuffled)
    groups = replace(every, gpus=tuple(shuffled)).groups(each)
    given_out = [gpu for group in groups for gpu in group]
    assert len(given_out) == len(set(given_out))
    assert set(given_out) <= set(every.gpus)
    for group in groups:
        assert (len(group), len({gpu.name for gpu in group})) == (each, 1)
        assert list(group) == [gpu for gpu in every.gpus if gpu in group]  # NVML's order
    usable = [gpu for gpu in every.gpus if each == 1 or gpu.uuid.startswith("GPU-")]
    left = Counter(gpu.name for gpu in usable if gpu not in given_out)
    assert all(count < each for count in left.values())


def test_one_gpu_a_cell_is_given_out_in_the_order_asked() -> None:
    every = kinds("AAA")
    asked = replace(every, gpus=every.gpus[::-1])
    assert asked.groups(1) == [(gpu,) for gpu in asked.gpus]


def test_slots_share_the_gpus_without_overlap(matrix: Path) -> None:
    asked = asking(matrix, 2)
    slots = make_slots(2, asked, machine(kinds("ABABB")))
    assert [[gpu.uuid for gpu in slot.gpus] for slot in slots] == [
        ["GPU-0", "GPU-2"],
        ["GPU-1", "GPU-3"],
    ]
    assert [kind_of(slot.gpus) for slot in slots] == ["2 x kind A", "2 x kind B"]
    with pytest.raises(RequestError, match=r"3 cuda cells at once need 2 GPUs of one kind each"):
        make_slots(3, asked, machine(kinds("ABABB")))


def test_auto_takes_as_many_gpus_as_a_cell_asks_for(matrix: Path) -> None:
    chosen = choose_jobs(asking(matrix, 2), machine(kinds("AABBB"), cores=8, free_gib=64.0))
    assert chosen == (2, "5 GPUs for 2 a cell")


def test_cells_on_the_cpu_get_no_gpu(matrix: Path) -> None:
    asked = cells(matrix, "memory_gib: 1")
    assert gpus_each(asked) == 0
    assert [slot.gpus for slot in make_slots(2, asked, machine(TWO_GPUS))] == [(), ()]


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (kinds("AA"), "asks for 4 whole GPUs of one kind, and this machine has 2. Run where"),
        (kinds("AABBB"), "and this machine has 3. Run where nvidia-smi lists 4 of one kind"),
        (kinds("ccccc"), "asks for 4 whole GPUs of one kind, and this machine has 1. Run where"),
        (NO_GPU, "no GPU here: NVML finds no NVIDIA driver. Run where nvidia-smi lists one, or"),
    ],
)
def test_too_few_are_a_reason_to_skip(matrix: Path, here: Gpus, words: str) -> None:
    why = skip_reason(asking(matrix, 4)[0], machine(here))
    assert why is not None
    assert words in why
    assert why.endswith("choose --only device=cpu")


def test_enough_are_none(matrix: Path) -> None:
    assert skip_reason(asking(matrix, 4)[0], machine(kinds("ABAAA"))) is None


def test_auto_with_nothing_to_do() -> None:
    assert choose_jobs([], machine())[0] == 1


# --- What the machine tells ----------------------------------------------------------------------


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cores of two threads each: (0, 1) and (2, 3)."""
    for cpu, siblings in enumerate(("0-1", "0-1", "2-3", "2-3")):
        topology = tmp_path / "cpus" / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{siblings}\n")
    monkeypatch.setattr("bench.measure.machine.CPUS", tmp_path / "cpus")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3})
    return tmp_path


def test_threads_of_one_core_count_once_and_come_last(kernel: Path) -> None:
    assert (this_room().cpus, this_room().cores) == ((0, 2, 1, 3), 2)


def test_a_kernel_that_tells_no_cores(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.measure.machine.CPUS", kernel / "nowhere")
    assert (this_room().cpus, this_room().cores) == ((0, 1, 2, 3), 4)


@pytest.mark.parametrize(
    ("files", "cores", "free_gib"),
    [
        ({"cpu.max": "150000 100000", "memory.max": str(2**20)}, 1, 2**-10),
        ({"cpu.max": "max 100000", "memory.max": "max"}, 2, None),
        ({"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}, 1, None),
        ({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, 2, None),
        ({"memory.max": "max", "memory.high": str(2**20)}, 2, 2**-10),
        ({"memory.max": str(2**21), "memory.high": str(2**20)}, 2, 2**-10),
        ({"memory.max": str(2**20), "memory.high": "max"}, 2, 2**-10),
        ({"memory.limit_in_bytes": "9223372036854771712"}, 2, None),
        ({"memory.limit_in_bytes": str(2**20)}, 2, 2**-10),
    ],
)
def test_a_control_group_of_ours_may_allow_less(
    kernel: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    cores: int,
    free_gib: float | None,
) -> None:
    """The group above ours has the limits."""
    mount = kernel / "cgroup"
    ours = mount / "above" / "ours"
    ours.mkdir(parents=True)
    for name, text in files.items():
        (mount / "above" / name).write_text(f"{text}\n")
    monkeypatch.setattr(cgroup, "MOUNT", mount)
    monkeypatch.setattr(Cgroup, "of", lambda pid: Cgroup(ours, ours, ours))
    found = this_room()
    assert found.cores == cores
    assert (found.free_gib if free_gib else None) == free_gib
    assert found.free_gib <= found.memory_gib
    assert (found.memory_gib if free_gib else None) == free_gib


V1 = {"memory.limit_in_bytes": 16 * 2**20, "memory.usage_in_bytes": 15 * 2**20}
V2 = {"memory.max": 16 * 2**20, "memory.current": 15 * 2**20}


@pytest.mark.parametrize(
    ("above", "ours", "free_mib"),
    [
        (V2, {}, 1),
        (V2, {"memory.max": "max", "memory.current": 2**20}, 1),
        ({"memory.max": "max"}, V2, 1),
        (V2, {"memory.max": 4 * 2**20, "memory.current": 7 * 2**19}, 0.5),
        (V2 | {"memory.stat": f"anon 1\ninactive_file {3 * 2**20}\nactive_file 9"}, {}, 4),
        (V2 | {"memory.current": 17 * 2**20}, {}, 0),
        (V1, {}, 1),
        (V1 | {"memory.stat": f"inactive_file 0\ntotal_inactive_file {2**20}"}, {}, 2),
    ],
)
def test_what_our_control_group_has_in_use_is_not_free(
    matrix: Path,
    kernel: Path,
    monkeypatch: pytest.MonkeyPatch,
    above: dict[str, int | str],
    ours: dict[str, int | str],
    free_mib: float,
) -> None:
    """A notebook beside us, in our group or in the one above; files read a while ago are free."""
    mount = kernel / "cgroup"
    folder = mount / "above" / "ours"
    folder.mkdir(parents=True)
    for place, files in ((folder.parent, above), (folder, ours)):
        for name, content in files.items():
            (place / name).write_text(f"{content}\n")
    monkeypatch.setattr(cgroup, "MOUNT", mount)
    monkeypatch.setattr(Cgroup, "of", lambda pid: Cgroup(folder, folder, folder))
    found = this_room()
    assert found.free_gib * 1024 == free_mib
    jobs, why = choose_jobs(cells(matrix, "memory_gib: 0.25"), machine(free_gib=found.free_gib))
    assert (jobs, "GiB free" in why) == (1, True)
