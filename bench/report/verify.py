"""A bundle -> whether it is whole, and whether its report follows from its CSVs."""

import base64
import hashlib
import re
import tempfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pyarrow.parquet

from bench import __version__
from bench.errors import BenchError, BundleError
from bench.records.cache import sha256_of
from bench.report.archive import MOST_MEMBERS, shown, unpack
from bench.report.build import build_report
from bench.report.bundle import CODE, FOLDERS, IMAGES, SUMS, VERSION, images

MOST_SUMS_BYTES = MOST_MEMBERS * 400  # 64 digits and a name of at most 255 bytes a file
SUM_LINE = re.compile(r"([0-9a-f]{64})  (.+)")  # as sha256sum writes it
VERSION_LINE = re.compile(r"[0-9A-Za-z.+-]{1,40}\n")

PAGE, ROWS = "index.html", "runs.parquet"
PICTURES = (".png", ".svg")  # not compared: they differ with the fonts of a machine

# A picture on the page, embedded or, where the page holds no more of them, linked: which of the two
# depends on the sizes of all. Its alternative text is compared.
FIGURE = re.compile(
    r'<div class="picture"><img src="data:image/png;base64,[A-Za-z0-9+/=]*" alt="([^"]*)"></div>'
    r'|<p><a href="[a-z_]+(?:-\d+)?\.png" title="([^"]*)">[a-z_]+(?:-\d+)?\.png</a> lies beside'
    r" this page, which holds no more pictures\.</p>"
)
# The packed script of the curves: zlib's versions pack the same script into other bytes.
LIBRARY = re.compile(r'<script type="text/plain" id="plotly">([A-Za-z0-9+/=]*)</script>')
MOST_LIBRARY = 64 * 2**20  # bytes, unpacked

AROUND, MOST_SHOWN = 30, 80  # characters before a difference, and of what is shown in all


@dataclass(frozen=True)
class Verification:
    """What checking a bundle found."""

    members: int
    version: str  # of the program that made it; empty if the bundle does not say
    wrong: tuple[str, ...]  # one sentence a fault, with its file; none: verified
    unchecked: tuple[str, ...] = ()  # files of the report of which the CSVs tell nothing


def verify(file: Path) -> Verification:
    """Check a bundle without trusting it, and rebuild its report from its CSVs.

    The report is rebuilt only if every file is what its checksum says.

    Raises:
        BundleError: for a file that is no bundle.
    """
    with tempfile.TemporaryDirectory(prefix="bench-verify-") as scratch:
        place = Path(scratch) / "bundle"
        place.mkdir()
        found = unpack(file, place)
        top = top_of(found.sha256)
        if not top and found.damage:
            return Verification(len(found.sha256), "", (*found.wrong, *found.damage))
        if not top:
            raise BundleError(f"{file} is no bundle: it has no NAME/{SUMS}.")
        sums = _wrong_sums(place, top, found.sha256)
        wrong = [*found.wrong, *sums, *found.damage, *_wrong_code(place / top)]
        version, complaint = _version(place / top / VERSION)
        unchecked: list[str] = []
        if not wrong:
            wrong = [f"{top}/{VERSION}: {complaint}"] if complaint else []
            faults, unchecked = _rebuilt(place / top, Path(scratch) / "published")
            wrong += faults
            if faults and version != __version__:
                wrong.append(_of_another_version(top, version))
        return Verification(len(found.sha256), version, tuple(wrong), tuple(unchecked))


def top_of(members: Iterable[str]) -> str:
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
            wrong.append(f"{top}/{SUMS}: line {number} is not the checksum of one more file")
    names = {f"{top}/{name}": digest for name, digest in stated.items()}
    for name, digest in sorted(names.items()):
        if name not in members:
            wrong.append(f"{shown(name)}: {SUMS} names it, but it is not there")
        elif members[name] != digest:
            wrong.append(f"{name}: its SHA-256 is not the one that {SUMS} states")
    added = sorted(members.keys() - names.keys() - {f"{top}/{SUMS}"})
    return wrong + [f"{name}: {SUMS} does not name it" for name in added]


def _wrong_code(home: Path) -> list[str]:
    """Where code is not what the hash in its name says, which the rows were made with."""
    wrong = []
    for place in sorted((home / CODE).glob("*")):
        paths = [path for path in place.rglob("*") if path.is_file()]
        files = {path.relative_to(place).as_posix(): path.read_bytes() for path in paths}
        if sha256_of(files) != place.name:
            wrong.append(f"{home.name}/{CODE}/{place.name}: is not what its name, a SHA-256, says")
    return wrong


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
    folders, wrong = folders_of(home)
    report = home / "report"
    if report.is_dir():
        report.rename(published)
    try:
        if not wrong:
            build_report(folders, report)
            again = images(folder / "runs.csv" for folder in folders)
    except Exception as error:  # a stranger's CSVs may break anything: that is a finding on them
        kind = "" if isinstance(error, BenchError) else f"{type(error).__name__}: "
        told = shown(f"{kind}{error}".replace(f"{home.parent}/", ""))
        wrong = [f"{home.name}: no report can be made from its CSVs: {told}"]
    if wrong:
        return wrong, []
    faults, unchecked = compare_reports(published, report)
    found = {f"report/{name}": why for name, why in faults.items()}
    if why := compare_texts(home / IMAGES, again.encode()):
        found[IMAGES] = why
    wrong = [f"{home.name}/{name}: {why}" for name, why in found.items()]
    return wrong, [f"{home.name}/report/{name}" for name in unchecked]


