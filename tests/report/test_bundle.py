"""Bundles: an untouched one verifies, and in any other the file that is wrong is named."""

import csv
import gzip
import hashlib
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import __version__
from bench.errors import BundleError, FolderError, RequestError
from bench.report import archive
from bench.report import verify as checks
from bench.report.archive import pack, unpack
from bench.report.build import build_report
from bench.report.bundle import make_bundle
from bench.report.verify import Verdict, verify
from tests.builders.claims import arm, losses
from tests.builders.results import Results
from tests.builders.shared import ROOT, bench

NAME = "original-cpu"
SUMS = f"{NAME}/SHA256SUMS"
Members = dict[str, bytes]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real results folder of a few cells, with the report of this very program."""
    folder = Path(shutil.copytree(ROOT / "results" / NAME, tmp_path_factory.mktemp("from") / NAME))
    build_report([folder], folder / "report")
    return folder


@pytest.fixture
def results(source: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(source, tmp_path / NAME))


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("made") / "made.tar.gz"
    make_bundle([source], file)
    return file


@pytest.fixture(scope="module")
def members(made: Path) -> Members:
    """What tar itself reads from it."""
    return unpacked(made)


def contents(whole: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = whole.extractfile(info)
    assert file is not None
    return file.read()


def written(file: Path, members: Members) -> Path:
    file.write_bytes(pack(members.items()))
    return file


def with_sums(members: Members, top: str = NAME) -> Members:
    """The same with checksums made anew, as a forger would."""
    sums = f"{top}/SHA256SUMS"
    rest = {name: content for name, content in members.items() if name != sums}
    lines = [
        f"{hashlib.sha256(content).hexdigest()}  {name.removeprefix(f'{top}/')}\n"
        for name, content in rest.items()
    ]
    return {**rest, sums: "".join(lines).encode()}


def damaged(content: bytes) -> bytes:
    """One byte changed in the middle; an empty file gets one."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] if content else b"x"


# --- what it holds ---


def pictures(members: Members) -> tuple[str, ...]:
    return tuple(sorted(name for name in members if name.endswith((".png", ".svg"))))


def test_an_untouched_bundle_verifies(made: Path, members: Members) -> None:
    assert verify(made) == Verdict(len(members), __version__, (), pictures(members))


def test_it_holds_the_results_their_report_and_where_they_come_from(
    members: Members, source: Path
) -> None:
    inner = {name.removeprefix(f"{NAME}/"): content for name, content in members.items()}
    report = {f"report/{path.name}" for path in (source / "report").iterdir()}
    evidence = {
        path.relative_to(source).as_posix()
        for path in (source / "cells").glob("*/*")
        if path.name != "curve.csv"
    }
    made_here = {"SHA256SUMS", "environment/bench-version.txt", "environment/images.txt"}
    pins = {"environment/constraints.txt", "environment/docker/constraints.txt"}
    tables = {"matrix.yaml", "plan.csv", "runs.csv", "curves.csv", "looks.csv"}
    assert set(inner) == tables | report | evidence | made_here | pins
    for name in set(inner) - made_here - pins:
        assert inner[name] == (source / name).read_bytes()
    for name in pins:
        assert inner[name] == (ROOT / name.removeprefix("environment/")).read_bytes()
    assert list(members)[:-1] == sorted(members.keys() - {SUMS})


def test_images_are_those_of_the_rows(members: Members) -> None:
    rows = list(csv.DictReader(io.StringIO(members[f"{NAME}/runs.csv"].decode())))
    (image,) = csv.DictReader(io.StringIO(members[f"{NAME}/environment/images.txt"].decode()))
    assert image.pop("rows") == str(len(rows)) == "20"
    assert all(row[name] == value for row in rows for name, value in image.items())
    assert image["image_id"].startswith("sha256:")


def test_equal_content_gives_equal_bytes(results: Path, made: Path, tmp_path: Path) -> None:
    for path in sorted(results.rglob("*"), reverse=True):
        path.chmod(0o700)  # other times, modes and order on the disk
    first = make_bundle([results], tmp_path / "a.tar.gz")
    assert first.file.read_bytes() == made.read_bytes()
    assert first.sha256 == hashlib.sha256(made.read_bytes()).hexdigest()
    assert made.read_bytes()[4:8] == bytes(4), "gzip's header has a time"
    with tarfile.open(made) as whole:
        assert {(m.uid, m.gid, m.uname, m.mode, m.mtime) for m in whole.getmembers()} == {
            (0, 0, "", 0o644, archive.MTIME)
        }


