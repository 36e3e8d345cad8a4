"""The bundles of a site: what they are called, which of them stay."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BundleError
from bench.report.bundle import SUFFIX
from bench.report.site.facts import BundleFacts
from bench.report.site.trend import MOST_BUNDLES

# GitHub Pages takes 1 GB: bundles and what is unpacked of them, with room for the index.
MOST_SITE_BYTES = 900 * 2**20

# When its last run started, of which commit, and of what: it sorts by time.
NAME = re.compile(r"\d{8}T\d{4}Z-[0-9A-Za-z]{1,12}-[0-9A-Za-z][0-9A-Za-z._-]{0,99}\.tar\.gz")
COMMIT_DIGITS, SHA_DIGITS = 7, 8


@dataclass(frozen=True)
class Volume:
    """A bundle of a site."""

    name: str  # of its file
    file: Path  # where it lies now
    sha256: str  # of the file
    facts: BundleFacts

    @property
    def stem(self) -> str:
        """Of its folder in reports/."""
        return self.name.removesuffix(SUFFIX)

    @property
    def size(self) -> int:
        """Bytes that it takes, unpacked as well."""
        return self.file.stat().st_size + self.facts.size


def sha256_at(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def files_on(shelf: Path) -> dict[str, Path]:
    """Name -> file of all that lies in a site's folder of bundles.

    Raises:
        BundleError: for what was not put there by its name.
    """
    found = {path.name: path for path in sorted(shelf.glob("*")) if path.name[0] != "."}
    for name, path in found.items():
        if not NAME.fullmatch(name) or path.is_symlink() or not path.is_file():
            raise BundleError(
                f"{path} is no bundle that a site was given: these are named by time, commit and "
                "folder. Take it away, and name it on the command line."
            )
    return found


def name_for(facts: BundleFacts, sha256: str, taken: Mapping[str, object]) -> str:
    """A name that no other bundle has."""
    commit = facts.commits[0][:COMMIT_DIGITS] if facts.commits else ""
    commit = re.sub(r"[^0-9A-Za-z]", "", commit) or "unknown"
    top = re.sub(r"[^0-9A-Za-z._-]+", "-", facts.top).strip("._-")[:80] or "results"
    stem = f"{facts.last:%Y%m%dT%H%MZ}-{commit}-{top}"
    name = f"{stem}{SUFFIX}"
    return name if name not in taken else f"{stem}-{sha256[:SHA_DIGITS]}{SUFFIX}"


def without_repeats(
    volumes: Sequence[Volume], given: Sequence[Volume]
) -> tuple[list[Volume], list[str]]:
    """Each run in one bundle alone, and a sentence a bundle that is left out for that.

    A run that stood in two would count twice. Where all runs of one are in another, it is an older
    state of the same results, or the same with a report of another day.

    Raises:
        BundleError: for two that have some runs in common, and each others of its own.
    """
    left: dict[str, str] = {}  # name -> that of the bundle that has all its runs
    for place, one in enumerate(volumes):
        for other in volumes[place + 1 :]:
            if {one.name, other.name} & left.keys() or not one.facts.runs & other.facts.runs:
                continue
            less, more = _older_state(one, other, given)
            left[less.name] = more.name
    told = [f"{less} is left out: all its runs are in {more}" for less, more in left.items()]
    return [volume for volume in volumes if volume.name not in left], told


def _older_state(one: Volume, other: Volume, given: Sequence[Volume]) -> tuple[Volume, Volume]:
    """(the one whose runs the other has, the other); of equal ones a given one stays."""
    alike = one.facts.runs == other.facts.runs
    if alike:
        return (one, other) if other in given else (other, one)
    if one.facts.runs < other.facts.runs:
        return one, other
    if other.facts.runs < one.facts.runs:
        return other, one
    raise BundleError(
        f"{one.name} and {other.name} have runs in common, which would count twice, and neither "
        "has all runs of the other. Publish one of them, or one bundle of both."
    )


def pruned(volumes: Sequence[Volume]) -> tuple[list[Volume], list[str]]:
    """The newest that fit, oldest first; and a sentence on each of the others.

    The newest one stays whatever its size is.
    """
    newest = sorted(volumes, key=lambda volume: volume.name, reverse=True)
    kept, room = 0, MOST_SITE_BYTES
    for volume in newest[:MOST_BUNDLES]:
        room -= volume.size
        if kept and room < 0:
            break
        kept += 1
    why = (
        f"a site holds {MOST_BUNDLES} bundles of {MOST_SITE_BYTES // 2**20} MiB, unpacked ones too"
    )
    return newest[:kept][::-1], [f"pruned: {volume.name} ({why})" for volume in newest[kept:]]
