"""looks.csv: the same figures are the same look, others are the next."""

import os
import subprocess
import sys

import pytest

from bench.errors import RecordError
from bench.merge.asked import Asked
from bench.records.rows import read_table
from bench.report.build import build_report
from bench.report.built import Looked
from bench.report.family import make_family
from bench.report.looks import (
    FILE,
    claim_fingerprint,
    fingerprint,
    look_number,
    note_for_user,
    note_look,
)
from tests.builders.claims import arm, claimed, losses
from tests.builders.results import Results, sections_of
from tests.builders.shared import ROOT


def two_arms(folder: Results, n=5, mean=1.9) -> Results:
    arm(folder, losses=losses(2.0, n=n))
    arm(folder, optimizer="muon", losses=losses(mean, 1, n=n))
    return folder


def look(*folders: Results, asked=None) -> int:
    """Look at folders as a report does: count, test, note."""
    sections, paths = sections_of(*folders), [folder.path for folder in folders]
    asked = asked or claimed()

    def families(number):
        return [found for each in sections if (found := make_family(each, asked, number))]

    number = look_number(paths, fingerprint(families(1)))
    assert note_look(paths, families(number)) == []
    return number


def noted(folder: Results) -> list[str]:
    return [row["look"] for row in read_table(folder.path / FILE)]


def test_the_same_figures_are_the_same_look_and_a_new_seed_the_next(new):
    folder = two_arms(new())
    assert [look(folder), look(folder)] == [1, 1]
    arm(folder, losses=[2.01], first=6)
    assert look(folder) == 1  # no pair yet: the figures of the test are the same
    arm(folder, optimizer="muon", losses=[1.91], first=6)
    assert [look(folder), look(folder)] == [2, 2]
    assert noted(folder) == ["1", "2"]
    [first, second] = read_table(folder.path / FILE)
    assert (first["metric"], first["n_seeds"], second["n_seeds"]) == ("val_loss_final", "5", "6")
    assert first["figures_sha256"] != second["figures_sha256"]
    assert first["looked_at"].endswith("+00:00")


def test_figures_seen_before_keep_their_number_after_later_looks(new):
    folder = two_arms(new())
    before = [dict(row) for row in folder.runs], list(folder.plan)
    look(folder)
    arm(folder, losses=[2.01], first=6)
    arm(folder, optimizer="muon", losses=[1.91], first=6)
    assert look(folder) == 2
    folder.runs, folder.plan = before
    assert look(folder) == 1
    assert noted(folder) == ["1", "2"]


@pytest.mark.parametrize(
    "other",
    [
        claimed(margin=0.02),
        claimed(metric="train_time_s"),
        claimed(optimizer="muon"),
        Asked(None),
    ],
)
def test_another_claim_is_another_look(new, other):
    folder = two_arms(new())
    for number, row in enumerate(folder.runs):
        row["train_time_s"] = 5.0 + number**2 / 100
    assert [look(folder), look(folder, asked=other), look(folder)] == [1, 2, 1]


def test_a_diverged_seed_or_another_arm_is_another_look(new):
    folder = two_arms(new())
    look(folder)
    arm(folder, losses=[2.0], first=6)
    folder.ended(folder.planned(optimizer="muon", seed=6), status="diverged")
    assert look(folder) == 2
    folder.planned(optimizer="lion", seed=1)  # open, but one more comparison
    assert look(folder) == 3


@pytest.mark.parametrize("n", [1, 4])
def test_where_nothing_is_tested_nothing_is_spent(new, n):
    folder = two_arms(new(), n=n)
    look(folder)
    assert not (folder.path / FILE).exists()
    identical = new("second")
    arm(identical, losses=losses(2.0))
    arm(identical, optimizer="muon", losses=losses(2.0))
    look(identical)
    assert not (identical.path / FILE).exists()


def test_merged_folders_share_a_look_in_whatever_order(new):
    first, second = two_arms(new("a")), new("b")
    arm(second, losses=losses(2.2), first=11)
    arm(second, optimizer="muon", losses=losses(2.1, 1), first=11)
    assert [look(first), look(second)] == [1, 1]
    assert look(first, second) == 2
    assert look(second, first) == 2
    assert (noted(first), noted(second)) == (["1", "2"], ["1", "2"])
    assert look(first) == 1


def test_machines_and_arms_may_come_in_any_order(new):
    first, second = two_arms(new("a")), new("b")
    arm(second, optimizer="muon", losses=losses(1.8, 1), host_id="host2")
    arm(second, losses=losses(2.0), host_id="host2")
    assert [look(first, second), look(second, first)] == [1, 1]


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_the_next_look_comes_after_all_folders_earlier_ones(new, order):
    first, second = two_arms(new("a")), new("b")
    for optimizer, mean, own in (("adamw", 2.0, 0), ("muon", 1.8, 1)):
        arm(second, optimizer=optimizer, losses=losses(mean, own), first=11)
    look(first)
    look(first, asked=claimed(margin=0.5))
    look(second)
    assert look(*[first, second][order]) == 3
    assert (noted(first), noted(second)) == (["1", "2", "3"], ["1", "3"])


