"""A space of settings -> the ones to try: the untuned first, then by a sequence or a grid."""

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.border.options import OwnModel, TrainOptions
from bench.border.program import GivenValues
from bench.matrix.tune_forms import Linear, Log, Space, Values

# Bases of Halton's sequence, one a key of the space. Of larger ones the first points lie on lines.
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)
# A rate of more digits is no better, and its last ones differ between machines' mathematics.
DIGITS = 4
# Points that are looked at for each setting wanted: lists repeat themselves, ranges do not.
MOST_POINTS = 64
MOST_IN_GRID = 100_000
# What of training a space may vary, beside an optimizer's options.
OF_TRAINING = ("schedule", "warmup_steps", "decay_steps", "min_lr_share", "clip_norm")
# Of each range: what a second stage looks at, around the best of the first.
REFINED = 1 / 4


@dataclass(frozen=True)
class Tunable:
    """What a space may vary of a cell: its optimizer's options, and how its model is trained."""

    options: Any
    train: TrainOptions


def settings_of(options: Any) -> dict[str, Any]:
    """What a space may name: an optimizer's options, or what the matrix gives to a class."""
    if isinstance(options, Tunable):
        of_training = {name: getattr(options.train, name) for name in OF_TRAINING}
        return {**of_training, **settings_of(options.options)}
    if isinstance(options, OwnModel | GivenValues):
        return dict(options.settings)
    return {entry.name: getattr(options, entry.name) for entry in dataclasses.fields(options)}


def with_settings(options: Any, settings: Mapping[str, Any]) -> Any:
    """The same options but for these, which become of the type that each option has.

    Those of a class have none here, and stay what they are.
    """
    if isinstance(options, Tunable):
        mine = settings_of(options.options)
        of_optimizer = {key: value for key, value in settings.items() if key in mine}
        of_training = {key: value for key, value in settings.items() if key not in mine}
        return Tunable(
            with_settings(options.options, of_optimizer),
            dataclasses.replace(options.train, **of_training),
        )
    if isinstance(options, OwnModel | GivenValues):
        return dataclasses.replace(options, settings={**options.settings, **settings})
    return dataclasses.replace(options, **settings)


def keys_of(space: Space, options: Any) -> list[str]:
    """The keys of a space that an optimizer has an option for."""
    known = settings_of(options)
    return [key for key in space if key in known]


def to_try(space: Space, options: Any, trials: int, sampler: str, study: int = 1) -> list[Any]:
    """As many settings as `trials`, all different: `options` as they are, then what is sampled.

    The n-th point of a study is the same for every optimizer, and each takes of it what it has an
    option for.

    Raises:
        ValueError: for a space that does not hold so many, a grid that holds another number, or
            settings that do not go together; with its remedy.
    """
    # By their text: of a class's settings Python calls 1, 1.0 and True equal, an identity does not.
    found, keys = {settings_text(space, options): options}, keys_of(space, options)
    whole = sampler == "grid"
    points = grid(space, keys) if whole else sequence(space, study)
    for point in itertools.islice(points, MOST_IN_GRID if whole else MOST_POINTS * trials):
        one = with_settings(options, {key: point[key] for key in keys})
        found.setdefault(settings_text(space, one), one)
        if not whole and len(found) == trials:
            break
    if len(found) != trials:
        there = "is a grid of" if whole else "holds"
        raise ValueError(
            f"the space {there} {len(found)} settings, the untuned one included. Every arm tries "
            "as many: give a number that fits all, or change the space"
        )
    return list(found.values())


def settings_text(space: Space, options: Any) -> str:
    """The settings that a space names, as canonical JSON."""
    known = settings_of(options)
    chosen = {key: known[key] for key in keys_of(space, options)}
    return json.dumps(chosen, sort_keys=True, separators=(",", ":"))


def grid(space: Space, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Every combination of the lists of these keys."""
    lists = [space[key] for key in keys]
    for values in itertools.product(*lists):
        yield dict(zip(keys, values, strict=True))


def sequence(space: Space, study: int = 1) -> Iterator[dict[str, Any]]:
    """Halton's points without their first, which is a corner: evenly spread however many one takes.

    More trials begin as fewer do. Each study has them moved around the space by a share of its own
    (Cranley and Patterson 1976); multiples of square roots of primes put no point on another's.
    """
    for index in itertools.count(1):
        yield {
            key: value_at(values, (radical_inverse(index, base) + (study - 1) * base**0.5) % 1)
            for (key, values), base in zip(space.items(), PRIMES, strict=False)
        }


def around(space: Space, best: Any) -> Space:
    """A part of each range around the best value, as far as the range goes; of a list that value.

    What the best settings lack stays as it is, so that each key keeps its place in the sequence.
    """
    known = settings_of(best)
    return {
        key: _part(values, known[key]) if key in known else values for key, values in space.items()
    }


def _part(values: Values, best: Any) -> Values:
    if isinstance(values, list):
        return [best]
    low, high = (math.log(end) for end in values.ends) if isinstance(values, Log) else values.ends
    middle = math.log(best) if isinstance(values, Log) else best
    half = REFINED * (high - low) / 2
    begin = min(max(middle - half, low), high - 2 * half)
    ends = [begin, begin + 2 * half]
    return (
        Log(log=[math.exp(end) for end in ends]) if isinstance(values, Log) else Linear(linear=ends)
    )


def radical_inverse(index: int, base: int) -> float:
    """The digits of a whole number mirrored at the point: 0 <= u < 1."""
    result, place = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        result += digit * place
        place /= base
    return result


def value_at(values: Values, share: float) -> Any:
    """The value at a share (0 <= share < 1) of a list or a range."""
    if isinstance(values, list):
        return values[int(share * len(values))]
    low, high = values.ends
    if isinstance(values, Log):
        value = math.exp(math.log(low) + (math.log(high) - math.log(low)) * share)
    else:
        value = low + (high - low) * share
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)
