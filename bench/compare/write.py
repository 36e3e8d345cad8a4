"""A comparison as text, as Markdown for a pull request, and as JSON for programs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from typing import Any

from bench.compare.across import across_words, unlike
from bench.compare.findings import conclusion, in_unit, interval_words, signed
from bench.compare.judge import Compared, MetricChange, VersionComparison
from bench.compare.pairing import ABOUT, MAY_DIFFER, Joined, PairedArm, Version, brief
from bench.merge.disturbed import MARK
from bench.records.columns import memory_columns
from bench.report.page.content import Heading, table
from bench.report.page.markdown import escape, headed
from bench.report.words import count_words
from bench.statistics.text import (
    aligned,
    printable,
    seed_words,
)

HEADINGS = (
    Heading("metric"),
    *(Heading(text, number=True) for text in ("BASE", "NEW", "change", "interval", "pairs")),
    Heading("verdict"),
)
FIELDS = [(heading, itemgetter(place)) for place, heading in enumerate(HEADINGS)]
SCHEMA = "bench-compare/1"  # of the JSON: a change that a reader would notice gets another number


def as_text(comparison: VersionComparison) -> str:
    """For a terminal; the conclusion last, where it is read."""
    lines = [*_text(comparison), "", *conclusion(comparison)]
    return "\n".join(printable(line) for line in lines) + "\n"


def _text(comparison: VersionComparison) -> Iterator[str]:
    yield from _head(comparison)
    for compared in comparison.arms:
        yield ""
        yield compared.arm.label
        table_of = [[heading.text for heading in HEADINGS], *_table(compared, comparison)]
        yield from (f"  {line}" for line in aligned(table_of, left={0, len(HEADINGS) - 1}))
    if found := list(left_out(comparison)):
        yield ""
        yield from found


def as_markdown(comparison: VersionComparison) -> str:
    """For a pull request or a job's summary: the conclusion first."""
    return "\n".join(_markdown(comparison)) + "\n"


def _markdown(comparison: VersionComparison) -> Iterator[str]:
    first, *further = conclusion(comparison)
    yield f"**{escape(first)}**"
    for sentence in further:
        yield f"\n{escape(sentence)}"
    for compared in comparison.arms:
        rows = _table(compared, comparison)
        yield from headed(table(compared.arm.label, rows, FIELDS), "###")
    yield ""
    for sentence in (*_head(comparison), *left_out(comparison)):
        yield f"- {escape(sentence)}"


def _table(compared: Compared, comparison: VersionComparison) -> list[list[str]]:
    gated = {rule.metric for rule in comparison.rules}
    shown = {
        *("val_loss_final", "step_time_ms_p50", "tokens_per_s", "train_time_s"),
        *("infer_time_ms_p50", "wall_time_s", *memory_columns(compared.arm.device)),
        *compared.arm.setup.declared,
    }
    return [
        _fields(line, line.metric in gated)
        for line in compared.lines
        if line.metric in shown | gated
    ]


def _fields(line: MetricChange, gated: bool) -> list[str]:
    value = line.column.write
    mark = MARK if line.pairs.disturbed else ""
    verdict = f"{line.judgement.verdict}" + (f": {why}" if (why := line.judgement.why) else "")
    return [
        line.metric + (" *" if gated else ""),
        value(line.base_mean) + mark,
        value(line.new_mean) + mark,
        signed(line, line.contrast.mean),
        interval_words(line),
        count_words(line.contrast),
        verdict,
    ]


def _head(comparison: VersionComparison) -> Iterator[str]:
    base, new = comparison.joined.base, comparison.joined.new
    columns = (*MAY_DIFFER, *ABOUT)
    differing = [column for column in columns if base.told(column) != new.told(column)]
    yield f"BASE  {base.name}{_told(base, differing)}"
    yield f"NEW   {new.name}{_told(new, differing)}"
    alike = [column for column in columns if column not in differing]
    yield f"both{_told(base, alike) or ': nothing in common'}"
    yield from across_words(comparison.joined)
    together = len(comparison.arms) * len(comparison.rules)
    shared = f"; the {together} with a rule (*) hold together at 95 %" if together > 1 else ""
    marks = any(line.pairs.disturbed for one in comparison.arms for line in one.lines)
    note = f"; {MARK}: disturbed from outside" if marks else ""
    ratios = "; changes in % are ratios of geometric means"
    yield f"intervals of {100 * comparison.confidence:.4g} % each{shared}{ratios}{note}"


def _told(version: Version, columns: Sequence[str]) -> str:
    """For example ": code_sha256 76dad281, runtime local"; empty if nothing is known."""
    told = []
    for column in columns:
        values = [brief(column, text) for text in version.told(column)]
        if values:
            told.append(f"{column} {' / '.join(values)}")
    return ": " + ", ".join(told) if told else ""


def left_out(comparison: VersionComparison) -> Iterator[str]:
    """What is not compared, and why: a sentence each."""
    joined = comparison.joined
    for which, labels in (("BASE", joined.only_base), ("NEW", joined.only_new)):
        for label in labels:
            yield f"{label}: only in {which}, left out."
    base, new = _company(joined.base), _company(joined.new)
    if base and new and base != new:
        yield f"BASE ran {base}, NEW {new}: times differ by that as well."
    for compared in comparison.arms:
        for text in _left_out_of(compared.arm, comparison.keep_disturbed):
            yield f"{compared.arm.label}: {text}"


