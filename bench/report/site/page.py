"""index.html of a site: changes, then each arm's figures from bundle to bundle, then bundles."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from bench.report.page.html import STYLE, environment, own
from bench.report.site.drawing import Panel, panel
from bench.report.site.findings import Finding, findings
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
    found = findings(arms)
    newest = len(volumes) - 1
    present = set(volumes[newest].facts.labels)
    template = resources.files("bench.report.site").joinpath("site.html").read_text("utf-8")
    style = resources.files("bench.report.site").joinpath("site.css").read_text("utf-8")
    return (
        environment()
        .from_string(template)
        .render(
            policy=POLICY,
            style=own(STYLE) + style,
            lead=lead(volumes, found),
            newest=views[newest],
            coverage=volumes[newest].facts.coverage,
            views=views,
            listed=found[:MOST_LISTED],
            older=found[MOST_LISTED:],
            current=[_arm_view(arm, views) for arm in arms if arm.series in present],
            former=[_arm_view(arm, views) for arm in arms if arm.series not in present],
            index=INDEX,
            most_bundles=MOST_BUNDLES,
            most_mib=MOST_SITE_BYTES // 2**20,
            least_bundles=LEAST_BUNDLES,
            least_seeds=LEAST_SEEDS_LOSS,
        )
    )


def lead(volumes: Sequence[Volume], found: Sequence[Finding]) -> str:
    """The page in one sentence."""
    first, last = (f"{volumes[place].facts.last:%Y-%m-%d}" for place in (0, -1))
    days = first if first == last else f"{first} to {last}"
    worse, better = (
        sum(bool(getattr(each, kind)) for each in found) for kind in ("worse", "better")
    )
    told = [f"{number} for the {kind}" for number, kind in ((worse, "worse"), (better, "better"))]
    amount = counted(len(found), "change") if found else "No change"
    detail = f" ({', '.join(told)})" if found else ""
    return f"{amount}{detail} in {counted(len(volumes), 'bundle')}, {days}."


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
    places = sorted({point.bundle for trend in arm.trends for point in trend.points})
    places = sorted({*places, *(each.bundle for each in arm.failures)}) if places else []

    def about(place: int) -> tuple[str, str]:
        return f"{views[place].when} {views[place].commit}", views[place].report

    panels = tuple(
        panel(trend, arm.failures if first else (), places, about)
        for first, trend in zip([True] + [False] * len(arm.trends), arm.trends, strict=False)
    )
    told = []
    if not panels:
        told.append("No run of it ended ok.")
    if len(places) < len(views) and panels:
        told.append(f"In {len(places)} of {len(views)} bundles.")
    if any(panel.has_hollow for panel in panels):
        told.append(
            "Hollow: from another machine than most, or disturbed from outside; "
            "not compared with the others."
        )
    return ArmView(arm.label, " ".join(told), panels)
