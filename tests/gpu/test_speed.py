"""The table of speed has a line for everything, whatever the device."""

import csv
from functools import partial
from itertools import product

import pytest
import torch

from tests.builders.twins import ARMS
from tests.gpu import speed
from tests.gpu.speed import Sizes

FEW = Sizes(rounds=2, launched=1, replayed=2, together=(1, 2), compiled=ARMS[:1])
GRAPHS = ["graphs of 1", "graphs of 2", "compiled, graphs of 2"]
WAYS = ["the original's way", "kernel by kernel", *GRAPHS]


@pytest.mark.slow
def test_one_arm_and_an_empty_node(device, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "ARMS", ARMS[:1])
    # Traced and not compiled, which takes a minute where there is no cache.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    speed.main(str(tmp_path / "speed.csv"), device, FEW)
    torch._dynamo.reset()  # what it has traced is nothing to other tests
    with (tmp_path / "speed.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    found = {line["what"]: line for line in lines}
    assert len(found) == len(lines)
    assert set(found) == {
        "empty node of a graph",
        *(f"capturing graphs of {n}" for n in FEW.together),
        "compiling",
        *(f"step, {way}" for way in WAYS),
        *(f"step, {way}, over the original's way" for way in WAYS[1:]),
        *(
            f"{what}, {way}"
            for what, way in product(("kernels of a step", "GPU busy in a step"), WAYS)
        ),
    }
    for line in lines:
        assert 0 < float(line["low"]) <= float(line["median"]) <= float(line["high"])
        assert (line["model"], line["optimizer"]) in (("", ""), ARMS[0])
    aimed = {line["what"]: float(line["aim"]) for line in lines if line["aim"]}
    assert aimed == {
        **{f"step, {way}": 450 for way in GRAPHS[1:]},
        **{f"step, {way}, over the original's way": 30 for way in GRAPHS[1:]},
    }
    kernels = {way: float(found[f"kernels of a step, {way}"]["median"]) for way in WAYS}
    assert kernels["kernel by kernel"] < kernels["the original's way"]
    assert kernels["graphs of 2"] <= kernels["graphs of 1"]
