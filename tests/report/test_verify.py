"""What is wrong with a bundle is named, and a hostile one does no harm."""

import csv
import gzip
import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import __version__
from bench.errors import BundleError
from bench.report import archive
from bench.report import verify as checks
from bench.report.archive import pack, unpack
from bench.report.bundle import make_bundle
from bench.report.verify import Verification, verify
from tests.builders.shared import bench
from tests.report.bundles import (
    NAME,
    SUMS,
    Members,
    damaged,
    pictures,
    with_sums,
    written,
)

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
        fault = f"{SUMS}: line {line} is not the checksum of one more file"
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_a_report_has_not_is_told_and_what_it_lacks_is_a_fault(
    results: Path, tmp_path: Path
) -> None:
    (results / "report" / "notes.txt").write_text("by hand")
    (results / "report" / "pareto.png").unlink()
    verdict = verify(make_bundle([results], tmp_path / "b.tar.gz").file)
    assert verdict.wrong == (f"{NAME}/report/pareto.png: is not there",)
    assert verdict.unchecked[-1] == f"{NAME}/report/notes.txt"


@pytest.mark.slow
def test_a_forged_environment_is_found(members: Members, tmp_path: Path) -> None:
    name = f"{NAME}/environment/images.txt"
    forged = with_sums({**members, name: members[name].replace(b"docker", b"podman")})
    (fault,) = verify(written(tmp_path / "a.tar.gz", forged)).wrong
    assert (
        fault == f"{name}: does not follow from the CSVs: line 2 says 'podman', the CSVs 'docker'"
    )


@pytest.mark.slow
def test_another_version_is_named_where_the_report_differs(
    members: Members, tmp_path: Path
) -> None:
    version, report = f"{NAME}/environment/bench-version.txt", f"{NAME}/report/report.md"
    older = with_sums({**members, version: b"0.0.1\n"})
    sound = Verification(len(members), "0.0.1", (), pictures(members))
    assert verify(written(tmp_path / "a.tar.gz", older)) == sound
    other = with_sums({**older, report: members[report] + b"more\n"})
    first, second = verify(written(tmp_path / "b.tar.gz", other)).wrong
    assert first.startswith(f"{report}: does not follow")
    assert f"version 0.0.1 made it, this is {__version__}" in second


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("runs.csv", b"run_id\n\x1b[31m\n", "no report can be made from its CSVs"),
        ("runs.csv", b"", "does not follow"),
        ("runs.csv", None, "it has no runs.csv"),
        ("report/summary.csv", None, "report/summary.csv: is not there"),
        ("environment/images.txt", None, "images.txt: is not there"),
        ("environment/bench-version.txt", None, "bench-version.txt: is not there"),
        ("environment/bench-version.txt", b"\x1b[2J\n", "is no version of this program"),
        ("curves.csv", b"+a,b,1,1e9,1\n", "1 damaged line"),  # after what it holds
    ],
)
def test_files_that_the_program_cannot_use_are_findings(
    name: str, content: bytes | None, told: str, members: Members, tmp_path: Path
) -> None:
    rest = {key: value for key, value in members.items() if key != f"{NAME}/{name}"}
    if content and content.startswith(b"+"):
        content = members[f"{NAME}/{name}"] + content[1:]
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
    "symlink": (f"{NAME}/evil", link(tarfile.SYMTYPE, "/etc/passwd"), "is no plain file"),
    "hardlink": (f"{NAME}/evil", link(tarfile.LNKTYPE, f"{NAME}/runs.csv"), "is no plain file"),
    "device": (f"{NAME}/evil", link(tarfile.CHRTYPE, ""), "is no plain file"),
    "pipe": (f"{NAME}/evil", link(tarfile.FIFOTYPE, ""), "is no plain file"),
    "folder": (f"{NAME}/evil", link(tarfile.DIRTYPE, ""), "is no plain file"),
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
    with pytest.raises(BundleError, match="holds data after its end"):
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
