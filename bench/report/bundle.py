"""Results folders -> one file to publish, which anybody can check and rebuild the report from.

    NAME/report/...           the report
    NAME/plan.csv ...         the results folder's tables, raw readings and logs
    NAME/environment/...      what made them
    NAME/code/SHA256/...      code that their matrices brought: programs, classes
    NAME/SHA256SUMS           last, over everything before it

Of several folders each has its tables in NAME/folders/FOLDER/, NAME/folders.txt lists them in the
order in which they were named, and their common report is made where it lies in the file: its names
and links are those of the file, and `verify` can make the same again.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import __version__
from bench.border.atomic import write_atomically
from bench.border.identity import PACKAGE
from bench.border.spec import CellFiles
from bench.errors import FolderError, RequestError, program
from bench.records.cache import cache_folder, is_whole, names_in
from bench.records.folder import ResultsFolder
from bench.records.rows import as_line, read_runs
from bench.report import looks
from bench.report.archive import pack, wrong_name
from bench.report.build import build_report

SUMS = "SHA256SUMS"
VERSION = "environment/bench-version.txt"
IMAGES = "environment/images.txt"
FOLDERS = "folders.txt"  # of several: the names of what is in folders/, a line each
PINS = ("constraints.txt", "docker/constraints.txt")  # of the repository
SUFFIX = ".tar.gz"
CODE = "code"
SHA256 = re.compile(r"[0-9a-f]{64}")
# What made the rows, one line a combination.
MADE_BY = ("runtime", "image_id", "env_id", "torch_version", "python_version", "code_sha256")


@dataclass(frozen=True)
class Bundle:
    file: Path
    members: int
    sha256: str  # of the file itself
    lacks: tuple[str, ...]  # SHA-256 of code that could not be put in


def make_bundle(folders: Sequence[Path], out: Path) -> Bundle:
    """Write results folders and their report into one .tar.gz; equal content gives equal bytes.

    Of one folder the report must be there. Of several it is made, which is a look at them: it is
    noted in their looks.csv.

    Raises:
        FolderError: for a folder that is not one of results, has no report or cannot be read.
        RecordError: for a CSV that is damaged.
        RequestError: for an `out` within a folder.
        BundleError: for what would not fit in a bundle.
    """
    found = [ResultsFolder(path) for path in {path.resolve(): path for path in folders}.values()]
    for results in found:
        _check_tables(results)
        if out.resolve().is_relative_to(results.path.resolve()):
            raise RequestError(f"--out {out}: a bundle cannot lie in the folder that it holds.")
    named = ", ".join(str(results.path) for results in found)
    try:
        if len(found) > 1:
            return _bundle_several(found, out)
        _check_report(found[0])
        files = _files(found[0]) | _report(found[0].report)
        return _write(found[0].path.resolve().name, files, {}, found, out)
    except OSError as error:
        raise FolderError(f"{named} cannot be bundled into {out}: {error}.") from error


def _check_tables(results: ResultsFolder) -> None:
    needed = (results.matrix, results.plan, results.runs)
    missing = [path.name for path in needed if not path.is_file()]
    if not missing:
        return
    remedy = f"Give a folder that `{program()} run MATRIX` has written, such as results/NAME."
    if (results.path / "summary.csv").is_file():
        remedy = (
            "It holds a report: name the folders that it was made from, "
            f"{program()} bundle DIR... --out {results.path.name}{SUFFIX}"
        )
    raise FolderError(
        f"{results.path} is no results folder: it has no {', '.join(missing)}. {remedy}"
    )


def _check_report(results: ResultsFolder) -> None:
    needed = (results.report / "summary.csv", results.report / "report.md")
    missing = [f"report/{path.name}" for path in needed if not path.is_file()]
    if missing:
        raise FolderError(
            f"{results.path} has no {', '.join(missing)}. "
            f"Make the report: {program()} report {results.path}"
        )


def _bundle_several(found: Sequence[ResultsFolder], out: Path) -> Bundle:
    """Copy what is to be published, make the report of the copies, and bundle both."""
    top = out.name.removesuffix(SUFFIX)
    with tempfile.TemporaryDirectory(prefix="bench-bundle-") as place:
        home = Path(place) / top
        copies = [ResultsFolder(home / "folders" / name) for name in _names(found)]
        for results, copy in zip(found, copies, strict=True):
            for name, file in _files(results).items():
                target = copy.path / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
        build_report([copy.path for copy in copies], home / "report")
        for results, copy in zip(found, copies, strict=True):
            _note_look(copy, results)
        files = _report(home / "report")
        for copy in copies:
            inner = _files(copy)
            files |= {f"folders/{copy.path.name}/{name}": path for name, path in inner.items()}
        listed = "".join(f"{copy.path.name}\n" for copy in copies)
        return _write(top, files, {FOLDERS: listed.encode()}, copies, out)


def _names(found: Sequence[ResultsFolder]) -> list[str]:
    """A name for each: its folder's, with a number where that is taken."""
    names: list[str] = []
    for results in found:
        plain = name = results.path.resolve().name
        number = 1
        while name in names:
            number += 1
            name = f"{plain}-{number}"
        names.append(name)
    return names


