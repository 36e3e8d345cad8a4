"""python -m bench.worker.check CELL_FOLDER TOKENS... [CODE...]: whether a brought class holds.

On a toy task of its own, on the cell's device. What it finds goes into result.json; a check that
fails says what is wrong and what to change.
"""

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.border.identity import PACKAGE, code_sha256
from bench.border.spec import CellFiles, RunSpec, read_arguments
from bench.border.surroundings import RUNNER_GONE
from bench.worker.lifeline import TerminatedError, hold_on_to_runner
from bench.worker.protocol import Speaker, log, write_json

KEPT = (
    "what the model keeps from one pass to the next must not depend on parameters. Compute that in "
    "every pass"
)
CLOSURE = "If it is to get a closure, say so in the matrix: `wants: closure`"
BACKWARD = "A closure computes the gradients itself: call no backward() after it"
# Part of what PyTorch and others say -> what it means for the class.
HINTS = {
    "backward through the graph a second time": f"In other words: {KEPT}",
    "does not have a grad_fn": "Its step takes gradients of gradients, which a run does not keep "
    "(backward(create_graph=True)): such an optimizer cannot be run",
    "Tensor.__contains__ only supports": "It wants parameter groups: give it `groups`",
    "NotImplementedError": "It has no step of its own: one that updates during the backward pass "
    "cannot be run",
    "'NoneType' object is not callable": CLOSURE,
    "requires closure": CLOSURE,
}

Finding = dict[str, Any]  # {"check": name, "ok": bool, "text": what it says}
# Of the files of a cell, what they ask, and the files of its corpus.
Examine = Callable[[CellFiles, RunSpec, Sequence[Path], Speaker], Iterator[Finding]]


def main(examine: Examine) -> int:
    hold_on_to_runner()
    code_sha256()  # of the files that are about to be imported
    importlib.import_module("bench.worker.cell")
    say = Speaker()
    try:
        files, tokens, code = read_arguments(sys.argv[1:])
        sys.path += code  # now, as in a cell
        spec = RunSpec.from_json(files.spec.read_text(encoding="utf-8"))
        findings = []
        for found in examine(files, spec, tokens, say):
            say(stage=found["check"])
            findings.append(found)
    except TerminatedError:
        return RUNNER_GONE
    write_json(files.result, {"code_sha256": code_sha256(), "findings": findings})
    return 0


def examine(
    files: CellFiles, spec: RunSpec, tokens: Sequence[Path], say: Speaker
) -> Iterator[Finding]:
    """A finding for each check of the class that a spec names."""
    from bench.worker.conformance import checks_of
    from bench.worker.data import read_corpus

    told = set[str]()
    vocab_size = read_corpus(tokens, spec.corpus, spec.data).vocab_size
    for name, look in checks_of(spec, vocab_size):
        found = finding(name, look)
        if found["ok"] or found["text"] not in told:  # one fault may fail several checks
            yield found
        told.add(found["text"])
        if not found["ok"] and name in ("class", "logits"):
            return  # nothing more can be said of what cannot be made, or gives no logits


def finding(name: str, look: Callable[[], str]) -> Finding:
    from bench.worker.classes import WrongClassError

    try:
        return {"check": name, "ok": True, "text": look()}
    except WrongClassError as error:
        return {"check": name, "ok": False, "text": str(error)}
    except Exception as error:
        log(traceback.format_exc())
        text = ": ".join(filter(None, [type(error).__name__, str(error).rstrip(".")]))
        line = _own_line(error)
        hints = [hint for part, hint in HINTS.items() if part in text]
        if _goes_back(error):
            hints = [BACKWARD]
        text += line
        return {"check": name, "ok": False, "text": ". ".join([text, *hints])}


def _goes_back(error: Exception) -> bool:
    """Whether a backward() is to blame that neither we nor PyTorch called."""
    import torch

    known = (str(PACKAGE), str(Path(torch.__file__).parent))
    frames = traceback.extract_tb(error.__traceback__)
    others = [frame.line or "" for frame in frames if not frame.filename.startswith(known)]
    return any(".backward(" in line for line in others)


def _own_line(error: Exception) -> str:
    """Where it was raised: the author's line, if it is of theirs."""
    frames = traceback.extract_tb(error.__traceback__)
    # Folders of code, perhaps after files of tokens, in which no frame is.
    given = sys.argv[3:]
    brought = [frame for frame in frames if any(map(frame.filename.startswith, given))]
    if not brought:
        return ""
    last = brought[-1]
    return f" ({Path(last.filename).name}, line {last.lineno}: {last.line})"


if __name__ == "__main__":
    sys.exit(main(examine))
