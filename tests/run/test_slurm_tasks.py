"""A matrix as tasks: which cells each has, what it asks for, and how many arrays they are."""

from pathlib import Path

import pytest

from bench.errors import FolderError, RecordError, RequestError
from bench.matrix.expansion import Matrix, load_matrix
from bench.matrix.packaged import FOLDER
from bench.matrix.selection import select
from bench.run.estimate import Estimate
from bench.run.slurm.files import SlurmFiles
from bench.run.slurm.resources import LAUNCHER_MIB, Resources, resources_of
from bench.run.slurm.submission import (
    JobArray,
    PlannedTask,
    RunOptions,
    Submission,
    arrays_of,
    planned,
)
from bench.run.slurm.tasks import tasks_of
from tests.builders import tuning
from tests.builders.matrices import MINIMAL, SOUND, load
from tests.builders.program_matrices import write_program

TUNED = load_matrix(FOLDER / "tuned.yaml")
REPLICATES = (
    ("name: mine\nprogram:\n", "name: mine\nprogram:\n  trials: run\n  seeds: replicates\n"),
    ('  replace: {train.py: {"SEED = 1337": "SEED = {seed}"}}\n', ""),
)


def names(matrix: Matrix, kind: str = "seed") -> list[str]:
    return [task.name for task in tasks_of(matrix, kind)[0]]


@pytest.mark.parametrize(
    ("matrix", "kind"),
    [(load_matrix(file), kind) for file in FOLDER.glob("*.yaml") for kind in ("seed", "cell")],
    ids=lambda value: value.name if isinstance(value, Matrix) else value,
)
def test_every_cell_is_in_one_task_which_chooses_it(matrix: Matrix, kind: str) -> None:
    if matrix.tune and kind == "cell":
        return  # refused, below
    tasks, _ = tasks_of(matrix, kind)
    assert len({task.name for task in tasks}) == len(tasks)
    assert sum(len(task.cells) for task in tasks) == len(matrix.cells)
    for task in tasks:
        run_ids = {cell.spec.run_id for cell in task.cells}
        assert select(matrix.cells, task.only, None) == run_ids
        assert len({cell.spec.device for cell in task.cells}) == 1


def test_the_arms_of_a_seed_stay_on_one_node(tmp_path: Path) -> None:
    matrix = load(tmp_path, SOUND)
    assert names(matrix) == [f"cpu-seed-{seed}" for seed in (1, 2, 3, 4)]
    assert names(matrix, "cell")[:2] == ["nanogpt+adamw-cpu-seed-1", "nanogpt+truemuon-cpu-seed-1"]
    assert len(names(matrix, "cell")) == len(matrix.cells)


def test_a_matrix_that_grows_keeps_the_folders_of_its_tasks(tmp_path: Path) -> None:
    before = names(load(tmp_path, SOUND))
    after = names(load(tmp_path, SOUND.replace("seed: [1, 2, 3]", "seed: [9, 1, 2, 3]")))
    assert set(before) < set(after)


def test_a_study_stays_together() -> None:
    """Its trials decide what its tuned cells are."""
    tasks, told = tasks_of(TUNED, "seed")
    assert [task.name for task in tasks] == [f"cpu-study-{number}" for number in range(1, 6)]
    assert told == "5 tasks, each a study: its trials, and what waits for them"
    for task in tasks:
        assert {cell.part for cell in task.cells} == {"", "trial", "tuned"}
        assert {cell.tried.study for cell in task.cells if cell.tried} == {int(task.name[-1])}


def test_what_is_tuned_once_is_one_task(tmp_path: Path) -> None:
    assert names(load_matrix(tuning.write(tmp_path))) == ["cpu-study-1"]


def test_the_runs_of_one_process_stay_together(tmp_path: Path) -> None:
    matrix = load_matrix(write_program(tmp_path, *REPLICATES))
    assert names(matrix) == ["small+slow-cpu", "small+fast-cpu"]


def test_what_would_be_torn_apart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="a task is a study then"):
        tasks_of(TUNED, "cell")
    with pytest.raises(RequestError, match="a task is a configuration then"):
        tasks_of(load_matrix(write_program(tmp_path, *REPLICATES)), "cell")
    with pytest.raises(RequestError, match=r"--task sed: no such kind\. Did you mean 'seed'"):
        tasks_of(TUNED, "sed")