@pytest.mark.parametrize(
    "text",
    [
        "look,figures_sha256\nfirst,abc\n",
        "look,figures_sha256\n0,abc\n",
        "look,figures_sha256\n-3,abc\n",
        "look,figures_sha256\n1,\n",
        "look\n1\n",
        "figures_sha256\nabc\n",
    ],
)
def test_a_damaged_ledger_is_told(new, text):
    folder = two_arms(new())
    folder.write()
    (folder.path / FILE).write_text(text)
    with pytest.raises(RecordError, match=FILE):
        look(folder)


# Where a file is written before it is put in place, once its name is no longer drawn.
BLOCKED = f".{FILE}.{bytes(8).hex()}.partial"


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(os, "urandom", bytes)


@pytest.mark.usefixtures("known")
def test_a_folder_that_takes_no_note_is_told(new):
    folder, other = two_arms(new("a")), two_arms(new("b"), mean=1.8)
    sections = sections_of(folder, other)
    paths = [folder.path, other.path]
    # Root writes where modes forbid it; nobody writes a file where a folder is.
    (folder.path / BLOCKED).mkdir()
    families = [make_family(each, claimed(), 1) for each in sections]
    assert note_look(paths, families) == [folder.path]
    assert not (folder.path / FILE).exists()
    assert noted(other) == ["1"]


@pytest.mark.slow
@pytest.mark.usefixtures("known")
def test_a_report_says_that_its_look_was_not_noted(new, tmp_path):
    folder = two_arms(new())
    folder.write()
    blocked = folder.path / BLOCKED
    blocked.mkdir()
    build_report([folder.path], tmp_path / "out")
    told = "could not be noted in the looks.csv of first"
    assert told in (tmp_path / "out" / "report.md").read_text()
    blocked.rmdir()
    build_report([folder.path], tmp_path / "out")
    assert "could not be noted" not in (tmp_path / "out" / "report.md").read_text()
    assert noted(folder) == ["1"]


@pytest.mark.parametrize("content", [b"", b"look,figures_sha256\n", b"\x00\xff"])
def test_a_ledger_without_looks_was_damaged(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(RecordError, match="it holds no interim look"):
        look_number([tmp_path], "figures")


# --- looks in other folders


def looked(*folders: Results, asked=None) -> Looked:
    families = [
        found
        for each in sections_of(*folders)
        if (found := make_family(each, asked or claimed(), 1))
    ]
    return Looked(claim_fingerprint(families), fingerprint(families))


def others(*folders: Results, asked=None) -> list[str]:
    """The names of the other folders in which the same was claimed, at a further look."""
    paths = [folder.path for folder in folders]
    found = note_for_user(paths, looked(*folders, asked=asked))
    return sorted(folder.rpartition("/")[2] for folder in found)


def test_looks_at_the_same_claim_in_other_folders_are_told(new, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    one, two, three = (two_arms(new(name), mean=1.8 + i / 9) for i, name in enumerate("abc"))
    assert others(one) == []
    assert others(one) == []  # the same folder again is no other
    assert others(two) == ["a"]
    assert others(two) == ["a"]
    assert others(three, asked=claimed(margin=0.5)) == []  # another claim
    assert others(three) == ["a", "b"]
    assert others(one, two) == ["c"]
    assert others(one) == ["b", "c"]
    rows = read_table(tmp_path / "cache" / FILE)
    assert len({(row["claim_sha256"], row["folders"]) for row in rows}) == len(rows) == 5


@pytest.mark.slow
def test_a_damaged_ledger_of_the_user_is_told_and_hides_no_report(new, tmp_path):
    matrix = "name: x\nclaim: {baseline: {model: gpt, optimizer: adamw}, "
    matrix += "metric: val_loss_final, margin: 0.01}\n"
    folders = []
    for name in ("a", "b"):
        folders.append(two_arms(new(name)).write())
        (folders[-1] / "matrix.yaml").write_text(matrix)
    cache = tmp_path / "cache"

    def report(folder):
        command = [sys.executable, "-m", "bench", "report", str(folder)]
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "BENCH_CACHE": str(cache)},
            capture_output=True,
            text=True,
        )

    assert "this claim was also tested" not in report(folders[0]).stdout
    told = report(folders[1])
    said = told.stdout.replace("\n", "")
    assert f"this claim was also tested in 1 other folder: {folders[0]}." in said
    page = (folders[1] / "report" / "index.html").read_text()
    assert str(folders[0]) not in page
    (cache / FILE).write_text("what is this\n,,\n")
    answer = report(folders[0])
    assert answer.returncode == 0
    assert "other folders were tested for this claim is not known" in answer.stderr
