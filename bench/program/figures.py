"""What was read of one run: its columns of runs.csv, its curve, its steps."""

import json
import math
from array import array
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from bench.program.reading import LOSSES, Record
from bench.program.stamps import LineClock

EVALUATED = frozenset(("val_loss", "test_loss", "train_loss"))
TRAINED = frozenset(("loss", "step_time_ms", "train_time_s"))  # beside a step: a step line
# As some print it -> as we keep it, and the factor between.
UNITS = {"step_time_s": ("step_time_ms", 1000.0), "train_time_ms": ("train_time_s", 0.001)}
# The columns of curve.csv and steps.csv are those that the worker writes.
CURVE = (
    *("step", "tokens", "train_time_s", "train_loss", "val_loss", "expert_load_max"),
    *("router_entropy", "n_params", "n_params_active", "optimizer_state_mib"),
)
STEPS = ("step", "steps", "time_ms", "loss")
AS_READ = ("perplexity", "bits_per_char", "bits_per_byte")


class StepTable:
    """Step lines, in 32 bytes each: there may be millions."""

    def __init__(self) -> None:
        self.source: str | None = None  # of its times
        self._step, self._steps = array("q"), array("q")
        self._time_ms, self._loss = array("d"), array("d")

    def add(self, step: int, loss: float | None, steps: int, told_ms: float | None) -> None:
        """`told_ms`: what the program says that those `steps` took."""
        if told_ms is not None and self.source != "told":
            self.source = "told"  # and no stamps beside it
            self._time_ms = array("d", [math.nan]) * len(self._step)
        self._step.append(step)
        self._steps.append(steps)
        self._time_ms.append(math.nan if told_ms is None else told_ms)
        self._loss.append(math.nan if loss is None else loss)

    def stamp(self, steps: int, time_ms: float) -> None:
        """What stamps say of the last line's steps; it counts if the program tells nothing."""
        if self.source != "told":
            self.source = "stamps"
            self._steps[-1], self._time_ms[-1] = steps, time_ms

    def rows(self) -> Iterator[tuple[float | None, ...]]:
        columns = (self._step, self._steps, self._time_ms, self._loss)
        for row in zip(*columns, strict=True):
            yield tuple(_finite(value) for value in row)

    def percentiles_ms(self, *ranks: int) -> list[float]:
        """Of the time of one step; a time of several steps counts for each of them."""
        each = zip(self._time_ms, self._steps, strict=True)
        return percentiles([(ms / n, n) for ms, n in each if math.isfinite(ms)], *ranks)