# --- what it asks for ---


def estimates(matrix: Matrix, wall_s: float | None, basis: str) -> dict[str, Estimate]:
    return {cell.spec.arm_id: Estimate(wall_s, None, basis) for cell in matrix.cells}


@pytest.mark.parametrize(
    ("wall_s", "basis", "jobs", "minutes"),
    [
        (100.0, "measured", 1, 14),  # 4 cells, twice as long as measured
        (100.0, "rough", 1, 20),  # three times, 4 x 5 min
        (100.0, "rough", 4, 10),  # all at once: the least
        (1e9, "rough", 1, 20),  # no more than the limits allow: 4 x 300 s
        (1e9, "rough", 2, 10),
        (None, "unknown", 1, None),
    ],
)
def test_time_is_the_estimate_with_a_margin_within_the_limits(
    tmp_path: Path, wall_s: float | None, basis: str, jobs: int, minutes: int | None
) -> None:
    matrix = load(tmp_path, SOUND.replace("timeout_s: 60", "timeout_s: 300"))
    cells = tasks_of(matrix, "seed")[0][0].cells
    asked = resources_of([cells], jobs, estimates(matrix, wall_s, basis))
    memory = 4 * 1024 * jobs + LAUNCHER_MIB
    assert asked == Resources(cpus=2 * jobs, memory_mib=memory, gpus=0, minutes=minutes)


def test_a_task_on_gpus_asks_for_one_for_each_cell_at_once(tmp_path: Path) -> None:
    matrix = load(tmp_path, MINIMAL.replace("[cpu]", "[cuda]"))
    asked = resources_of([matrix.cells], 3, estimates(matrix, None, "unknown"))
    assert asked == Resources(cpus=3, memory_mib=3 * 4096 + LAUNCHER_MIB, gpus=3, minutes=None)


# --- arrays ---


def some(count: int, device: str = "cpu") -> list[PlannedTask]:
    return [PlannedTask(f"{device}-{n}", device, (), ()) for n in range(count)]


def test_an_array_has_the_tasks_that_are_chosen() -> None:
    (array,) = arrays_of(some(9), [1, 2, 3, 5, 9], 1000)
    assert array == JobArray("cpu-1", "cpu", 0, (1, 2, 3, 5, 9))
    assert array.indexes == "1-3,5,9"


def test_more_tasks_than_an_array_may_have_are_several() -> None:
    arrays = arrays_of(some(12), range(1, 13), 5)
    assert [(each.name, each.offset, each.indexes) for each in arrays] == [
        ("cpu-1", 0, "1-5"),
        ("cpu-2", 5, "1-5"),
        ("cpu-3", 10, "1-2"),
    ]


def test_devices_have_arrays_of_their_own() -> None:
    """They ask for other resources."""
    tasks = [some(1)[0], some(1, "cuda")[0], some(2)[1]]
    arrays = arrays_of(tasks, [1, 2, 3], 1000)
    assert [(each.name, each.numbers) for each in arrays] == [("cpu-1", (1, 3)), ("cuda-1", (2,))]


# --- on the disk ---


def test_a_submission_is_read_as_it_was_written(tmp_path: Path) -> None:
    files = SlurmFiles.at(tmp_path)
    files.folder.mkdir()
    tasks = tuple(planned(task) for task in tasks_of(TUNED, "seed")[0])
    assert all(run_id for task in tasks for run_id in task.run_ids)
    arrays = tuple(arrays_of(tasks, [1, 3], 2))
    options = RunOptions("local", "/py", None, 2, False)
    written = Submission("/m.yaml", "seed", options, ("a", "b"), tasks, arrays)
    written.write(files)
    assert Submission.read(files) == written


def test_what_was_not_submitted_or_is_damaged_is_told(tmp_path: Path) -> None:
    files = SlurmFiles.at(tmp_path)
    with pytest.raises(FolderError, match=r"was not submitted: it has no slurm/submission.json"):
        Submission.read(files)
    files.folder.mkdir()
    for text in ("{", "{}", "[]", '{"matrix": 1, "kind": 2, "options": []}'):
        files.submission.write_text(text)
        with pytest.raises(RecordError, match="Submit again, with the same --out"):
            Submission.read(files)


def test_a_name_that_slurm_does_not_keep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="SLURM drops"):
        SlurmFiles.at(tmp_path / "a\\b")