def folders_of(home: Path) -> tuple[list[Path], list[str]]:
    """The results folders of a bundle in their order, and what is wrong with the list of them."""
    file = home / FOLDERS
    if not file.is_file():
        return [home], []
    names = file.read_bytes().decode("utf-8", "backslashreplace").splitlines()
    there = {path.name for path in (home / "folders").glob("*")}
    if names and len(set(names)) == len(names) and set(names) == there:
        return [home / "folders" / name for name in names], []
    return [], [f"{home.name}/{FOLDERS}: does not name each folder of folders/ once"]


# --- a published report beside the one that its CSVs give


def compare_reports(published: Path, rebuilt: Path) -> tuple[dict[str, str], list[str]]:
    """(file -> how it differs, files that were not compared), by their names in the folder.

    Not compared are pictures, and what no report has.
    """
    wrong, unchecked = {}, []
    made = sorted(path.name for path in rebuilt.iterdir())
    for name in made:
        if not (published / name).is_file():
            wrong[name] = "is not there"
        elif name.endswith(PICTURES):
            unchecked.append(name)
        elif why := _difference(published / name, rebuilt / name):
            wrong[name] = why
    there = (path for path in sorted(published.rglob("*")) if path.is_file())
    names = (path.relative_to(published).as_posix() for path in there)
    return wrong, unchecked + [name for name in names if name not in made]


def _difference(published: Path, rebuilt: Path) -> str:
    if published.name == ROWS:
        return _compare_rows(published, rebuilt)
    if published.name == PAGE:
        return _in_words(*(_without_pictures(_text(path)) for path in (published, rebuilt)))
    return compare_texts(published, rebuilt.read_bytes())


def compare_texts(published: Path, rebuilt: bytes) -> str:
    """How a text file differs from what the CSVs give; empty if it is the same byte for byte."""
    if not published.is_file():
        return "is not there"
    return _in_words(_text(published), rebuilt.decode("utf-8", "backslashreplace"))


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "backslashreplace")


def _without_pictures(page: str) -> str:
    """A page with words in place of pictures, and a hash in place of the packed script."""
    page = FIGURE.sub(lambda found: f"[picture: {found[1] or found[2] or ''}]", page)
    return LIBRARY.sub(lambda found: f"[script: {_unpacked_sha256(found[1])}]", page)


def _unpacked_sha256(packed: str) -> str:
    try:
        content = zlib.decompressobj(wbits=31).decompress(base64.b64decode(packed), MOST_LIBRARY)
    except (ValueError, zlib.error):
        return "none"
    return hashlib.sha256(content).hexdigest()


def _in_words(published: str, rebuilt: str) -> str:
    """The first line of two texts that differs, and its first field that does."""
    if published == rebuilt:
        return ""
    lines = zip_longest(*(text.split("\n") for text in (published, rebuilt)), fillvalue="")
    number, pair = next((n, pair) for n, pair in enumerate(lines, start=1) if pair[0] != pair[1])
    fields = zip_longest(*(re.split("[,|]", line) for line in pair), fillvalue="")
    was, now = next(pair for pair in fields if pair[0] != pair[1])
    signs = enumerate(zip_longest(was, now))
    alike = next(place for place, (one, other) in signs if one != other)
    start = max(0, alike - AROUND) if max(len(was), len(now)) > MOST_SHOWN else 0
    was, now = (text[start : start + MOST_SHOWN].strip() for text in (was, now))
    return f"does not follow from the CSVs: line {number} says {was!r}, the CSVs {now!r}"


def _compare_rows(published: Path, rebuilt: Path) -> str:
    """By content: another version of pyarrow writes the same rows as other bytes."""
    if published.read_bytes() == rebuilt.read_bytes():
        return ""
    told = "does not follow from the CSVs: "
    expected = pyarrow.parquet.ParquetFile(rebuilt).read()
    try:
        file = pyarrow.parquet.ParquetFile(published)
        shape = (file.metadata.num_rows, file.schema_arrow.names)
        if shape != (expected.num_rows, expected.column_names):
            return f"{told}it has other rows or columns"
        found = file.read()
        for name in expected.column_names:
            pairs = zip(found[name].to_pylist(), expected[name].to_pylist(), strict=True)
            for number, (was, now) in enumerate(pairs, start=1):
                if was != now:
                    return f"{told}row {number}, column {name} says {was!r:.80}, the CSVs {now!r}"
    except Exception as error:  # a stranger's file may break anything: that is a finding on it
        return f"cannot be read ({type(error).__name__})"
    return ""