def test_sha256sum_reads_the_checksums(made: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xzf", made, "-C", tmp_path], check=True)
    command = ["sha256sum", "--strict", "--quiet", "-c", "SHA256SUMS"]
    subprocess.run(command, cwd=tmp_path / NAME, check=True)


def test_looks_and_raw_readings_are_held_and_links_are_not(results: Path, tmp_path: Path) -> None:
    (results / "looks.csv").write_text("look\n1\n")
    cell = next((results / "cells").iterdir())
    (cell / "steps.csv").write_text("step\n")
    (tmp_path / "secret").write_text("not yours")
    (cell / "worker.log").unlink()
    (cell / "worker.log").symlink_to(tmp_path / "secret")
    (results / "report" / "more.parquet").symlink_to(tmp_path / "secret")
    made = make_bundle([results], tmp_path / "new.tar.gz")
    with tarfile.open(made.file) as whole:
        names = whole.getnames()
    assert f"{NAME}/looks.csv" in names
    assert f"{NAME}/cells/{cell.name}/steps.csv" in names
    assert not [name for name in names if name.endswith(("/curve.csv", "more.parquet"))]
    assert f"{NAME}/cells/{cell.name}/spec.json" in names
    assert f"{NAME}/cells/{cell.name}/worker.log" not in names


def test_without_a_report_it_says_how_to_make_one(results: Path, tmp_path: Path) -> None:
    shutil.rmtree(results / "report")
    with pytest.raises(FolderError, match=f"python -m bench report {results}"):
        make_bundle([results], tmp_path / "new.tar.gz")
    (results / "plan.csv").unlink()
    with pytest.raises(FolderError, match=r"it has no plan\.csv"):
        make_bundle([results], tmp_path / "new.tar.gz")


def test_a_bundle_never_holds_itself(results: Path) -> None:
    with pytest.raises(RequestError, match="cannot lie in"):
        make_bundle([results], results / "report" / "new.tar.gz")


def test_what_would_not_verify_is_not_made(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = results / "report" / ("a" * 120)
    deep.write_text("")
    with pytest.raises(BundleError, match=r"a{120}.*Shorten it"):
        make_bundle([results], tmp_path / "new.tar.gz")
    deep.rename(results / "report" / "line\nfeed")
    with pytest.raises(BundleError, match=r"line\\nfeed.*Rename it"):
        make_bundle([results], tmp_path / "new.tar.gz")
    (results / "report" / "line\nfeed").unlink()
    monkeypatch.setattr(archive, "MOST_MEMBERS", 30)
    with pytest.raises(BundleError, match="30 files"):
        make_bundle([results], tmp_path / "new.tar.gz")
    assert not (tmp_path / "new.tar.gz").exists()


# --- of several folders ---


@pytest.fixture
def machines(tmp_path: Path) -> list[Path]:
    """One matrix on two machines, in folders of one name; each cell with its log."""
    folders = []
    for machine, loss in (("one", 2.0), ("two", 1.9)):
        (tmp_path / machine).mkdir()
        folder = Results(tmp_path / machine / "tiny")
        for seed in (1, 2):
            run_id = folder.planned(arm="0a1b", seed=seed)
            row = {"host_id": machine, "log_path": f"cells/{run_id}-1/worker.log"}
            folder.ended(run_id, val_loss_final=loss + 0.1 * seed, **row)
            cell = folder.path / "cells" / f"{run_id}-1"
            cell.mkdir(parents=True)
            (cell / "worker.log").write_text(f"on machine {machine}\n")
            (cell / "curve.csv").write_text("step\n")
        (folder.write() / "matrix.yaml").write_text("name: tiny\n")
        folders.append(folder.path)
    return folders


def unpacked(file: Path) -> Members:
    with tarfile.open(file) as whole:
        return {info.name: contents(whole, info) for info in whole.getmembers()}


def test_a_bundle_of_several_folders_holds_each_and_their_common_report(
    machines: list[Path], tmp_path: Path
) -> None:
    made = make_bundle(machines[::-1], tmp_path / "both.tar.gz")
    members = unpacked(made.file)
    assert members["both/folders.txt"] == b"tiny\ntiny-2\n"
    for name, folder in (("tiny", machines[1]), ("tiny-2", machines[0])):
        inner = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.name != "curve.csv"
        }
        there = f"both/folders/{name}/"
        assert {
            key.removeprefix(there): content
            for key, content in members.items()
            if key.startswith(there)
        } == inner
    assert members["both/report/report.md"].startswith(b"# Benchmark report: tiny\n")
    assert b"4 of 4 cells ok" in members["both/report/report.md"]
    links = re.findall(r"\]\(\.\./([^)]*)\)", members["both/report/report.md"].decode())
    assert links
    assert all(f"both/{unquote(link)}" in members for link in links)
    verdict = verify(made.file)
    assert (verdict.wrong, verdict.members) == ((), len(members))
    again = make_bundle(machines[::-1], tmp_path / "again" / "both.tar.gz")
    assert again.sha256 == made.sha256


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("folders/tiny-2/runs.csv", b"2.1", b"1.0001", "both/report/summary.csv: does not follow"),
        ("report/index.html", b"4 of 4 cells", b"9 of 9 cells", "both/report/index.html: does not"),
        ("folders.txt", b"tiny\ntiny-2", b"tiny-2\ntiny", "both/report/report.md: does not follow"),
        ("folders.txt", b"tiny-2", b"../tiny", "both/folders.txt: does not name each folder"),
        ("folders.txt", b"tiny-2\n", b"", "both/folders.txt: does not name each folder"),
        ("folders.txt", b"tiny-2", b"tiny", "both/folders.txt: does not name each folder"),
    ],
)
def test_a_forged_bundle_of_several_folders_is_found(
    name: str, old: bytes, new: bytes, told: str, machines: list[Path], tmp_path: Path
) -> None:
    members = unpacked(make_bundle(machines[::-1], tmp_path / "both.tar.gz").file)
    content = members[f"both/{name}"]
    assert old in content
    forged = {**members, f"both/{name}": content.replace(old, new)}
    wrong = verify(written(tmp_path / "a.tar.gz", with_sums(forged, "both"))).wrong
    assert any(fault.startswith(told) for fault in wrong), wrong


