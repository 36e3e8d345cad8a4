"""Each optimizer's step beside AdamW's, and what it holds for a weight.

The optimizers are those of bench/matrix/optimizers.yaml and some more. They have a process of their
own with a worker's variables, one thread, on one CPU: `python -m tests.perf.beside` reads lines
`NAME WHAT` and answers each with milliseconds of a step on NanoGPT, or bytes of state a weight.
"""

import subprocess
import sys
from functools import cache
from pathlib import Path

from bench.border.options import OWN, MuonClipOptions, MuonOptions, OwnOptimizer
from bench.border.spec import CorpusRef, Optimizer
from bench.matrix.expansion import load_matrix
from bench.matrix.packaged import matrix_file
from tests.perf.answering import answering
from tests.perf.rows import Row, interleaved, ratios
from tests.perf.side import milliseconds

ROUNDS = 9
STEPS = 20  # a measurement: what is done in each tenth step only, as SOAP's bases, is in it twice
ON_HIDDEN = {"hidden": {"settings": {}}, "other": {"base": "adamw", "settings": {}}}
MORE = [
    Optimizer("muon-elements", "muon", MuonOptions(second_moment="elements")),
    Optimizer("muon-cautious", "muon", MuonOptions(cautious_decay=True)),
    Optimizer("muonclip", "muonclip", MuonClipOptions()),
    Optimizer("schedule-free", OWN, OwnOptimizer("pytorch_optimizer:ScheduleFreeAdamW", {})),
    Optimizer(
        "scion",
        OWN,
        OwnOptimizer("pytorch_optimizer:SCION", {}, leaves="matrices", groups=ON_HIDDEN),
    ),
]


def optimizers() -> dict[str, Optimizer]:
    """By name, AdamW the first."""
    matrix = load_matrix(matrix_file(Path("optimizers"))).with_corpus(CorpusRef("", "0" * 64))
    cells = [cell.spec.optimizer for cell in matrix.cells if not cell.part]
    return {each.name: each for each in (*cells, *MORE)}


def rows(runtime: str) -> list[Row]:
    """A local process, whatever the runtime: the arithmetic is the same."""
    with answering("tests.perf.beside") as process:
        return _measure(process)


def _measure(process: "subprocess.Popen[str]") -> list[Row]:
    def answer(name: str, what: str) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{name} {what}\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    names = list(optimizers())
    measures = [lambda name=name: answer(name, "step") for name in names]
    for measure in measures:
        measure()  # once without looking: state that the first steps make
    adamw, *others = interleaved(measures, ROUNDS)
    steps = [Row("step, adamw", adamw, unit="ms")]
    steps += [
        Row(f"step, {name} over adamw", ratios(values, adamw))
        for name, values in zip(names[1:], others, strict=True)
    ]
    states = [
        Row(f"state, {name}", (answer(name, "state"),), unit="bytes a weight") for name in names
    ]
    return [*steps, *states]


class Stepping:
    """NanoGPT with gradients that stay, under one optimizer."""

    def __init__(self, asked: Optimizer) -> None:
        import torch  # the asking side needs none

        from bench.border.logical import initialise
        from bench.border.options import NanoGPTOptions
        from bench.models import nanogpt
        from bench.worker.registry import build_optimizers
        from bench.worker.streams import torch_stream

        self.model = nanogpt.build(NanoGPTOptions(), 65, 32)
        initialise(self.model.stacks(), lambda name: torch_stream(1, "weights", name))
        self.optimizers = build_optimizers(asked, self.model)
        torch.manual_seed(1)
        for parameter in self.model.parameters():
            parameter.grad = torch.randn_like(parameter)
        for stack in self.model.stacks():
            if stack.logits is not None:
                self.heads = stack.heads

    def step(self) -> None:
        import torch

        for stack in self.model.stacks():  # as a forward pass would leave them
            if stack.logits is not None and stack.logits.asked:
                stack.logits.largest = torch.ones(self.heads)
        for optimizer in self.optimizers:
            optimizer.step()

    def state_bytes(self) -> float:
        from bench.worker.holdings import held_bytes

        return held_bytes(self.optimizers, self.model) / self.model.n_params()


def main() -> None:
    import torch

    torch.set_num_threads(1)
    asked = optimizers()

    @cache
    def stepping(name: str) -> Stepping:
        return Stepping(asked[name])

    for line in sys.stdin:
        name, what = line.split()
        work = stepping(name)
        found = milliseconds(work.step, STEPS) if what == "step" else work.state_bytes()
        print(found, flush=True)


if __name__ == "__main__":
    main()
