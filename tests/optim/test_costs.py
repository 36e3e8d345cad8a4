"""The table of docs/optimizers.md: what optimizers hold and compute for a weight of NanoGPT."""

import re

import pytest
import torch
import yaml

from bench.border.logical import initialise
from bench.border.options import OPTIMIZER_OPTIONS, OWN, NanoGPTOptions, OwnOptimizer
from bench.border.spec import Optimizer
from bench.models import nanogpt
from bench.models.decoder import Decoder
from bench.worker.holdings import held_bytes
from bench.worker.registry import OPTIMIZERS, build_optimizers
from tests.builders.reference import stream
from tests.builders.shared import ROOT

LINE = re.compile(r"\| `(\{(?:base|class): .*?\})` \| .* \| ([\d.]+) \| ?(\d*) \| [\d.]+ \|")
TABLE = LINE.findall((ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8"))


def asked_for(text: str) -> Optimizer:
    settings = yaml.safe_load(text)
    if base := settings.pop("base", None):
        return Optimizer("it", base, OPTIMIZER_OPTIONS[base](**settings))
    reference = ":".join(settings.pop("class").rsplit(".", 1))
    groups = {
        role: {key: each[key] for key in each if key == "base"} | {"settings": {}}
        for role, each in settings.pop("groups", {}).items()
    }
    return Optimizer("it", OWN, OwnOptimizer(reference, {}, groups=groups, **settings))


def stepped(optimizer: Optimizer) -> tuple[Decoder, list[torch.optim.Optimizer]]:
    model = nanogpt.build(NanoGPTOptions(), 65, 32)
    initialise(model.stacks(), stream(1))
    optimizers = build_optimizers(optimizer, model)
    for _ in range(2):  # SOAP's first step makes its bases alone
        for stack in model.stacks():
            stack.parameter.grad = torch.randn_like(stack.parameter)
            if stack.logits is not None:
                stack.logits.largest = torch.ones(stack.heads)
        for each in optimizers:
            each.step()
    return model, optimizers


def test_the_table_has_every_built_in_optimizer() -> None:
    assert {asked_for(text).base for text, _, _ in TABLE} == {OWN, *OPTIMIZERS}


@pytest.mark.parametrize(("text", "state", "operations"), TABLE)
def test_the_table_says_what_an_optimizer_holds_and_computes(
    text: str, state: str, operations: str
) -> None:
    optimizer = asked_for(text)
    model, optimizers = stepped(optimizer)
    assert f"{held_bytes(optimizers, model) / model.n_params():.2g}" == state
    if optimizer.base == OWN:
        assert operations == ""
        return
    flops = OPTIMIZERS[optimizer.base].flops_per_step(model.stacks(), optimizer.options)
    assert round(flops / model.n_params()) == int(operations)
