"""Bundles hold what they should, of one folder and of several."""

import csv
import hashlib
import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from urllib.parse import unquote

import pytest

from bench import __version__
from bench.errors import BundleError, FolderError, RequestError
from bench.report import archive
from bench.report.build import build_report
from bench.report.bundle import make_bundle
from bench.report.verify import Verification, verify
from tests.builders.claims import arm, losses
from tests.builders.results import Results
from tests.builders.shared import ROOT, bench
from tests.report.bundles import (
    NAME,
    SUMS,
    Members,
    pictures,
    unpacked,
    with_sums,
    written,
)

# --- what it holds ---


@pytest.mark.slow
def test_an_untouched_bundle_verifies(made: Path, members: Members) -> None:
    assert verify(made) == Verification(len(members), __version__, (), pictures(members))


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
    (cell / "val_windows.csv").write_text("windows,loss\n")
    (tmp_path / "secret").write_text("not yours")
    (cell / "worker.log").unlink()
    (cell / "worker.log").symlink_to(tmp_path / "secret")
    (results / "report" / "more.parquet").symlink_to(tmp_path / "secret")
    made = make_bundle([results], tmp_path / "new.tar.gz")
    with tarfile.open(made.file) as whole:
        names = whole.getnames()
    assert f"{NAME}/looks.csv" in names
    assert f"{NAME}/cells/{cell.name}/steps.csv" in names
    assert f"{NAME}/cells/{cell.name}/val_windows.csv" in names
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
    assert b"4 of 4 runs ok" in members["both/report/report.md"]
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
        ("report/index.html", b"4 of 4 runs", b"9 of 9 runs", "both/report/index.html: does not"),
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


@pytest.mark.slow
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


# --- as it is typed ---


@pytest.mark.slow
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
