"""A bundle -> whether it is whole, and whether its report follows from its CSVs."""

import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import __version__
from bench.errors import BenchError, BundleError
from bench.report.archive import MOST_MEMBERS, shown, unpack
from bench.report.build import build_report
from bench.report.bundle import FOLDERS, IMAGES, SUMS, VERSION, images
from bench.report.follows import compare_reports, compare_texts

MOST_SUMS_BYTES = MOST_MEMBERS * 400  # 64 digits and a name of at most 255 bytes a file
SUM_LINE = re.compile(r"([0-9a-f]{64})  (.+)")  # as sha256sum writes it
VERSION_LINE = re.compile(r"[0-9A-Za-z.+-]{1,40}\n")


@dataclass(frozen=True)
class Verdict:
    """What checking a bundle found."""

    members: int
    version: str  # of the program that made it; empty if the bundle does not say
    wrong: tuple[str, ...]  # one sentence a fault, with its file; none: verified
    unchecked: tuple[str, ...] = ()  # files of the report of which the CSVs tell nothing


def verify(file: Path) -> Verdict:
    """Check a bundle without trusting it, and rebuild its report from its CSVs.

    The report is rebuilt only if every file is what its checksum says.

    Raises:
        BundleError: for a file that is no bundle.
    """
    with tempfile.TemporaryDirectory(prefix="bench-verify-") as scratch:
        place = Path(scratch) / "bundle"
        place.mkdir()
        found = unpack(file, place)
        top = _top(found.sha256)
        if not top and found.damage:
            return Verdict(len(found.sha256), "", (*found.wrong, *found.damage))
        if not top:
            raise BundleError(f"{file} is no bundle: it has no NAME/{SUMS}.")
        sums = _wrong_sums(place, top, found.sha256)
        wrong = [*found.wrong, *sums, *found.damage]
        version, complaint = _version(place / top / VERSION)
        unchecked: list[str] = []
        if not wrong:
            wrong = [f"{top}/{VERSION}: {complaint}"] if complaint else []
            faults, unchecked = _rebuilt(place / top, Path(scratch) / "published")
            wrong += faults
            if faults and version != __version__:
                wrong.append(_of_another_version(top, version))
        return Verdict(len(found.sha256), version, tuple(wrong), tuple(unchecked))


def _top(members: Iterable[str]) -> str:
    """The one folder that holds all; empty if none has checksums."""
    tops = (name.removesuffix(f"/{SUMS}") for name in members if name.endswith(f"/{SUMS}"))
    return next((top for top in tops if "/" not in top), "")


def _wrong_sums(place: Path, top: str, members: dict[str, str]) -> list[str]:
    """Where the members and their checksums disagree."""
    stated, wrong = {}, []
    file = place / top / SUMS
    if file.stat().st_size > MOST_SUMS_BYTES:
        return [f"{top}/{SUMS}: is larger than the checksums of {MOST_MEMBERS:,} files"]
    text = file.read_bytes().decode("utf-8", "backslashreplace")
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        found = SUM_LINE.fullmatch(line)
        if found and found[2] not in stated:
            stated[found[2]] = found[1]
        else:
            wrong.append(f"{top}/{SUMS}: line {number} is no checksum of a further file")
    names = {f"{top}/{name}": digest for name, digest in stated.items()}
    for name, digest in sorted(names.items()):
        if name not in members:
            wrong.append(f"{shown(name)}: {SUMS} names it, but it is not there")
        elif members[name] != digest:
            wrong.append(f"{name}: its SHA-256 is not the one that {SUMS} states")
    added = sorted(members.keys() - names.keys() - {f"{top}/{SUMS}"})
    return wrong + [f"{name}: {SUMS} does not name it" for name in added]


def _version(file: Path) -> tuple[str, str]:
    """The version that made the bundle, and what is wrong with the file that says so."""
    try:
        text = file.read_bytes()[:100].decode("ascii", "replace")
    except OSError:
        return "", "is not there"
    if not VERSION_LINE.fullmatch(text):
        return "", "is no version of this program"
    return text.strip(), ""


def _of_another_version(top: str, version: str) -> str:
    return (
        f"{top}: version {version or 'unknown'} made it, this is {__version__}, and a report may "
        "differ between them. Verify it with the version that made it."
    )


def _rebuilt(home: Path, published: Path) -> tuple[list[str], list[str]]:
    """What this program makes otherwise of the CSVs in `home`, and what it says nothing of.

    The report is made anew where it lies, since its links to the logs are part of what is compared;
    what was published is moved to `published`.
    """
    folders, wrong = _folders(home)
    report = home / "report"
    if report.is_dir():
        report.rename(published)
    try:
        if not wrong:
            build_report(folders, report)
            again = images(folder / "runs.csv" for folder in folders)
    except BenchError as error:
        wrong = [_no_report(home, str(error))]
    except Exception as error:  # a stranger's CSVs may break anything: that is a finding on them
        wrong = [_no_report(home, f"{type(error).__name__}: {error}")]
    if wrong:
        return wrong, []
    faults, unchecked = compare_reports(published, report)
    found = {f"report/{name}": why for name, why in faults.items()}
    if why := compare_texts(home / IMAGES, again.encode()):
        found[IMAGES] = why
    told = [f"{home.name}/{name}: {why}" for name, why in found.items()]
    return told, [f"{home.name}/report/{name}" for name in unchecked]


def _folders(home: Path) -> tuple[list[Path], list[str]]:
    """The results folders of a bundle in their order, and what is wrong with the list of them."""
    file = home / FOLDERS
    if not file.is_file():
        return [home], []
    names = file.read_bytes().decode("utf-8", "backslashreplace").splitlines()
    there = {path.name for path in (home / "folders").glob("*")}
    if names and len(set(names)) == len(names) and set(names) == there:
        return [home / "folders" / name for name in names], []
    return [], [f"{home.name}/{FOLDERS}: does not name each folder of folders/ once"]


def _no_report(home: Path, why: str) -> str:
    told = shown(why.replace(f"{home.parent}/", ""))
    return f"{home.name}: no report follows from its CSVs: {told}"
