"""index.json: all that the page shows, and where the next site finds the bundles."""

import json
from collections.abc import Sequence
from typing import Any

from bench.report.site.facts import BundleArm, BundleFacts
from bench.report.site.findings import verdict_of
from bench.report.site.previous import SCHEMA, SHELF
from bench.report.site.shelf import Volume
from bench.report.site.trend import ArmTrend

REPORTS = "reports"  # each bundle unpacked: reports/STEM/report/index.html, and what it links to


def report_of(volume: Volume) -> str:
    return f"{REPORTS}/{volume.stem}/report/index.html"


def as_index(volumes: Sequence[Volume], arms: Sequence[ArmTrend], repository: str) -> str:
    """The newest bundle first, each with its changes. Equal bundles give equal text."""
    entries = [_entry(volume, _changes(place, arms)) for place, volume in enumerate(volumes)]
    index = {"schema": SCHEMA, "repository": repository, "bundles": entries[::-1]}
    return json.dumps(index, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _entry(volume: Volume, changes: list[dict[str, Any]]) -> dict[str, Any]:
    facts = volume.facts
    return {
        "file": volume.name,
        "href": f"{SHELF}/{volume.name}",
        "sha256": volume.sha256,
        "report": report_of(volume),
        "name": facts.top,
        "first_started_at": facts.first.isoformat(),
        "last_started_at": facts.last.isoformat(),
        "git_commits": facts.commits,
        "git_dirty": facts.dirty,
        "version": facts.version,
        "runs": {"ok": facts.ok, "selected": facts.selected, "told": facts.coverage},
        "hosts": [{"host_id": host, "host_cpu_model": cpu} for host, cpu in facts.hosts.items()],
        "gpu_names": facts.gpus,
        "arms": [_arm(facts, arm) for arm in facts.arms],
        "changes": changes,
    }


def _arm(facts: BundleFacts, arm: BundleArm) -> dict[str, Any]:
    known = [metric for metric in arm.metrics if metric.mean is not None]
    return {
        "series": arm.series,
        "arm_id": arm.arm_id,
        "label": arm.label,
        "host_id": arm.host_id,
        "gpu_name": arm.gpu_name,
        "ends": facts.ends.get(arm.series, {}),
        "figures": {
            metric.name: {
                "mean": metric.mean,
                "by_seed": metric.by_seed,
                "disturbed": not metric.decides,
            }
            for metric in known
        },
    }


def _changes(place: int, arms: Sequence[ArmTrend]) -> list[dict[str, Any]]:
    """Of one bundle; of a ratio the figures are its natural logarithms."""
    found: list[dict[str, Any]] = []
    for arm in arms:
        of = {"series": arm.series, "label": arm.label}
        found += [
            {**of, "verdict": "worse", "failed": dict(failures.statuses), "seeds": failures.seeds}
            for failures in arm.failures
            if failures.bundle == place
        ]
        for trend in arm.trends:
            found += [
                {
                    **of,
                    "verdict": verdict_of(change),
                    "metric": trend.metric,
                    "relative": change.relative,
                    "change": change.amount,
                    "low": change.interval.low,
                    "high": change.interval.high,
                }
                for point in trend.points
                if point.bundle == place and (change := point.change)
            ]
    return found
