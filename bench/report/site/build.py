"""Bundles -> a site: a folder for a web server, all of it made anew from the bundles in it.

index.html  index.json     what this program says of them
bundles/NAME.tar.gz        the only truth: the site is made from these files
reports/NAME/              each unpacked, with its report in reports/NAME/report/
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.border.atomic import write_atomically
from bench.errors import BundleError, FolderError, RequestError
from bench.report.archive import shown
from bench.report.site.facts import read_bundle
from bench.report.site.findings import findings
from bench.report.site.index import REPORTS, as_index
from bench.report.site.page import finding_line, lead, site_page
from bench.report.site.previous import INDEX, SHELF, PreviousSite
from bench.report.site.shelf import (
    Volume,
    files_on,
    name_for,
    pruned,
    sha256_at,
    without_repeats,
)
from bench.report.site.trend import arm_trends
from bench.report.verify import verify

PAGE = "index.html"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Site:
    page: Path
    lead: str  # what it says in one sentence
    changes: tuple[str, ...]  # a line each, the newest first


def build_site(
    out: Path, bundles: Sequence[Path], previous: str | None, repository: str, say: Say
) -> Site:
    """Put bundles into a site and make it anew. Where that fails, the site is as it was.

    `previous` is the address or folder of the site as it is published: what it has stays. Only
    `bundles` are verified; the others were when they came in, and have their SHA-256.

    Raises:
        RequestError: for an address that is none, or no bundle at all.
        FolderError: for an `out` that is no site, or cannot be written.
        BundleError: for a bundle that is not verified or cannot be read; for a previous site that
            cannot be read, though it is there.
    """
    if repository and urlsplit(repository).scheme not in ("http", "https"):
        raise RequestError(f"--repository {shown(repository)}: give its address, https://...")
    site = PreviousSite(previous) if previous else None
    _check_place(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".site-", dir=out) as scratch:
            place = Path(scratch)
            files = _stored(out / SHELF, site, place / "fetched", say)
            volumes = _volumes(files, bundles, place / "read", say)
            return _write(out, volumes, repository.rstrip("/"), place)
    except OSError as error:
        raise FolderError(f"{out}: the site cannot be made: {error}.") from error


def _check_place(out: Path) -> None:
    """A folder that holds something else is not written over."""
    taken = [name for name in (PAGE, REPORTS) if (out / name).exists()]
    if taken and not (out / INDEX).is_file():
        raise FolderError(
            f"{out} is no site: it has {', '.join(taken)} and no {INDEX}. Give another folder."
        )


def _stored(shelf: Path, site: PreviousSite | None, place: Path, say: Say) -> dict[str, Path]:
    """Name -> file of the bundles that are here, and of those that the previous site has."""
    files = files_on(shelf)
    stated = site.stated() if site else {}
    if stated is None:
        assert site is not None
        say(f"{site.where} has no {INDEX}: this is a new site")
        return files
    for name in stated.keys() & files.keys():
        if sha256_at(files[name]) != stated.pop(name):
            assert site is not None
            raise BundleError(
                f"{files[name]} is another file than {site.where}/{SHELF}/{name}. Take one away."
            )
    if site and stated:
        say(f"{site.where}: {len(stated)} bundles fetched")
        files |= site.fetch(stated, place)
    return files


def _volumes(
    files: Mapping[str, Path], bundles: Sequence[Path], place: Path, say: Say
) -> list[Volume]:
    """The bundles of the new site, oldest first."""
    stored = [_read(file, name, place) for name, file in files.items()]
    shas = {volume.sha256: volume.name for volume in stored}
    given: list[Volume] = []
    for file in bundles:
        if there := shas.get(sha256_at(file) if file.is_file() else ""):
            say(f"{file} is there already: {there}")
            continue
        _check(file)
        volume = _read(file, "", place)
        name = name_for(volume.facts, volume.sha256, {each.name: each for each in stored + given})
        given.append(Volume(name, file, volume.sha256, volume.facts))
        shas[volume.sha256] = name
    volumes, repeats = without_repeats([*stored, *given], given)
    kept, left = pruned(volumes)
    for told in (*repeats, *left):
        say(told)
    if not kept:
        raise RequestError("there is no bundle for this site. Name one: FILE.tar.gz of `bundle`.")
    return kept


def _read(file: Path, name: str, place: Path) -> Volume:
    sha256 = sha256_at(file)
    return Volume(name, file, sha256, read_bundle(file, place / sha256))


def _check(file: Path) -> None:
    verdict = verify(file)
    if verdict.wrong:
        raise BundleError("\n".join([f"{file} is not verified:", *verdict.wrong]))


def _write(out: Path, volumes: Sequence[Volume], repository: str, place: Path) -> Site:
    """All is in `place` and was read; from here on only a disk can fail."""
    arms = arm_trends([volume.facts for volume in volumes])
    index, page = as_index(volumes, arms, repository), site_page(volumes, arms, repository)
    shelf = out / SHELF
    shelf.mkdir(exist_ok=True)
    for volume in volumes:
        if volume.file.parent != shelf:
            shutil.copyfile(volume.file, place / volume.name)
            (place / volume.name).replace(shelf / volume.name)
    write_atomically(out / INDEX, index)
    for name in files_on(shelf).keys() - {volume.name for volume in volumes}:
        (shelf / name).unlink()
    reports = place / REPORTS
    reports.mkdir()
    for volume in volumes:
        volume.facts.home.rename(reports / volume.stem)
    if (out / REPORTS).exists():
        (out / REPORTS).rename(place / "former")
    reports.rename(out / REPORTS)
    write_atomically(out / PAGE, page)
    found = findings(arms)
    changes = tuple(finding_line(finding, volumes) for finding in found)
    return Site(out / PAGE, lead(volumes, found), changes)
