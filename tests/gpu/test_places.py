"""Cells that should be alike wherever they run: each way in which they are not is told."""

import csv
from pathlib import Path

import pytest

from bench.records.columns import RUN_COLUMNS
from bench.records.rows import Row
from tests.gpu import places

ROW: Row = dict.fromkeys(RUN_COLUMNS, "") | {
    "model": "nanogpt",
    "optimizer": "adamw",
    "device": "cuda",
    "status": "ok",
    "val_loss_final": "2.5",
    "train_loss_final": "2.4",
    "init_hash": "abc",
    "gpu_mem_source": "process",
    "gpu_mem_nvml_peak_mib": "850",
}
IMAGE: Row = {**ROW, "gpu_mem_source": "device_delta", "gpu_mem_nvml_peak_mib": "870"}


def compared(folder: Path, **rows: list[Row]) -> int:
    """The exit code for such rows of each place."""
    for place, cells in rows.items():
        (folder / place).mkdir()
        with (folder / place / "runs.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ROW)
            writer.writeheader()
            writer.writerows(cells)
    return places.main(str(folder / "places.csv"), *(str(folder / place) for place in rows))


def test_places_that_are_alike(tmp_path, capsys):
    assert compared(tmp_path, local=[ROW], podman=[ROW], image=[IMAGE]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "places: all alike"
    with (tmp_path / "places.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["place"] for line in lines] == ["local", "podman", "image"]
    assert tuple(lines[0]) == places.HEAD


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"val_loss_final": "2.5000001"}, "val_loss_final is 2.5000001, and 2.5 in"),
        ({"init_hash": "abd"}, "init_hash is abd, and abc in the first place"),
        ({"gpu_mem_source": "device_delta"}, "gpu_mem_source is device_delta, not process"),
        ({"gpu_mem_source": ""}, "gpu_mem_source is empty, not process"),
        ({"gpu_mem_nvml_peak_mib": "940"}, "gpu_mem_nvml_peak_mib is 940.0, and 850.0 in the"),
        ({"gpu_mem_nvml_peak_mib": ""}, "gpu_mem_nvml_peak_mib is nan, and 850.0 in the"),
        ({"status": "oom", "reason": "memory ran out"}, "oom, memory ran out"),
    ],
)
def test_what_differs_is_told(tmp_path, capsys, change, said):
    assert compared(tmp_path, local=[ROW], podman=[{**ROW, **change}], image=[IMAGE]) == 1
    (line,) = capsys.readouterr().out.splitlines()[3:]
    assert line.startswith(f"nanogpt + adamw in podman: {said}")


@pytest.mark.parametrize("missing", ["local", "podman", "image"])
def test_a_cell_that_a_place_lacks_is_told(tmp_path, capsys, missing):
    rows = {"local": [ROW], "podman": [ROW], "image": [IMAGE], missing: []}
    assert compared(tmp_path, **rows) == 1
    assert capsys.readouterr().out.splitlines()[2:] == [f"nanogpt + adamw in {missing}: no cell"]


def test_a_place_that_left_nothing_lacks_every_cell(tmp_path, capsys):
    """As where the engine refused, and there is no folder."""
    assert compared(tmp_path, local=[ROW, {**ROW, "model": "nanokimi"}], podman=[ROW]) == 1
    assert capsys.readouterr().out.splitlines()[3:] == ["nanokimi + adamw in podman: no cell"]
    assert places.main(str(tmp_path / "places.csv"), str(tmp_path / "image")) == 1
    assert capsys.readouterr().out == "places: there is no cell\n"


def test_on_a_cpu_there_is_no_memory_of_a_gpu(tmp_path):
    row = {**ROW, "device": "cpu", "gpu_mem_source": "", "gpu_mem_nvml_peak_mib": ""}
    assert compared(tmp_path, local=[row], podman=[row], image=[row]) == 0
