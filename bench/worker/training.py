"""The training loop: steps on one clock, evaluations on another."""

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bench.border.options import FIRST_STEPS, TrainOptions
from bench.models.decoder import Decoder
from bench.optim.leaves import step_by
from bench.worker.accumulation import Parts
from bench.worker.arithmetic import number_format
from bench.worker.clocks import PhaseClock, StepTimer
from bench.worker.environment import MIB
from bench.worker.evaluation import Evaluator, cross_entropy
from bench.worker.graphs import StepsOnDevice
from bench.worker.holdings import held_bytes
from bench.worker.own_model import BroughtModel
from bench.worker.own_optimizer import needs_closure, switch
from bench.worker.passes import Passes
from bench.worker.positions import BatchPositions
from bench.worker.protocol import log, told
from bench.worker.pruning import Pruning
from bench.worker.schedule import changes_rates, left_alone, rate_share, set_rates
from bench.worker.slices import Slices
from bench.worker.usage import Usage
from bench.worker.windows import Windows

# Seconds of training between two progress lines; also how late a NaN is noticed.
HEARTBEAT_S = 0.5


def _is_sparse(gradient: Tensor | None) -> bool:
    return gradient is not None and gradient.layout is not torch.strided


class Keeper(Protocol):
    """Keeps the state of a training, for another attempt to go on from."""

    @property
    def every_steps(self) -> int | None:
        """None where the time tells when."""

    def is_due(self, step: int) -> bool: ...

    def keep(self, trainer: "Trainer") -> None: ...


class DivergedError(Exception):
    """The loss stopped being finite."""

    def __init__(self, step: int, last_finite: float | None) -> None:
        self.step = step
        before = (
            f"the last finite loss was {last_finite:.6g}"
            if last_finite is not None
            else "none was finite"
        )
        super().__init__(f"the loss is not finite at step {step}; {before}")


@dataclass
class Point:
    """One evaluation."""

    step: int
    tokens: int
    train_time_s: float
    train_loss: float
    val_loss: float
    expert_load_max: float | None
    router_entropy: float | None
    n_params: int
    n_params_active: int | None
    optimizer_state_mib: float | None


