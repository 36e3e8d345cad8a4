"""A comparison as annotations of GitHub: a line each, which any other log shows as it is.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from collections.abc import Iterator

from bench.compare.findings import WORDS, cases, conclusion
from bench.compare.judge import GateStatus, VersionComparison
from bench.statistics.text import printable


def as_annotations(comparison: VersionComparison) -> str:
    """An error for what fails, a warning for what is undecided; one notice for all that passed."""
    return "".join(f"{line}\n" for line in _lines(comparison))


def _lines(comparison: VersionComparison) -> Iterator[str]:
    passed = []
    for case in cases(comparison):
        about = f"{case.arm}: {case.about}" if case.about else case.arm
        if case.outcome is GateStatus.PASS:
            passed.append(f"{case.name}, {about}")
            continue
        command = "error" if comparison.fails(case.outcome) else "warning"
        yield _command(command, f"{WORDS[case.outcome]}: {case.name}", about)
    if passed:
        yield _command("notice", f"{WORDS[GateStatus.PASS]}: {len(passed)}", "\n".join(passed))
    if not comparison.rules:
        yield _command("notice", "bench compare", *conclusion(comparison))


def _command(command: str, title: str, message: str) -> str:
    title = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    return printable(f"::{command} title={title}::{_escaped(message)}")


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
