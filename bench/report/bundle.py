"""A results folder <-> one file to publish, which anybody can check and rebuild the report from.

The file holds `NAME/...` and, last, `NAME/SHA256SUMS` over everything before it.
"""

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from bench import __version__
from bench.atomic import write_atomically
from bench.errors import BenchError, BundleError, FolderError, RequestError
from bench.folder import ResultsFolder
from bench.identity import PACKAGE
from bench.records import Row, as_line, read_runs
from bench.report.archive import MOST_MEMBERS, pack, shown, unpack
from bench.report.build import build_report
from bench.spec import CellFiles

SUMS = "SHA256SUMS"
VERSION = "environment/bench-version.txt"
IMAGES = "environment/images.txt"
PINS = ("constraints.txt", "docker/constraints.txt")  # of the repository
LOOKS = "looks.csv"
# What the report writes in figures and words; pictures differ with the fonts of a machine.
FIGURES = ("report/summary.csv", "report/report.md")
FOLLOWS = (*FIGURES, IMAGES)  # what is made anew from the CSVs, and compared
# What made the rows, one line a combination.
MADE_BY = ("runtime", "image_id", "env_id", "torch_version", "python_version", "code_sha256")

MOST_SUMS_BYTES = MOST_MEMBERS * 400  # 64 digits and a name of at most 255 bytes a file
SUM_LINE = re.compile(r"([0-9a-f]{64})  (.+)")  # as sha256sum writes it
VERSION_LINE = re.compile(r"[0-9A-Za-z.+-]{1,40}\n")


@dataclass(frozen=True)
class Bundle:
    file: Path
    members: int
    sha256: str  # of the file itself


@dataclass(frozen=True)
class Verdict:
    """What checking a bundle found."""

    members: int
    version: str  # of the program that made it; empty if the bundle does not say
    wrong: tuple[str, ...]  # one sentence a fault, with its file; none: verified


def make_bundle(folder: Path, out: Path) -> Bundle:
    """Write a results folder and its report into one .tar.gz; equal content gives equal bytes.

    Raises:
        FolderError: for a folder that is not one of results, has no report or cannot be read.
        RequestError: for an `out` within the folder.
        BundleError: for what would not fit in a bundle.
    """
    results = ResultsFolder(folder)
    _check(results)
    if out.resolve().is_relative_to(folder.resolve()):
        raise RequestError(f"--out {out}: a bundle cannot lie in the folder that it holds.")
    top = folder.resolve().name
    sums: dict[str, str] = {}

    def members() -> Iterator[tuple[str, bytes]]:
        for name, content in _contents(results):
            sums[name] = hashlib.sha256(content).hexdigest()
            yield f"{top}/{name}", content
        lines = [f"{digest}  {name}\n" for name, digest in sums.items()]
        yield f"{top}/{SUMS}", "".join(lines).encode()

    try:
        packed = pack(members())
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, packed)
    except OSError as error:
        raise FolderError(f"{folder} cannot be bundled into {out}: {error}.") from error
    return Bundle(out, len(sums) + 1, hashlib.sha256(packed).hexdigest())


def _check(results: ResultsFolder) -> None:
    needed = (results.matrix, results.plan, results.runs)
    missing = [path.name for path in needed if not path.is_file()]
    if missing:
        raise FolderError(
            f"{results.path} is no results folder: it has no {', '.join(missing)}. Give a folder "
            "that `python -m bench run MATRIX` has written, such as results/NAME."
        )
    missing = [name for name in FIGURES if not (results.path / name).is_file()]
    if missing:
        raise FolderError(
            f"{results.path} has no {', '.join(missing)}. "
            f"Make the report: python -m bench report {results.path}"
        )