class Trainer:
    """A model, its optimizers and its batches, stepped in spans between evaluations."""

    def __init__(
        self,
        model: Decoder | BroughtModel,
        optimizers: list[torch.optim.Optimizer],
        windows: Windows,
        positions: BatchPositions,
        clock: PhaseClock,
        train: TrainOptions | None = None,  # None: every setting at its default
    ) -> None:
        self.model = model
        self.forward: Callable[[Tensor], Tensor] = model  # the same model, compiled where asked
        self.optimizers = optimizers
        self.windows = windows  # of the training split
        self.positions = positions  # (steps, B)
        self.clock = clock
        self.train = train or TrainOptions()
        self.timer = StepTimer(windows.device, self.train.step_timing)
        self.pruning: Pruning | None = None
        self.usage = Usage(model)
        # A model may add to the loss that training minimises, for the forward before.
        self.auxiliary_loss: Callable[[], Tensor | None] = getattr(
            model, "auxiliary_loss", lambda: None
        )
        self.read: Collection[str] = ()  # by a step, where graphs were tried out
        self.losses = torch.full((len(positions),), math.nan, device=windows.device)
        self.curve: list[Point] = []
        self.test_loss: float | None = None  # after the last step, where there is a test split
        self.begin()

    def begin(self) -> None:
        """Before step 0, with optimizers that have not made one."""
        self.fresh = True  # no step was made since the optimizers were built
        self.passes = self.stepped = 0  # forward and backward passes, in so many calls of `step`
        self.done = self.begun = 0  # steps made, and those of them that earlier attempts made
        self.losses.fill_(math.nan)
        self.parts: Parts | None = None  # of each batch
        if self.train.accumulate > 1 and self.optimizers:
            self.parts = Parts(self.train.accumulate, self.model.stacks())
        self.on_device: StepsOnDevice | None = None  # instead of one by one
        if self.train.graph_steps and self.optimizers:
            self.on_device = self.steps_on_device(self.losses, self.train.graph_steps)

    def steps_on_device(self, losses: Tensor, together: int) -> StepsOnDevice:
        """Its steps from the first one on; losses: (steps,), for theirs; together: in one graph."""
        table = (self.positions, losses)
        return StepsOnDevice(
            self.step, self.model, self.optimizers, *table, self.train, together, self.read
        )

    def warm_up(self, steps: int) -> None:
        """Steps that count for nothing: `begin` anew after them, with other optimizers."""
        deque(self._one_by_one(min(steps, len(self.positions))), maxlen=0)

    def pace(self, step: int) -> None:
        """Set the learning rates of this step, where the schedule has any but the base rates."""
        if changes_rates(self.train):
            set_rates(self.optimizers, rate_share(self.train, step))

    def rates_left_alone(self) -> list[str]:
        """What is called like a learning rate and keeps its value, where others change."""
        return left_alone(self.optimizers) if changes_rates(self.train) else []

    def step(self, positions: Tensor) -> Tensor:
        """One update on the batch at these positions (B,); the cross-entropy before it."""
        self.fresh = False
        batch = self.windows.at(positions)
        if any(map(needs_closure, self.optimizers)):
            return self._step_by_closure(batch)
        loss, _ = self.gradients(batch)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self._count(passes=1)
        return loss.detach()

    def _step_by_closure(self, batch: Tensor) -> Tensor:
        """Of several optimizers those that need a closure come last; each one computes anew."""
        passes = Passes(self.model, lambda: self.gradients(batch))
        for optimizer in self.optimizers:
            if needs_closure(optimizer):
                step_by(optimizer, passes)
            else:
                if not passes.count:
                    passes()
                optimizer.step()
        self.model.zero_grad()
        if passes.loss is None:
            raise RuntimeError(
                f"{type(self.optimizers[0]).__name__}.step(closure) did not call its closure, so "
                "that no loss and no gradient was computed. Call it, or take the argument away"
            )
        self._count(passes.count)
        return passes.loss

    def _count(self, passes: int) -> None:
        self.passes += passes
        self.stepped += 1

    def gradients(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The cross-entropy on a batch (B, T + 1), and what is minimised; gradients of that."""
        if self.parts:
            loss, minimised = self.parts.gradients(batch, self._losses)
        else:
            loss, minimised = self._losses(batch)
            minimised.backward()
        if self.train.clip_norm:
            self._clip()
        return loss, minimised

    def _losses(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The cross-entropy on a batch (B, T + 1), and what is minimised."""
        with number_format(batch.device, self.train):
            loss = cross_entropy(self.forward(batch[:, :-1]), batch[:, 1:])
            auxiliary = self.auxiliary_loss()
        return loss, loss if auxiliary is None else loss + auxiliary

    def _clip(self) -> None:
        try:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.train.clip_norm)
        except (NotImplementedError, RuntimeError) as error:
            sparse = [name for name, each in self.model.named_parameters() if _is_sparse(each.grad)]
            if not sparse:
                raise
            raise ValueError(
                f"train.clip_norm cannot clip the sparse gradient of {', '.join(sparse)}: leave it "
                "out, or build the layer with sparse=False"
            ) from error

    def run(
        self,
        evaluator: Evaluator,
        every: int,
        say: Callable[..., None],
        in_turn: bool = False,
        keeper: Keeper | None = None,
    ) -> None:
        """All steps, with an evaluation at step 0, every `every` steps and after the last.

        Each evaluation is a line of the log. The test split is evaluated after all else, and once.
        in_turn: others train after each slice of ours (bench/border/turns.py). keeper: keeps the
        state from time to time.

        Raises:
            DivergedError: at the first loss that is NaN or infinite.
        """
        total = len(self.positions)
        if unchanged := self.rates_left_alone():
            log(f"train.schedule does not change {', '.join(unchanged)}")
        span = FIRST_STEPS if self.on_device else 1
        slices = Slices(self.clock, say) if in_turn else None
        while True:
            self._evaluate_if_due(evaluator, every, say)
            if self.done == total:
                self._test(evaluator, say)
                return
            if keeper and keeper.is_due(self.done):
                say(stage="checkpoint", step=self.done)
                with self.clock.during("checkpoint"):
                    keeper.keep(self)
            begin, before = self.done, self.clock.seconds["train"]
            self._train(min(span, self._to_next(every, keeper), total - begin))
            seconds = self.clock.seconds["train"] - before
            steps = self.done - begin
            loss = self.losses[self.done - 1].item()
            rate = steps * self.tokens_per_step / seconds
            say(stage="train", step=self.done, loss=loss, tokens_per_s=rate)
            self._prune_if_due()
            self._capture_if_due(say)
            step_s = seconds / steps
            # Also after the first step: all are ready to train before any of them does.
            if slices and self.done < total and (begin == 0 or slices.left_s < step_s / 2):
                slices.pass_on(self.done)
            span = max(1, int((slices.left_s if slices else HEARTBEAT_S) / step_s))
            if self.on_device:
                span = self.on_device.whole(span)

    def _capture_if_due(self, say: Callable[..., None]) -> None:
        """From here on steps are launched as CUDA graphs.

        Not from the first step on: what an optimizer makes in it, and the libraries that it loads,
        must be there.
        """
        steps = self.on_device
        if steps is None or steps.graphs or self.done - self.begun < FIRST_STEPS:
            return
        say(stage="compile")
        with self.clock.during("compile"):
            steps.capture()

    def _evaluate_if_due(self, evaluator: Evaluator, every: int, say: Callable[..., None]) -> None:
        """Unless an earlier attempt has done it, and kept its state after that."""
        total = len(self.positions)
        is_due = self.done % every == 0 or self.done == total
        if not is_due or (self.curve and self.curve[-1].step == self.done):
            return
        self._evaluate(evaluator, say)
        point = self.curve[-1]
        say(stage="eval", step=self.done, loss=point.train_loss, val_loss=point.val_loss)
        log(
            f"step {point.step} of {total}: train loss {point.train_loss:.4f}, "
            f"val loss {point.val_loss:.4f}, {point.train_time_s:.1f} s of training"
        )

    def _to_next(self, every: int, keeper: Keeper | None) -> int:
        """Steps to what comes next: an evaluation, a pruning, or a checkpoint."""
        intervals = [every]
        if self.pruning is not None:
            intervals.append(self.pruning.every)
        if keeper is not None and keeper.every_steps is not None:
            intervals.append(keeper.every_steps)
        return min(interval - self.done % interval for interval in intervals)

    def _prune_if_due(self) -> None:
        """Part of the training, but of no step; not after the last step, which nothing follows."""
        if self.pruning is None or self.done == len(self.positions):
            return
        if self.done % self.pruning.every == 0:
            with self.clock.during("train"):
                self.optimizers = self.pruning.prune(self.optimizers)

    def _train(self, steps: int) -> None:
        begin, end = self.done, self.done + steps
        if self.on_device:
            self.on_device.check()
        launches = (self.on_device.run if self.on_device else self._one_by_one)(steps)
        try:
            with self.clock.during("train"):
                self.timer.begin_span()
                for launched in launches:
                    self.timer.steps_done(launched)
                    self.done += launched
                self.timer.mark_rest()
        finally:
            with contextlib.suppress(RuntimeError):  # a device that has failed tells no times
                self.timer.end_span()
        finite = torch.isfinite(self.losses[begin:end])
        if not finite.all():
            first = begin + int(finite.logical_not().nonzero()[0])
            self.done = first
            raise DivergedError(first, self.losses[first - 1].item() if first else None)

    def _one_by_one(self, steps: int) -> Iterator[int]:
        for step in range(self.done, self.done + steps):
            self.pace(step)
            self.losses[step] = self.step(self.positions[step])
            yield 1

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """The model and its optimizers in the mode, and with the weights, that are judged.

        Before a step, an optimizer that averages weights has none to put in place.
        """
        optimizers = [] if self.fresh else self.optimizers
        self._switch("eval", optimizers)
        try:
            with number_format(self.windows.device, self.train):
                yield
        finally:
            self._switch("train", optimizers)

    def _switch(self, mode: str, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        self.model.train(mode == "train")
        for optimizer in optimizers:
            switch(optimizer, mode)

    def _evaluate(self, evaluator: Evaluator, say: Callable[..., None]) -> None:
        beat = self._beat(say)
        with self.clock.during("eval"), self.evaluating():
            if self.on_device and self.on_device.graphs:
                self._evaluate_in_graphs(evaluator)
            train_loss = evaluator.loss(self.model, "train", self.done, beat)
            with self.usage.watching():
                last = self.done == len(self.positions)
                val_loss = evaluator.loss(self.model, "val", self.done, beat, last)
        point = Point(
            step=self.done,
            tokens=self.tokens,
            train_time_s=self.clock.seconds["train"],
            train_loss=train_loss,
            val_loss=val_loss,
            expert_load_max=self.usage.load_max,
            router_entropy=self.usage.entropy,
            n_params=sum(parameter.numel() for parameter in self.model.parameters()),
            n_params_active=self.model.n_params_active(),
            optimizer_state_mib=self.optimizer_state_mib,
        )
        if not (math.isfinite(train_loss) and math.isfinite(val_loss)):
            raise DivergedError(self.done, self.curve[-1].val_loss if self.curve else None)
        self.curve.append(point)

    def _evaluate_in_graphs(self, evaluator: Evaluator) -> None:
        """Captured at the first evaluation after the steps were; each begins with a comparison."""
        for split in ("train", "val"):
            if split not in evaluator.graphs:
                watching = self.usage.watching() if split == "val" else contextlib.nullcontext()
                narrowing = number_format(self.windows.device, self.train, narrow_once=False)
                with narrowing, watching:
                    evaluator.capture(self.model, split)
            evaluator.compare(self.model, split, self.done)

    def _test(self, evaluator: Evaluator, say: Callable[..., None]) -> None:
        if "test" not in evaluator.windows:
            return
        with self.clock.during("eval"), self.evaluating():
            loss = evaluator.loss(self.model, "test", self.done, self._beat(say), True)
        if not math.isfinite(loss):
            raise DivergedError(self.done, self.curve[-1].val_loss)
        self.test_loss = loss

    def _beat(self, say: Callable[..., None]) -> Callable[[], None]:
        """What tells from time to time that an evaluation goes on."""
        last = time.monotonic()

        def beat() -> None:
            nonlocal last
            if time.monotonic() - last >= HEARTBEAT_S:
                last = time.monotonic()
                say(stage="eval", step=self.done)

        return beat

    @property
    def optimizer_state_mib(self) -> float | None:
        """Of all tensors that the optimizers hold beside the model's; None: it cannot be told."""
        rates = self.on_device.rates if self.on_device else None
        others = [rates.now] if rates else []
        found = told("optimizer_state_mib", lambda: held_bytes(self.optimizers, self.model, others))
        return None if found is None else found / MIB

    @property
    def passes_per_step(self) -> float | None:
        """Forward and backward passes of a training step: more than 1 by an optimizer's closure."""
        return self.passes / self.stepped if self.stepped else None

    @property
    def graph_steps_share(self) -> float | None:
        """Of the steps so far, how many ran in CUDA graphs; None where none were asked for."""
        return self.on_device.in_graphs / self.done if self.on_device and self.done else None

    @property
    def epochs(self) -> float:
        """Training tokens seen, over those that the training split has."""
        return self.tokens / self.windows.n_tokens

    @property
    def tokens(self) -> int:
        """Training tokens seen."""
        return self.done * self.tokens_per_step

    @property
    def tokens_per_step(self) -> int:
        return self.positions.shape[1] * self.windows.block_size
