"""index.html of a site: changes, then each arm's figures from bundle to bundle, then bundles."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2

from bench.report.page.html import STYLE, environment, own
from bench.report.site.drawing import Panel, panels
from bench.report.site.findings import BETTER, WORSE, Finding, findings
from bench.report.site.index import report_of
from bench.report.site.previous import INDEX, SHELF
from bench.report.site.shelf import COMMIT_DIGITS, MOST_SITE_BYTES, Volume
from bench.report.site.trend import LEAST_BUNDLES, MOST_BUNDLES, ArmTrend
from bench.report.titles import short
from bench.statistics.text import NOT_AVAILABLE, counted
from bench.statistics.verdict import LEAST_SEEDS_LOSS

MOST_LISTED = 12  # changes in sight; the older ones open on a click
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class VolumeView:
    """A bundle as the page names it."""

    day: str
    when: str
    commit: str
    dirty: bool
    commit_href: str  # empty: no link
    name: str
    version: str
    runs: str
    all_ok: bool
    machine: str
    report: str
    file: str
    file_href: str


@dataclass(frozen=True)
class ArmView:
    label: str
    about: str  # what a reader must know of it; empty: nothing
    panels: tuple[Panel, ...]


def site_page(volumes: Sequence[Volume], arms: Sequence[ArmTrend], repository: str) -> str:
    """The page as HTML, of bundles in order of time; every text of a bundle is escaped."""
    views = [_view(volume, repository) for volume in volumes]
    newest = {volume.facts.top: volume.facts.labels for volume in volumes}  # of each name
    current = {series for labels in newest.values() for series in labels}
    shown = {arm.series: _arm_view(arm, views) for arm in arms}
    found = findings(arms)
    return _template().render(
        policy=POLICY,
        style=own(STYLE) + _own("site.css"),
        lead=lead(volumes, found),
        newest=views[-1],
        coverage=volumes[-1].facts.coverage,
        views=views,
        listed=found[:MOST_LISTED],
        older=found[MOST_LISTED:],
        changed=_changed(found),
        current=[view for series, view in shown.items() if series in current],
        former=[view for series, view in shown.items() if series not in current],
        has_hollow=any(panel.has_hollow for view in shown.values() for panel in view.panels),
        index=INDEX,
        most_bundles=MOST_BUNDLES,
        most_mib=MOST_SITE_BYTES // 2**20,
        least_bundles=LEAST_BUNDLES,
        least_seeds=LEAST_SEEDS_LOSS,
    )


def _template() -> jinja2.Template:
    return environment().from_string(_own("site.html"))


def _own(name: str) -> str:
    return resources.files("bench.report.site").joinpath(name).read_text(encoding="utf-8")


def lead(volumes: Sequence[Volume], found: Sequence[Finding]) -> str:
    """The page in one sentence."""
    worse, better = (
        sum(bool(each.worse) for each in found),
        sum(bool(each.better) for each in found),
    )
    told = [f"{counted(worse, 'change')} for the worse"] if worse else []
    if better:
        told.append(f"{better if worse else counted(better, 'change')} for the better")
    return f"{' and '.join(told) or 'No change'} in {counted(len(volumes), 'bundle')}."


def _changed(found: Sequence[Finding]) -> dict[int, list[str]]:
    """Place of a bundle -> worse, better: what the table says of it."""
    words: dict[int, list[str]] = {}
    for kind in (WORSE, BETTER):
        for finding in found:
            if getattr(finding, kind) and kind not in words.setdefault(finding.bundle, []):
                words[finding.bundle].append(kind)
    return words


def finding_line(finding: Finding, volumes: Sequence[Volume]) -> str:
    """For example "2026-11-20 71dc691: nanokimi + adamw, cpu: worse: step time +12.3 % (...)"."""
    view = _view(volumes[finding.bundle], "")
    return f"{view.day} {view.commit}: {finding.label}: {finding}"


def _view(volume: Volume, repository: str) -> VolumeView:
    facts = volume.facts
    commits = [commit[:COMMIT_DIGITS] for commit in facts.commits]
    linked = repository and len(commits) == 1
    return VolumeView(
        day=f"{facts.last:%Y-%m-%d}",
        when=f"{facts.last:%Y-%m-%d %H:%M}",
        commit=", ".join(commits) or NOT_AVAILABLE,
        dirty=facts.dirty,
        commit_href=f"{repository}/commit/{facts.commits[0]}" if linked else "",
        name=facts.top,
        version=facts.version or NOT_AVAILABLE,
        runs=f"{facts.ok} of {facts.selected}",
        all_ok=facts.ok == facts.selected,
        machine=_machine(volume),
        report=report_of(volume),
        file=volume.name,
        file_href=f"{SHELF}/{volume.name}",
    )


def _machine(volume: Volume) -> str:
    """Its GPUs, or else processors; with the machine's digits, for two may be of one kind."""
    facts = volume.facts
    kinds = facts.gpus or tuple(dict.fromkeys(filter(None, facts.hosts.values())))
    hosts = ", ".join(short(host) for host in facts.hosts)
    return f"{', '.join(kinds) or 'unknown'} ({hosts})" if hosts else NOT_AVAILABLE


def _arm_view(arm: ArmTrend, views: Sequence[VolumeView]) -> ArmView:
    told = {point.bundle for trend in arm.trends for point in trend.points}
    places = sorted(told | {each.bundle for each in arm.failures})

    def about(place: int) -> tuple[str, str]:
        return f"{views[place].when} {views[place].commit}", views[place].report

    if not arm.trends:
        return ArmView(arm.label, "No run of it ended ok.", ())
    some = f"In {len(places)} of {len(views)} bundles." if len(places) < len(views) else ""
    return ArmView(arm.label, some, panels(arm, places, about))
