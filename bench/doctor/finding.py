"""What the doctor found, a line each, and what follows for the two benchmarks."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

CPU, GPU = "bench-cpu", "bench-gpu"  # as in `make bench-cpu`
BOTH = (CPU, GPU)

State = Literal["ok", "warning", "problem", "unknown"]


@dataclass(frozen=True)
class Answer:
    """What a check says. Only a problem keeps a benchmark from running."""

    state: State
    text: str
    remedy: str | None = None


ok = partial(Answer, "ok")
warning = partial(Answer, "warning")
problem = partial(Answer, "problem")
unknown = partial(Answer, "unknown")


def explained(error: Exception) -> tuple[str, str | None]:
    """Text and remedy of our own errors, which say what is wrong first and what to do then."""
    # A sentence begins with a capital; a dot before anything else may be the current folder.
    text, *remedy = re.split(r"\. (?=[A-Z])", str(error).rstrip("."), maxsplit=1)
    return text, remedy[0][:1].lower() + remedy[0][1:] if remedy else None


@dataclass(frozen=True)
class Diagnosis:
    check: str
    state: State
    text: str
    remedy: str | None
    concerns: tuple[str, ...]  # the benchmarks


def checked(
    check: str,
    look: Callable[[], Answer],
    concerns: tuple[str, ...] = BOTH,
    needed: bool = False,
) -> Diagnosis:
    """What `look` says; an error that it did not foresee is a finding as well.

    `check`: where it is a problem, this tells what the benchmarks need.
    `needed`: if the check itself fails, the benchmarks do not count as ready.
    """
    try:
        answer = look()
    except Exception as error:
        text = f"this check itself failed: {type(error).__name__}: {error}"
        answer = problem(text) if needed else unknown(text)
    text = " ".join(answer.text.split())  # an engine's words may span lines
    return Diagnosis(check, answer.state, text, answer.remedy, concerns)


def missing(findings: Sequence[Diagnosis], benchmark: str) -> list[str]:
    """What a benchmark lacks, each with its remedy in brackets; nothing if it is ready."""
    return [
        f"{finding.check} ({finding.remedy})" if finding.remedy else finding.check
        for finding in findings
        if finding.state == "problem" and benchmark in finding.concerns
    ]


def as_lines(findings: Sequence[Diagnosis]) -> Iterator[str]:
    """A line each, its remedy below it, and a closing line for each benchmark."""
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        yield f"{finding.state:<8} {finding.check:<{width}}  {finding.text}"
        if finding.remedy:
            yield f"{'':<8} {'':<{width}}  -> {finding.remedy}"
    for benchmark in BOTH:
        lacks = missing(findings, benchmark)
        yield f"{benchmark}: {'needs ' + ', '.join(lacks) if lacks else 'ready'}"


def as_dict(findings: Sequence[Diagnosis]) -> dict[str, Any]:
    """The same for programs."""
    lacking = {benchmark: missing(findings, benchmark) for benchmark in BOTH}
    return {
        "findings": [asdict(finding) for finding in findings],
        "ready": {benchmark: not lacks for benchmark, lacks in lacking.items()},
        "missing": lacking,
    }