def test_a_bundle_of_several_folders_is_a_look_at_each(tmp_path: Path) -> None:
    """Whoever bundled instead of reporting would else look without being counted."""
    folders = []
    for name, first in (("a", 1), ("b", 4)):
        folder = Results(tmp_path / name)
        arm(folder, losses=losses(2.0, n=3), first=first)
        arm(folder, optimizer="muon", losses=losses(1.9, own=1.0, n=3), first=first)
        claim = (
            "claim: {baseline: {model: gpt, optimizer: adamw}, metric: val_loss_final, margin: 1}"
        )
        (folder.write() / "matrix.yaml").write_text(f"name: tiny\n{claim}\n")
        folders.append(folder.path)
    members = unpacked(make_bundle(folders, tmp_path / "both.tar.gz").file)
    for name, folder in zip(("a", "b"), folders, strict=True):
        noted = (folder / "looks.csv").read_bytes()
        assert len(noted.splitlines()) == 2
        assert members[f"both/folders/{name}/looks.csv"] == noted
    make_bundle(folders, tmp_path / "both.tar.gz")
    assert (folders[0] / "looks.csv").read_bytes() == noted


def test_a_folder_that_is_named_twice_is_bundled_once(results: Path, tmp_path: Path) -> None:
    made = make_bundle([results, results / ".." / NAME], tmp_path / "a.tar.gz")
    assert f"{NAME}/runs.csv" in unpacked(made.file)


def test_what_several_folders_need_is_told(machines: list[Path], tmp_path: Path) -> None:
    answer = bench("bundle", *machines)
    assert answer.returncode == 2
    assert "several folders need --out FILE" in answer.stderr
    common = tmp_path / "common"
    build_report(machines, common)
    with pytest.raises(
        FolderError, match=r"It holds a report: name the folders .* DIR\.\.\. --out"
    ):
        make_bundle([common], tmp_path / "a.tar.gz")
    with pytest.raises(RequestError, match="cannot lie in"):
        make_bundle(machines, machines[1] / "a.tar.gz")


