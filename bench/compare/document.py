"""A comparison as JSON: everything that is known, for programs."""

import json
from collections.abc import Mapping
from typing import Any

from bench.compare.judge import Compared, MetricChange, VersionComparison
from bench.compare.versions import ABOUT, MAY_DIFFER, Version
from bench.compare.write import conclusion, in_unit

SCHEMA = "bench-compare/1"  # a change that a reader would notice gets another number


def as_json(comparison: VersionComparison) -> str:
    return json.dumps(as_dict(comparison), indent=2, allow_nan=False) + "\n"


def as_dict(comparison: VersionComparison) -> dict[str, Any]:
    """Everything that is known, for programs. Shares are fractions: 0.05 is 5 %."""
    joined = comparison.joined
    return {
        "schema": SCHEMA,
        "outcome": comparison.outcome,
        "conclusion": conclusion(comparison),
        "confidence": comparison.confidence,
        "disturbed_kept": comparison.keep_disturbed,
        "base": _version(joined.base),
        "new": _version(joined.new),
        "arms_only_in_base": list(joined.only_base),
        "arms_only_in_new": list(joined.only_new),
        "rules": [str(rule) for rule in comparison.rules],
        "findings": [
            {
                "rule": str(finding.rule) if finding.rule else None,
                "arm": finding.arm,
                "outcome": finding.outcome,
                "why": finding.why,
            }
            for finding in comparison.findings
        ],
        "arms": [_arm(compared) for compared in comparison.arms],
    }


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
    mean = contrast.mean
    return {
        "change_is": "share" if contrast.relative else "difference",
        "base_mean": line.base_mean,
        "new_mean": line.new_mean,
        "change": None if mean is None else in_unit(line, mean),
        "low": None if interval is None else in_unit(line, interval.low),
        "high": None if interval is None else in_unit(line, interval.high),
        "pairs": contrast.n,
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