def _note_look(copy: ResultsFolder, results: ResultsFolder) -> None:
    """Its report was a look at the results themselves, also where nobody had reported on them."""
    noted, file = copy.path / looks.FILE, results.path / looks.FILE
    if noted.is_file() and not (file.is_file() and file.read_bytes() == noted.read_bytes()):
        write_atomically(file, noted.read_bytes())


def _files(results: ResultsFolder) -> dict[str, Path]:
    """Name within the folder -> file: all that is published of it but the report."""
    tables = (results.matrix, results.plan, results.runs, results.curves)
    files = (*tables, results.path / looks.FILE, *_evidence(results))
    return _plain({path.relative_to(results.path).as_posix(): path for path in files})


def _report(folder: Path) -> dict[str, Path]:
    files = (path for path in folder.rglob("*") if not path.name.startswith("."))
    return _plain({f"report/{path.relative_to(folder).as_posix()}": path for path in files})


def _plain(files: Mapping[str, Path]) -> dict[str, Path]:
    """No links: a worker owns its cell's folder, and must not make us publish another file."""
    return {name: path for name, path in files.items() if path.is_file() and not path.is_symlink()}


def _evidence(results: ResultsFolder) -> Iterator[Path]:
    """Of each attempt: what was asked, where it ran, what it answered and said, raw readings.

    Pictures are drawn from the readings; its curve is in curves.csv.
    """
    for folder in results.cells.glob("*-*"):
        if folder.is_dir() and not folder.is_symlink():
            files = CellFiles(folder)
            yield from (files.spec, files.env, files.result, files.log, files.steps, files.samples)
            yield from map(files.windows, ("val", "test"))


def code_of(found: Iterable[ResultsFolder]) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Name in the bundle -> file of the code that cells ran; and what of it cannot be had.

    It lies in this user's cache, each under its hash, and is held if it is still what that says.
    """
    files: dict[str, Path] = {}
    lacks = []
    for sha256 in sorted({sha256 for results in found for sha256 in _brought(results)}):
        place = cache_folder() / CODE / sha256
        names = [*names_in(place)] if is_whole(place) else []
        if not names or any(map(wrong_name, names)):
            lacks.append(sha256)
        else:
            files |= {f"{CODE}/{sha256}/{name}": place / name for name in names}
    return files, tuple(lacks)


def _brought(results: ResultsFolder) -> Iterator[str]:
    """By the spec.json of each cell: hashes and nothing else, whatever a worker wrote there."""
    for path in _plain({str(path): path for path in results.cells.glob("*/spec.json")}).values():
        try:
            spec = json.loads(path.read_bytes())
            parts = (spec.get("program"), *(spec[key]["options"] for key in ("model", "optimizer")))
            told = [part["code_sha256"] for part in parts if part and part.get("code_sha256")]
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            continue  # its row has been judged
        yield from (sha256 for sha256 in told if SHA256.fullmatch(str(sha256)))


def _write(
    top: str,
    files: Mapping[str, Path],
    texts: Mapping[str, bytes],
    found: Sequence[ResultsFolder],
    out: Path,
) -> Bundle:
    """Pack files and texts, with what made them, sorted by name, and last the checksums."""
    pins = _plain({f"environment/{name}": PACKAGE.parent / name for name in PINS})
    made_by = images(results.runs for results in found).encode()
    texts = {**texts, VERSION: f"{__version__}\n".encode(), IMAGES: made_by}
    code, lacks = code_of(found)
    files = {**files, **pins, **code}
    sums: dict[str, str] = {}

    def members() -> Iterator[tuple[str, bytes]]:
        for name in sorted([*files, *texts]):
            content = texts[name] if name in texts else files[name].read_bytes()
            sums[name] = hashlib.sha256(content).hexdigest()
            yield f"{top}/{name}", content
        lines = [f"{digest}  {name}\n" for name, digest in sums.items()]
        yield f"{top}/{SUMS}", "".join(lines).encode()

    packed = pack(members())
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, packed)
    return Bundle(out, len(sums) + 1, hashlib.sha256(packed).hexdigest(), lacks)


def images(runs: Iterable[Path]) -> str:
    """A table of every environment that the rows of these runs.csv came from, and how many."""
    rows = [row for path in runs for row in read_runs(path)]
    found = Counter(tuple(row.get(name, "") for name in MADE_BY) for row in rows)
    lines = [as_line((*fields, found[fields])) for fields in sorted(found)]
    return as_line((*MADE_BY, "rows")) + "".join(lines)