# --- what is wrong is named ---


def test_a_changed_byte_is_found_in_every_member(members: Members, tmp_path: Path) -> None:
    changed = {name: damaged(content) for name, content in members.items() if name != SUMS}
    verdict = verify(written(tmp_path / "a.tar.gz", {**changed, SUMS: members[SUMS]}))
    why = "its SHA-256 is not the one that SHA256SUMS states"
    assert verdict.wrong == tuple(f"{name}: {why}" for name in changed)


@pytest.mark.parametrize("at", [0, 70, -2])
def test_changed_checksums_are_found(at: int, members: Members, tmp_path: Path) -> None:
    sums = bytearray(members[SUMS])
    sums[at] ^= 1
    verdict = verify(written(tmp_path / "a.tar.gz", {**members, SUMS: bytes(sums)}))
    assert verdict.wrong
    assert all("SHA256SUMS" in fault for fault in verdict.wrong)


def test_a_line_that_is_no_checksum_is_named(members: Members, tmp_path: Path) -> None:
    for further in (b"\xff\x1b[2J\n", b"deadbeef  runs.csv\n", members[SUMS].splitlines(True)[0]):
        file = written(tmp_path / "a.tar.gz", {**members, SUMS: members[SUMS] + further})
        line = len(members)
        fault = f"{SUMS}: line {line} is no checksum of a further file"
        assert verify(file).wrong == (fault,)


def test_checksums_larger_than_memory_are_not_read(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "MOST_SUMS_BYTES", 1000)
    assert verify(made).wrong == (f"{SUMS}: is larger than the checksums of 250,000 files",)


def test_a_removed_member_is_named(members: Members, tmp_path: Path) -> None:
    rest = {name: content for name, content in members.items() if not name.endswith("/plan.csv")}
    wrong = verify(written(tmp_path / "a.tar.gz", rest)).wrong
    missing = f"{NAME}/plan.csv: SHA256SUMS names it, but it is not there"
    assert wrong == (missing,)
    renamed = {**rest, f"{NAME}/other.csv": b""}
    wrong = verify(written(tmp_path / "b.tar.gz", renamed)).wrong
    assert wrong == (missing, f"{NAME}/other.csv: SHA256SUMS does not name it")


@pytest.mark.parametrize("name", [f"{NAME}/report/new.html", "elsewhere/new", "new"])
def test_an_added_member_is_named(name: str, members: Members, tmp_path: Path) -> None:
    wrong = verify(written(tmp_path / "a.tar.gz", {**members, name: b"new"})).wrong
    assert wrong == (f"{name}: SHA256SUMS does not name it",)


@pytest.mark.parametrize("file", ["runs.csv", "report/summary.csv", "report/report.md"])
def test_a_forged_figure_is_found_by_rebuilding(
    file: str, members: Members, tmp_path: Path
) -> None:
    """The checksums fit, as the forger made them anew: the report does not."""
    rows = list(csv.DictReader(io.StringIO(members[f"{NAME}/runs.csv"].decode())))
    summary = csv.DictReader(io.StringIO(members[f"{NAME}/report/summary.csv"].decode()))
    mean = next(summary)["val_loss_final_mean"]
    shown = {
        "runs.csv": rows[0]["val_loss_final"],
        "report/summary.csv": mean,
        "report/report.md": f"{float(mean):.4f}",
    }[file]
    name = f"{NAME}/{file}"
    forged = members[name].replace(shown.encode(), b"1.0001")
    assert forged != members[name]
    wrong = verify(written(tmp_path / "a.tar.gz", with_sums({**members, name: forged}))).wrong
    named = [fault.partition(": ")[0] for fault in wrong]
    if file == "runs.csv":
        report = ("index.html", "report.md", "runs.parquet", "summary.csv")
        assert named == [f"{NAME}/report/{name}" for name in report]
        assert f"says '{mean}', the CSVs '" in wrong[3]
        assert f"says {float(shown)}, the CSVs 1.0001" in wrong[2]
    else:
        assert named == [name]
        assert "1.0001" in wrong[0]


def verdict_of(page: str) -> str:
    """The words of the page's first sentence."""
    found = re.search('<p class="verdict">(.*?)</p>', page)
    assert found
    return found[1]