def _company(version: Version) -> str:
    """Whether its cells were alone on the machine; empty if that is not known."""
    told = version.told("neighbours")
    if not told:
        return ""
    if "0" not in told:
        return "several cells at once"
    return "one cell at a time" if len(told) == 1 else "some cells alone and some at once"


def _left_out_of(arm: PairedArm, keep_disturbed: bool) -> Iterator[str]:
    for which, seeds in (("BASE", arm.only_base), ("NEW", arm.only_new)):
        if seeds:
            yield f"{seed_words(seeds)} ended only in {which}, left out."
    for which, failed in zip(("BASE", "NEW"), arm.failed, strict=True):
        if failed:
            how = ", ".join(sorted(set(failed.values())))
            yield f"{seed_words(failed)} failed in {which} ({how})."
    if arm.elsewhere:
        which = seed_words(arm.elsewhere)
        yield f"{which} ran on no machine known to be the same: only their losses are compared."
    for which, seeds in zip(("BASE", "NEW"), arm.untold, strict=True):
        if seeds:
            yield f"{seed_words(seeds)} tell no {arm.across} in {which}: not compared."
    if len(arm.sources) > 1:
        yield f"training times are {' and '.join(arm.sources)} (step_time_source): not compared."
    if arm.changed:
        yield "its program, or what it was asked, is another in NEW: joined by name."
    if not arm.setup.is_paired:
        yield "its program seeds itself: its runs are compared as replicates, without pairs."
    if arm.disturbed:
        reasons = sorted({name for found in arm.disturbed.values() for name in found})
        why = f" ({', '.join(reasons)})" if reasons else ""
        kept = "kept, as it falls on either side" if keep_disturbed else "not in the times compared"
        yield f"{seed_words(arm.disturbed)} disturbed from outside{why}: {kept}."


def as_json(comparison: VersionComparison) -> str:
    return json.dumps(as_dict(comparison), indent=2, allow_nan=False) + "\n"


def as_dict(comparison: VersionComparison) -> dict[str, Any]:
    """Everything that is known. Shares are fractions: 0.05 is 5 %."""
    joined = comparison.joined
    return {
        "schema": SCHEMA,
        "outcome": comparison.outcome,
        "conclusion": conclusion(comparison),
        "confidence": comparison.confidence,
        "disturbed_kept": comparison.keep_disturbed,
        "base": _version(joined.base),
        "new": _version(joined.new),
        "across": _across(joined),
        "arms_only_in_base": list(joined.only_base),
        "arms_only_in_new": list(joined.only_new),
        "rules": [str(rule) for rule in comparison.rules],
        "findings": [
            {**asdict(finding), "rule": str(finding.rule) if finding.rule else None}
            for finding in comparison.findings
        ],
        "arms": [_arm(compared) for compared in comparison.arms],
    }


def _across(joined: Joined) -> dict[str, Any] | None:
    """None: in pairs."""
    if not joined.across:
        return None
    differ, unknown = unlike(joined)
    return {"column": joined.across, "differs_as_well": differ, "known_on_one_side": unknown}


def _version(version: Version) -> dict[str, Any]:
    columns = {column: list(version.told(column)) for column in (*MAY_DIFFER, *ABOUT)}
    return {"name": version.name, **columns}


def _arm(compared: Compared) -> dict[str, Any]:
    arm = compared.arm
    failed_base, failed_new = arm.failed
    return {
        "arm_id": arm.arm_id,
        "label": arm.label,
        "seeds": list(arm.seeds),
        "seeds_only_in_base": list(arm.only_base),
        "seeds_only_in_new": list(arm.only_new),
        "seeds_failed_in_base": _keyed(failed_base),
        "seeds_failed_in_new": _keyed(failed_new),
        "seeds_on_other_machines": list(arm.elsewhere),
        "seeds_disturbed": {seed: list(names) for seed, names in _keyed(arm.disturbed).items()},
        "metrics": {line.metric: _line(line) for line in compared.lines},
    }


def _line(line: MetricChange) -> dict[str, Any]:
    contrast, interval = line.contrast, line.contrast.interval
    return {
        "change_is": "share" if contrast.relative else "difference",
        "base_mean": line.base_mean,
        "new_mean": line.new_mean,
        "change": in_unit(line, contrast.mean),
        "low": in_unit(line, interval.low) if interval else None,
        "high": in_unit(line, interval.high) if interval else None,
        "pairs": contrast.n if contrast.is_paired else None,
        **({} if contrast.is_paired else {"runs_new_base": [*map(len, contrast.groups)]}),
        "disturbed": line.pairs.disturbed,
        "decides": line.pairs.decides,
        "verdict": line.judgement.verdict,
        "why": line.judgement.why,
        "base_by_seed": _keyed(line.pairs.base),
        "new_by_seed": _keyed(line.pairs.new),
    }


def _keyed(by_seed: Mapping[int, Any]) -> dict[str, Any]:
    """A key of JSON is text."""
    return {str(seed): value for seed, value in by_seed.items()}