def _contents(results: ResultsFolder) -> Iterator[tuple[str, bytes]]:
    """(name within the folder, content) of all members but the checksums, sorted by name."""
    pins = {f"environment/{name}": PACKAGE.parent / name for name in PINS}
    tables = (results.matrix, results.plan, results.runs, results.curves, results.path / LOOKS)
    report = (path for path in results.report.rglob("*") if not path.name.startswith("."))
    own = {path.relative_to(results.path).as_posix(): path for path in (*tables, *report)}
    own |= {path.relative_to(results.path).as_posix(): path for path in _evidence(results)}
    # No links: a worker owns its cell's folder, and must not make us publish another file.
    files = {name: path for name, path in (pins | own).items() if _is_plain(path)}
    for name in sorted([*files, VERSION, IMAGES]):
        if name == VERSION:
            yield name, f"{__version__}\n".encode()
        elif name == IMAGES:
            yield name, _made_by(read_runs(results.runs)).encode()
        else:
            yield name, files[name].read_bytes()


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _evidence(results: ResultsFolder) -> Iterator[Path]:
    """Of each attempt: what was asked, where it ran, what it answered and said, raw readings.

    Pictures are drawn from the readings; its curve is in curves.csv.
    """
    for folder in results.cells.glob("*-*"):
        if folder.is_dir() and not folder.is_symlink():
            files = CellFiles(folder)
            yield from (files.spec, files.env, files.result, files.log, files.steps, files.samples)


def _made_by(rows: list[Row]) -> str:
    """Every environment that rows came from, and how many."""
    found = Counter(tuple(row.get(name, "") for name in MADE_BY) for row in rows)
    lines = [as_line((*fields, found[fields])) for fields in sorted(found)]
    return as_line((*MADE_BY, "rows")) + "".join(lines)


def verify(file: Path) -> Verdict:
    """Check a bundle without trusting it, and rebuild its report from its CSVs.

    The report is rebuilt only if every file is what its checksum says.

    Raises:
        BundleError: for a file that is no bundle.
    """
    with tempfile.TemporaryDirectory(prefix="bench-verify-") as place:
        found = unpack(file, Path(place))
        top = _top(found.sha256)
        if not top and found.damage:
            return Verdict(len(found.sha256), "", (*found.wrong, *found.damage))
        if not top:
            raise BundleError(f"{file} is no bundle: it has no NAME/{SUMS}.")
        sums = _wrong_sums(Path(place), top, found.sha256)
        wrong = [*found.wrong, *sums, *found.damage]
        version, complaint = _version(Path(place) / top / VERSION)
        if not wrong:
            wrong = [f"{top}/{VERSION}: {complaint}"] if complaint else []
            wrong += _wrong_figures(Path(place) / top, version)
    return Verdict(len(found.sha256), version, tuple(wrong))


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


def _wrong_figures(folder: Path, version: str) -> list[str]:
    """What this program makes otherwise of the CSVs in `folder`, whose report it replaces."""
    missing = [file for file in FOLLOWS if not (folder / file).is_file()]
    if missing:
        return [f"{folder.name}/{file}: is not there" for file in missing]
    published = {file: (folder / file).read_bytes() for file in FOLLOWS}
    try:
        # In its own place: the page's links to the logs are part of what is compared.
        build_report([folder], folder / "report")
        (folder / IMAGES).write_text(_made_by(read_runs(folder / "runs.csv")), encoding="utf-8")
    except BenchError as error:
        why = str(error).replace(f"{folder.parent}/", "")
        return [f"{folder.name}: no report follows from its CSVs: {shown(why)}"]
    except Exception as error:  # a stranger's CSVs may break anything: that is a finding on them
        why = f"{type(error).__name__}: {error}"
        return [f"{folder.name}: no report follows from its CSVs: {shown(why)}"]
    wrong = []
    for file, before in published.items():
        if before != (after := (folder / file).read_bytes()):
            where = _first_difference(before, after)
            wrong.append(f"{folder.name}/{file}: does not follow from the CSVs: {where}")
    if wrong and version != __version__:
        wrong.append(
            f"{folder.name}: version {version or 'unknown'} made it, this is {__version__}, and "
            "a report may differ between them. Verify it with the version that made it."
        )
    return wrong


def _first_difference(published: bytes, rebuilt: bytes) -> str:
    """The first line of two tables that differs, and its first field that does."""
    texts = [text.decode("utf-8", "backslashreplace") for text in (published, rebuilt)]
    lines = zip_longest(*(text.split("\n") for text in texts), fillvalue="")
    number, pair = next((n, pair) for n, pair in enumerate(lines, start=1) if pair[0] != pair[1])
    fields = zip_longest(*(re.split("[,|]", line) for line in pair), fillvalue="")
    was, now = next(pair for pair in fields if pair[0] != pair[1])
    return f"line {number} says {was.strip()[:80]!r}, the CSVs {now.strip()[:80]!r}"