def test_a_word_of_the_pages_verdict_is_compared(members: Members, tmp_path: Path) -> None:
    name = f"{NAME}/report/index.html"
    verdict = verdict_of(members[name].decode())
    other = verdict.replace(verdict.split()[-1], "worse.")
    forged = {**members, name: members[name].replace(verdict.encode(), other.encode())}
    file = written(tmp_path / "a.tar.gz", with_sums(forged))
    answer = bench("verify", file)
    assert answer.returncode == 1
    fault, last = answer.stdout.splitlines()
    assert fault.startswith(f"{name}: does not follow from the CSVs: line ")
    assert "worse." in fault
    assert last == f"{file}: not verified"


def test_what_a_report_has_not_is_told_and_what_it_lacks_is_a_fault(
    results: Path, tmp_path: Path
) -> None:
    (results / "report" / "notes.txt").write_text("by hand")
    (results / "report" / "pareto.png").unlink()
    verdict = verify(make_bundle([results], tmp_path / "b.tar.gz").file)
    assert verdict.wrong == (f"{NAME}/report/pareto.png: is not there",)
    assert verdict.unchecked[-1] == f"{NAME}/report/notes.txt"


def test_a_forged_environment_is_found(members: Members, tmp_path: Path) -> None:
    name = f"{NAME}/environment/images.txt"
    forged = with_sums({**members, name: members[name].replace(b"docker", b"podman")})
    (fault,) = verify(written(tmp_path / "a.tar.gz", forged)).wrong
    assert (
        fault == f"{name}: does not follow from the CSVs: line 2 says 'podman', the CSVs 'docker'"
    )


def test_another_version_is_named_where_the_report_differs(
    members: Members, tmp_path: Path
) -> None:
    version, report = f"{NAME}/environment/bench-version.txt", f"{NAME}/report/report.md"
    older = with_sums({**members, version: b"0.0.1\n"})
    sound = Verdict(len(members), "0.0.1", (), pictures(members))
    assert verify(written(tmp_path / "a.tar.gz", older)) == sound
    other = with_sums({**older, report: members[report] + b"more\n"})
    first, second = verify(written(tmp_path / "b.tar.gz", other)).wrong
    assert first.startswith(f"{report}: does not follow")
    assert f"version 0.0.1 made it, this is {__version__}" in second


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("runs.csv", b"run_id\n\x1b[31m\n", "no report follows from its CSVs"),
        ("runs.csv", b"", "does not follow"),
        ("runs.csv", None, "it has no runs.csv"),
        ("report/summary.csv", None, "report/summary.csv: is not there"),
        ("environment/images.txt", None, "images.txt: is not there"),
        ("environment/bench-version.txt", None, "bench-version.txt: is not there"),
        ("environment/bench-version.txt", b"\x1b[2J\n", "is no version of this program"),
        ("curves.csv", b"run_id,host_id,attempt,step,val_loss\na,b,1,1e9,1\n", "1 damaged line"),
    ],
)
def test_files_that_the_program_cannot_use_are_findings(
    name: str, content: bytes | None, told: str, members: Members, tmp_path: Path
) -> None:
    rest = {key: value for key, value in members.items() if key != f"{NAME}/{name}"}
    forged = rest if content is None else {**rest, f"{NAME}/{name}": content}
    wrong = verify(written(tmp_path / "a.tar.gz", with_sums(forged))).wrong
    assert any(told in fault for fault in wrong), wrong
    assert all(fault.isprintable() and "bench-verify-" not in fault for fault in wrong)


