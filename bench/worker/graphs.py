"""Training steps as CUDA graphs: one launch in place of a few hundred.

A nano step is microseconds of arithmetic and milliseconds of launching its kernels. A graph repeats
the same kernels on the same memory, so that a step in it finds its batch, and leaves its loss, by a
counter on the device.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


class StepsOnDevice:
    """Steps of a training whose batches, place and losses all lie on the device.

    positions: (steps, B), losses: (steps,); step: one update on a batch of positions (B,), which
    returns the loss and never waits for the device.
    """

    def __init__(
        self,
        step: Callable[[Tensor], Tensor],
        positions: Tensor,
        losses: Tensor,
        together: int,
    ) -> None:
        self.step = step
        self.positions = positions
        self.losses = losses
        self.together = together  # steps of one graph
        self.place = torch.zeros(1, dtype=torch.int64, device=positions.device)  # the next step
        self.graph: torch.cuda.CUDAGraph | None = None

    def capture(self) -> None:
        """Record `together` steps, none of which is carried out.

        Raises:
            RuntimeError: for a step that a graph cannot hold.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                for _ in range(self.together):
                    self._one()
        except RuntimeError as error:
            raise RuntimeError(
                "the training step cannot be captured as a CUDA graph: something in it waits for "
                f"the device or is not allowed there. Leave out train.graph_steps. {error}"
            ) from error
        self.graph = graph

    def run(self, steps: int) -> Iterator[int]:
        """Do so many steps; after each launch, how many steps it was."""
        while steps:
            launched = self._launch(steps)
            steps -= launched
            yield launched

    def _launch(self, most: int) -> int:
        if self.graph is None or most < self.together:
            self._one()
            return 1
        self.graph.replay()
        return self.together

    def _one(self) -> None:
        loss = self.step(self.positions.index_select(0, self.place).squeeze(0))
        self.losses.index_copy_(0, self.place, loss.view(1))
        self.place += 1
