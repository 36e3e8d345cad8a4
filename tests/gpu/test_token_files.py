"""Cells on token files, whose tokens are in a GPU's memory or stay on the host."""

import dataclasses
from pathlib import Path

import pytest

from bench.border.options import FIRST_STEPS
from bench.border.spec import RunSpec
from bench.records.tokenfiles import TokensAsked, find_tokens
from bench.worker import data, evaluation, positions
from tests.builders.tokenfiles import little, shard
from tests.builders.worker_cells import asking, run, spec_of

Cell = tuple[RunSpec, tuple[Path, ...]]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations of several chunks."""
    monkeypatch.setattr(evaluation, "EVAL_TOKENS", {"cpu": 32, "cuda": 32})


def cell_on(device: str, folder: Path, n_files: int) -> Cell:
    """Twenty steps on so many files a split; ids from the whole of uint16."""
    asked: dict[str, list[str]] = {}
    for split, count in (("train", 700), ("val", 200)):
        for number in range(n_files):
            name = f"{split}_{number}.bin"
            ids = [(number + 1) * (n % 50) * 1_297 % 65_536 for n in range(count)]
            (folder / name).write_bytes((shard, little)[number % 2](ids))
            asked.setdefault(split, []).append(name)
    corpus = find_tokens(TokensAsked(asked, 65_536), folder)
    spec = spec_of(device=device, steps=20, every=10)
    spec = asking(spec, step_timing="every", deterministic=True)
    return dataclasses.replace(spec, corpus=corpus.ref), corpus.for_cells()


@pytest.mark.parametrize("n_files", [1, 3])
def test_a_device_trains_as_a_cpu_does(tmp_path: Path, device: str, n_files: int) -> None:
    spec, paths = cell_on(device, tmp_path, n_files)
    found = run(tmp_path, spec, paths)
    on_cpu = run(tmp_path, dataclasses.replace(spec, device="cpu"), paths).losses()
    assert list(found.losses().values()) == pytest.approx(list(on_cpu.values()), rel=1e-4)
    assert found.row["tokens_on"] == ("device" if device == "cuda" else "host")


@pytest.mark.parametrize("part", [8, positions.PART])
def test_graphs_find_tokens_and_positions(
    tmp_path: Path, device: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the device has the positions of four steps at a time."""
    spec, paths = cell_on(device, tmp_path, n_files=1)
    alone = run(tmp_path, spec, paths).losses()
    monkeypatch.setattr(positions, "PART", part)
    found = run(tmp_path, asking(spec, graph_steps=4), paths)
    for step, loss in found.losses().items():
        assert loss == pytest.approx(alone[step], rel=1e-4), step
    assert found.row["graph_steps_share"] == (20 - FIRST_STEPS) / 20


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("n_files", [1, 3])
def test_batches_copied_from_the_host_are_those_of_the_device(
    tmp_path: Path, n_files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, paths = cell_on("cuda", tmp_path, n_files)
    on_device = run(tmp_path, spec, paths)
    monkeypatch.setattr(data, "DEVICE_SHARE", 0)
    on_host = run(tmp_path, spec, paths)
    assert on_host.losses() == on_device.losses()
    assert on_host.row["val_loss_final"] == on_device.row["val_loss_final"]
    assert (on_device.row["tokens_on"], on_host.row["tokens_on"]) == ("device", "host")


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_graphs_of_tokens_on_the_host_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, paths = cell_on("cuda", tmp_path, n_files=1)
    monkeypatch.setattr(data, "DEVICE_SHARE", 0)
    reason = run(tmp_path, asking(spec, graph_steps=4), paths).result["reason"]
    assert "train.graph_steps needs the tokens in the GPU's memory" in reason