class Figures:
    """Grows with each line; `row` tells what is known at any moment."""

    def __init__(self, metrics: Collection[str], begin: float) -> None:
        self.metrics = frozenset(metrics)
        self.begin = begin  # of CLOCK_MONOTONIC
        self.last: Record = {}  # name -> what was read last
        self.known_at: dict[str, int | None] = {}  # name -> the step known when it was read
        self.step: int | None = None
        self.not_finite = ""  # the first loss that was not
        self.curve: dict[int, dict[str, float | None]] = {}  # step -> a row
        self.steps = StepTable()
        self.clock = LineClock(self.steps.stamp)
        self._best: dict[str, float] = {}  # the lowest of each loss
        self._last_finite: dict[str, float] = {}
        self._rates = array("d")  # tokens a second, as told
        self._told_s: tuple[int, float] | None = None  # (step, seconds of training by then)

    @property
    def has_begun(self) -> bool:
        """Whether any loss or metric was read."""
        return any(name in self.last for name in (*LOSSES, *self.metrics))

    def add(self, record: Record, at: float) -> None:
        """What a line told, and when it came."""
        told = record if UNITS.keys().isdisjoint(record) else _in_one_unit(record)
        if (step := told.get("step")) is not None:
            self.step = int(step)
        for name, value in told.items():
            self.last[name] = value
            self.known_at[name] = self.step
            if value is not None and name in LOSSES:
                self._watch(name, value)
        trains = step is not None and not TRAINED.isdisjoint(told)
        if not EVALUATED.isdisjoint(told) or not (trains or self.metrics.isdisjoint(told)):
            self.clock.evaluation_line(at, self.step)
            self._add_point(told)
        if trains and self.step is not None:
            self._add_step(self.step, told, at)
        if (rate := _finite(told.get("tokens_per_s"))) is not None:
            self._rates.append(rate)

    def _watch(self, name: str, value: float) -> None:
        if math.isfinite(value):
            self._last_finite[name] = value
            self._best[name] = min(value, self._best.get(name, value))
        elif not self.not_finite:
            before = self._last_finite.get(name)
            finite = "none was finite" if before is None else f"the last finite was {before:g}"
            where = "" if self.step is None else f" at step {self.step}"
            self.not_finite = f"{name} is {value}{where}; {finite}"

    def _add_point(self, told: Record) -> None:
        if self.step is None or told.keys().isdisjoint(("train_loss", "val_loss")):
            return
        point = self.curve.setdefault(self.step, {"step": self.step})
        point |= {"tokens": self.last.get("tokens"), "train_time_s": self._train_time_s()}
        point |= {name: told[name] for name in ("train_loss", "val_loss") if name in told}

    def _add_step(self, step: int, told: Record, at: float) -> None:
        self.clock.step_line(at, step, told.get("tokens"))
        steps, time_ms = 1, _finite(told.get("step_time_ms"))
        if (so_far := _finite(told.get("train_time_s"))) is not None:
            before, self._told_s = self._told_s, (step, so_far)
            if time_ms is None and before and step > before[0] and so_far >= before[1]:
                steps, time_ms = step - before[0], 1000 * (so_far - before[1])
        self.steps.add(step, told.get("loss"), steps, time_ms)

    def _train_time_s(self) -> float | None:
        if "train_time_s" in self.last:
            return _finite(self.last["train_time_s"])
        return self.clock.seconds.get("train")

    def curve_rows(self) -> Iterator[list[float | None]]:
        for point in self.curve.values():
            yield [_finite(point.get(column)) for column in CURVE]

    def row(self, done: bool) -> dict[str, Any]:
        """Columns of runs.csv. `done`: it ended as it should, so that the last is the final."""
        self.clock.close()
        row: dict[str, Any] = {"steps": self.step, "val_loss_best": self._best.get("val_loss")}
        row |= {name: _whole(self.last.get(name)) for name in ("tokens", "n_params")}
        row |= {name: self.last.get(name) for name in AS_READ}
        if done:
            row |= {f"{name}_final": self.last.get(name) for name in EVALUATED}
            if "train_loss" not in self.last:
                row["train_loss_final"] = self.last.get("loss")
            metrics = {name: self.last[name] for name in sorted(self.metrics)}
            row["metrics"] = json.dumps(metrics) if metrics else None
        row |= self._time_columns()
        return {
            name: value if isinstance(value, str) else _finite(value) for name, value in row.items()
        }

    def _time_columns(self) -> dict[str, Any]:
        keys = ("step_time_ms_p50", "step_time_ms_p90", "step_time_ms_p99")
        row: dict[str, Any] = {
            "train_time_s": self._train_time_s(),
            "eval_time_s": self.clock.seconds.get("eval") if self.clock.clean else None,
            "step_time_source": self.steps.source,
            **dict(zip(keys, self.steps.percentiles_ms(50, 90, 99), strict=False)),
        }
        if self._rates:
            row["tokens_per_s"] = percentiles([(rate, 1) for rate in self._rates], 50)[0]
        elif (seconds := self.last.get("train_time_s")) and (tokens := self.last.get("tokens")):
            row["tokens_per_s"] = tokens / seconds
        elif self.clock.rated_s:
            row["tokens_per_s"] = self.clock.rated_tokens / self.clock.rated_s
        return row


def percentiles(weighted: Iterable[tuple[float, int]], *ranks: int) -> list[float]:
    """Of values that count several times each, linear between neighbours; none of no values."""
    values = sorted(weighted)
    last = sum(count for _, count in values) - 1
    return [_at(values, last * rank / 100) for rank in ranks] if values else []


def _at(values: list[tuple[float, int]], place: float) -> float:
    low = math.floor(place)
    below, above = (_nth(values, index) for index in (low, math.ceil(place)))
    return below + (above - below) * (place - low)


def _nth(values: list[tuple[float, int]], index: int) -> float:
    """From 0, of the sorted values with their counts."""
    for value, count in values:
        index -= count
        if index < 0:
            return value
    raise IndexError(index)


def _in_one_unit(record: Record) -> Record:
    told: Record = {}
    for name, value in record.items():
        kept, factor = UNITS.get(name, (name, 1.0))
        told.setdefault(kept, None if value is None else value * factor)
    return told


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