def test_a_failure_of_the_report_itself_is_a_finding(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError("by a stranger's figure")

    monkeypatch.setattr(checks, "build_report", break_down)
    (fault,) = verify(made).wrong
    assert fault.endswith("from its CSVs: ZeroDivisionError: by a stranger's figure")


# --- hostile archives ---


def link(kind: bytes, target: str) -> Callable[[tarfile.TarInfo], None]:
    def apply(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, target

    return apply


HOSTILE = {
    "absolute": ("/tmp/evil", None, "is an absolute path"),
    "parent": (f"{NAME}/../../evil", None, "leads out of its folder"),
    "dot": (f"{NAME}/./evil", None, "is no plain path"),
    "backslash": (f"{NAME}\\..\\evil", None, "has a control character or a backslash"),
    "escape": (f"{NAME}/\x1b[2J", None, "has a control character or a backslash"),
    "symlink": (f"{NAME}/evil", link(tarfile.SYMTYPE, "/etc/passwd"), "is a symbolic link"),
    "hardlink": (f"{NAME}/evil", link(tarfile.LNKTYPE, f"{NAME}/runs.csv"), "is a hard link"),
    "device": (f"{NAME}/evil", link(tarfile.CHRTYPE, ""), "is a device"),
    "pipe": (f"{NAME}/evil", link(tarfile.FIFOTYPE, ""), "is a pipe"),
    "folder": (f"{NAME}/evil", link(tarfile.DIRTYPE, ""), "is a folder's entry"),
    "sparse": (f"{NAME}/evil", link(tarfile.GNUTYPE_SPARSE, ""), "is no plain file"),
    "extension": (f"{NAME}/evil", link(tarfile.XHDTYPE, ""), "is no plain file"),
    "twice": (f"{NAME}/runs.csv", None, "is there twice"),
    "file as folder": (f"{NAME}/runs.csv/evil", None, "is a file and a folder"),
    "folder as file": (f"{NAME}/report", None, "is a file and a folder"),
}


def raw(members: Members, *further: tarfile.TarInfo, end: bytes = bytes(1024)) -> bytes:
    """An archive whose last headers are as given, whatever tar would say to them."""
    blocks = []
    for name, content in members.items():
        info = tarfile.TarInfo(name)
        info.size = len(content)
        blocks += [info.tobuf(tarfile.USTAR_FORMAT), content, bytes(-len(content) % 512)]
    blocks += [info.tobuf(tarfile.USTAR_FORMAT) for info in further]
    return gzip.compress(b"".join(blocks) + end, 1)


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_member_is_named_and_not_unpacked(
    case: str, members: Members, tmp_path: Path
) -> None:
    name, change, told = HOSTILE[case]
    info = tarfile.TarInfo(name)
    if change:
        change(info)
    place = tmp_path / "inner" / "place"
    place.mkdir(parents=True)
    file = tmp_path / "hostile.tar.gz"
    file.write_bytes(raw(members, info))
    unpack(file, place)
    found = {path for path in tmp_path.rglob("*") if not path.is_dir()}
    assert found == {file, *(place / name for name in members)}
    assert not any(path.is_symlink() for path in found)
    assert (place / NAME / "runs.csv").read_bytes() == members[f"{NAME}/runs.csv"]
    (fault,) = verify(file).wrong
    assert told in fault
    assert fault.isprintable()


@pytest.mark.parametrize("size", [2**33 - 1, 2**40, -5])
def test_a_size_beyond_all_bounds_is_refused(size: int, members: Members, tmp_path: Path) -> None:
    info = tarfile.TarInfo(f"{NAME}/huge")
    info.size = size
    block = bytearray(
        info.tobuf(tarfile.GNU_FORMAT)
    )  # which can say more than 8 GiB, and less than 0
    file = tmp_path / "huge.tar.gz"
    file.write_bytes(gzip.compress(bytes(block) + bytes(1024)))
    with pytest.raises(BundleError, match=f"{NAME}/huge, over 4 GiB"):
        verify(file)


def test_what_unpacks_to_too_much_is_refused(
    made: Path, members: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST_MEMBERS", len(members) - 1)
    with pytest.raises(BundleError, match="or says so: not unpacked"):
        verify(made)
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MOST_BYTES", 2**20)
    file = tmp_path / "zeros.tar.gz"
    file.write_bytes(raw({f"{NAME}/a": b"a"}, end=bytes(2**21)))
    with pytest.raises(BundleError, match="or says so: not unpacked"):
        verify(file)


def test_what_is_behind_the_end_is_found(members: Members, tmp_path: Path) -> None:
    file = tmp_path / "more.tar.gz"
    file.write_bytes(raw(members, end=bytes(1024) + b"hidden"))
    with pytest.raises(BundleError, match="holds data behind its end"):
        verify(file)


def test_every_truncation_is_found(made: Path, tmp_path: Path) -> None:
    whole = made.read_bytes()
    file = tmp_path / "part.tar.gz"
    for length in (0, 1, 9, 10, 11):
        file.write_bytes(whole[:length])
        with pytest.raises(BundleError, match="no bundle"):
            verify(file)
    for length in (600, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        file.write_bytes(whole[:length])
        fault = verify(file).wrong[-1]
        assert fault.startswith(f"{NAME}/")
        assert f"{file} is damaged" in fault


def test_a_changed_byte_of_the_file_itself_is_found_wherever_it_is(
    made: Path, tmp_path: Path
) -> None:
    """Within gzip's stream a byte may spoil all that follows: the place is named."""
    whole = made.read_bytes()
    file = tmp_path / "changed.tar.gz"
    for at in (*range(len(whole) // 50, len(whole), len(whole) // 20), len(whole) - 6):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        verdict = verify(file)
        assert verdict.wrong
        assert all(fault.startswith(f"{NAME}/") for fault in verdict.wrong)


def test_where_the_archive_can_be_read_on_the_checksums_name_the_file(
    members: Members, tmp_path: Path
) -> None:
    """A changed byte of an archive that is not compressed lies in one file."""
    stored = gzip.compress(gzip.decompress(pack(members.items())), 0)
    start = stored.index(b"original,nanogpt,adamw,cpu,1,0,ok")
    file = tmp_path / "stored.tar.gz"
    file.write_bytes(stored[:start] + b"O" + stored[start + 1 :])
    first, last = verify(file).wrong
    assert first == f"{NAME}/runs.csv: its SHA-256 is not the one that SHA256SUMS states"
    assert "CRC check failed" in last


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 a zip",
        gzip.compress(b"no tar"),
        gzip.compress(b"no tar" * 1000),
        gzip.compress(bytes(10240)),
        pack([("other/README", b"an archive of something else")]),
        pack([("a/b/SHA256SUMS", b"")]),
        gzip.compress(tarfile.TarInfo("ä" * 40).tobuf(tarfile.USTAR_FORMAT, "latin-1")),
    ],
    ids=["zip", "text", "long text", "nothing", "another archive", "deep", "latin"],
)
def test_what_is_no_bundle_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "other.tar.gz"
    file.write_bytes(content)
    with pytest.raises(BundleError, match="no bundle"):
        verify(file)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match="cannot be read"):
            verify(file)


SMALL = gzip.decompress(pack([("a/runs.csv", b"1,2\n"), ("a/SHA256SUMS", b"")]))[:3072]


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.binary(max_size=12)), max_size=6)
)
def test_no_damage_to_an_archive_escapes(
    changes: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Unpacking ends well or in a BundleError, and writes nowhere else."""
    content = bytearray(SMALL)
    for at, new in changes:
        content[at : at + len(new)] = new
        if at < 512:  # a header that its own checksum guards, as an attacker would write it
            content[148:156] = b" " * 8
            content[148:156] = b"%06o\0 " % sum(content[:512])
    home = tmp_path_factory.mktemp("fuzz")
    (home / "place").mkdir()
    (home / "a.tar.gz").write_bytes(gzip.compress(bytes(content), 1))
    try:
        found = unpack(home / "a.tar.gz", home / "place")
    except BundleError:
        return
    files = {path for path in (home / "place").rglob("*") if path.is_file()}
    assert files == {home / "place" / name for name in found.sha256}
    assert {path.name for path in home.iterdir()} == {"place", "a.tar.gz"}


# --- as it is typed ---


def test_the_commands_exit_as_they_say(results: Path, members: Members, tmp_path: Path) -> None:
    answer = bench("bundle", results)
    assert answer.returncode == 0, answer.stderr
    file = tmp_path / f"{NAME}.tar.gz"
    assert answer.stdout.splitlines()[0] == f"bundle: {file} ({len(members)} files)"
    answer = bench("verify", file)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert f"{len(members)} files are what SHA256SUMS states" in answer.stdout
    told = f"(not compared: {len(pictures(members))} pictures, which differ with fonts)\n"
    assert answer.stdout.endswith(told)

    (results / "report" / "summary.csv").write_text("arm\n")
    made = make_bundle([results], tmp_path / "new" / "stale.tar.gz")
    answer = bench("verify", made.file)
    assert answer.returncode == 1
    assert f"{NAME}/report/summary.csv: does not follow from the CSVs" in answer.stdout

    file.write_bytes(b"something else")
    answer = bench("verify", file)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith(f"error: {file} is no bundle")
