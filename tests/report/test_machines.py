"""Rows of several machines in one verdict: losses over all, times on each by itself."""

import csv
import math
import shutil
from pathlib import Path

import pytest

from bench.merge.asked import Asked, read_asked
from bench.merge.digits import digits_of
from bench.merge.from_curves import with_curves
from bench.merge.merging import merge
from bench.merge.sections import Section, make_sections
from bench.records.columns import OF_A_MACHINE, RUN_COLUMNS
from bench.report.build import build_report
from bench.report.family import Family, make_family
from bench.report.machines import apart, over_machines
from bench.statistics.verdict import Verdict
from tests.builders.results import TENTHS, Results
from tests.builders.shared import ROOT

MATRIX = """\
name: tiny
matrix: {{model: [gpt], optimizer: [adamw, muon], device: [cpu], seed: {seeds}}}
models: {{gpt: {{base: nanogpt}}}}
claim: {{baseline: {{model: gpt, optimizer: adamw}}, metric: {metric}, margin: 0.01{also}}}
"""
AVX2 = {"cpu_isa": "AuthenticAMD avx avx2 fma"}
# Seconds of AdamW on each machine, and how many times those of Muon are.
SPEEDS = {"host1": (5.0, 1.5), "host2": (50.0, 1.4), "host3": (8.0, 1.6)}


class Lab:
    """A folder a machine, as tasks of a queue leave them: some seeds, both arms of each."""

    def __init__(self, path: Path, metric: str = "val_loss_final") -> None:
        self.path, self.metric, self.also = path, metric, ""
        self.folders: list[Results] = []

    def task(self, host: str, *seeds: int, **fields) -> Results:
        folder = Results(self.path / f"task{len(self.folders) + 1}")
        self.folders.append(folder)
        for seed in seeds:
            for optimizer in ("adamw", "muon"):
                self.run(folder, host, optimizer, seed, **fields)
        return folder

    def run(self, folder: Results, host: str, optimizer: str, seed: int, **fields) -> None:
        run_id = folder.planned(optimizer=optimizer, seed=seed, device=fields.pop("device", "cpu"))
        slow, times = SPEEDS.get(host, (5.0, 1.5))
        seconds = slow * (times if optimizer == "muon" else 1.0)
        loss = 2.0 + 0.01 * seed - (0.2 + 0.001 * seed if optimizer == "muon" else 0.0)
        known = {"val_loss_final": loss, "train_time_s": seconds, "host_id": host, **AVX2}
        folder.ended(run_id, **{**known, **fields})
        folder.curve(run_id, [(at, at * seconds / 100, loss + 5 / (1 + at)) for at in TENTHS])
        for point in folder.curves:
            point["host_id"] = next(
                row["host_id"] for row in folder.runs if row["run_id"] == point["run_id"]
            )

    def written(self) -> list[Path]:
        paths = [folder.write() for folder in self.folders]
        seeds = sorted({row["seed"] for folder in self.folders for row in folder.plan})
        for path in paths:
            text = MATRIX.format(seeds=seeds, metric=self.metric, also=self.also)
            (path / "matrix.yaml").write_text(text)
        return paths

    def sections(self) -> tuple[list[Section], Asked]:
        paths = self.written()
        asked = read_asked(paths)
        terms = [each for each in asked.claims if each]
        made = make_sections(merge(paths))
        return [with_curves(one, terms) for all_ in made for one in apart(all_, asked)], asked

    def families(self) -> list[Family]:
        sections, asked = self.sections()
        found = [make_family(section, asked, look=1) for section in sections]
        return [family for family in found if family]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_losses_of_three_machines_are_one_section_and_one_verdict(lab: Lab) -> None:
    for host, seeds in (("host1", (1, 2)), ("host2", (3, 4)), ("host3", (5, 6))):
        lab.task(host, *seeds)
    ((section,), _), (family,) = lab.sections(), lab.families()
    assert section.timing.hosts == ("host1", "host2", "host3")
    (found,) = family.comparisons
    assert (found.verdict, found.contrast.n, found.contrast.unit) == (Verdict.BETTER, 6, "seed")
    assert found.contrast.by_seed == pytest.approx({s: -0.2 - 0.001 * s for s in range(1, 7)})


def test_each_machine_is_one_value_of_a_time(lab: Lab) -> None:
    """By hand: of two seeds on each, Muon takes 1.5, 1.4 and 1.6 times as long."""
    lab.metric = "train_time_s"
    for host, seeds in (("host1", (1, 2)), ("host2", (3, 4)), ("host3", (5, 6))):
        lab.task(host, *seeds)
    (family,) = lab.families()
    (found,) = family.comparisons
    values = [math.log(times) for _, times in SPEEDS.values()]
    assert [*found.contrast.by_seed.values()] == pytest.approx(values)
    assert (found.verdict, found.contrast.n, found.contrast.unit) == (Verdict.WORSE, 3, "machine")
    mean, sd = sum(values) / 3, math.sqrt(sum((v - sum(values) / 3) ** 2 for v in values) / 2)
    t = 6.205346816  # of 97.5 % two-sided, 2 degrees of freedom: Welch's tables
    interval = found.contrast.interval
    assert interval
    assert interval.high == pytest.approx(mean + t * sd / math.sqrt(3), rel=1e-4)
    assert found.seeds_needed is None  # more seeds would decide nothing
    assert family.ladders == family.time_ladders == ()


def test_of_two_machines_each_stands_apart_where_a_time_is_claimed(lab: Lab) -> None:
    lab.task("host1", 1, 2, 3)
    lab.task("host2", 4, 5, 6)
    assert len(lab.sections()[0]) == 1
    lab.metric = "train_time_s"
    one, two = lab.sections()[0]
    assert [each.timing.hosts for each in (one, two)] == [("host1",), ("host2",)]
    assert [arm.seeds for arm in one.arms + two.arms] == [(1, 2, 3)] * 2 + [(4, 5, 6)] * 2
    assert [family.comparisons[0].contrast.n for family in lab.families()] == [3, 3]


def test_a_further_claim_about_a_time_has_no_verdict_on_two_machines(lab: Lab) -> None:
    lab.also = ", also: [{metric: train_time_s, margin: 0.05}]"
    lab.task("host1", 1, 2, 3)
    lab.task("host2", 4, 5, 6)
    ((section,), asked) = lab.sections()
    family = make_family(section, asked, 1, asked.claims[1])
    assert family
    (found,) = family.comparisons
    assert (found.verdict, found.contrast.n) == (Verdict.TOO_FEW, 2)
    assert found.judgement.why == "2 machines; a verdict needs 3"


def test_more_seeds_would_decide_nothing_over_machines(lab: Lab) -> None:
    lab.metric = "train_time_s"
    for number, times in enumerate((0.9, 1.1, 1.0), start=1):
        folder = lab.task(f"even{number}", 2 * number, 2 * number + 1)
        for row in folder.runs:
            row["train_time_s"] = 5.0 * (times if row["optimizer"] == "muon" else 1.0)
    ((found,),) = (family.comparisons for family in lab.families())
    assert (found.verdict, found.seeds_needed) == (Verdict.UNDECIDED, None)


def test_no_figure_of_a_machine_has_a_mean_over_several(lab: Lab) -> None:
    lab.task("host1", 1, 2)
    lab.task("host2", 3, 4)
    ((section,), _) = lab.sections()
    for arm in section.arms:
        assert {name for name in OF_A_MACHINE if arm.spread(name).n} == set()
        assert arm.spread("val_loss_final").n == 4
    for host, here in section.machines.items():
        assert {cell.text("host_id") for cell in here.cells} == {host}
        assert [arm.spread("train_time_s").n for arm in here.arms] == [2, 2]


def test_a_pair_that_is_torn_between_two_machines_has_a_loss_and_no_time(lab: Lab) -> None:
    lab.metric = "train_time_s"
    for host, seed in (("host1", 1), ("host2", 2), ("host3", 3)):
        lab.task(host, seed)
    torn = lab.task("host4")
    lab.run(torn, "host4", "adamw", 4)
    lab.run(torn, "host5", "muon", 4)
    ((section,), _) = lab.sections()
    adamw, muon = section.arms
    found = over_machines(section, muon, adamw, "train_time_s", 0.95)
    assert [*found.contrast.by_seed.values()] == pytest.approx(
        [math.log(times) for _, times in SPEEDS.values()]
    )
    assert (sum(found.ends.count.values()), found.without_figure) == (3, 0)
    assert muon.spread("val_loss_final").n == 4


@pytest.mark.parametrize(
    ("status", "reason"), [("diverged", ""), ("crashed", "exit code 1"), ("timeout", "")]
)
def test_a_machine_on_which_a_seed_failed_is_no_better_one(
    lab: Lab, status: str, reason: str
) -> None:
    """Muon is faster on all five machines, and failed at one of two seeds of the fifth."""
    lab.metric = "train_time_s"
    for number in range(1, 6):
        folder = lab.task(f"fast{number}", number, *([6] if number == 5 else []))
        for row in folder.runs:
            row["train_time_s"] = 5.0 if row["optimizer"] == "adamw" else 4.0 + 0.01 * number
    failing = lab.folders[-1]
    failing.runs[-1] |= {"status": status, "reason": reason, "train_time_s": None}
    (family,) = lab.families()
    (found,) = family.comparisons
    assert found.contrast.n == 4
    assert not found.ends.all_finished
    assert found.verdict is Verdict.UNDECIDED
    assert 0.5 < found.most_bad_runs < 0.6  # one of six runs failed: Clopper and Pearson, 58 %


def test_a_machine_that_was_disturbed_throughout_has_no_value(lab: Lab) -> None:
    lab.metric = "train_time_s"
    for host, seed in (("host1", 1), ("host2", 2), ("host3", 3)):
        lab.task(host, seed)
    lab.task("host4", 4, tainted=True, taint_reasons="cpu_steal 12%")
    ((section,), _), (family,) = lab.sections(), lab.families()
    (found,) = family.comparisons
    assert (found.contrast.n, found.n_planned, found.without_figure) == (3, 4, 1)
    assert [*section.machines] == ["host1", "host2", "host3", "host4"]


def test_a_loss_at_equal_time_is_taken_on_each_machine(lab: Lab) -> None:
    """Its budget is the machine's own: fifty seconds would be more than a fast one trains."""
    lab.metric = "val_loss_at_equal_time"
    for host, seed in (("host1", 1), ("host2", 2), ("host3", 3)):
        lab.task(host, seed)
    (family,) = lab.families()
    (found,) = family.comparisons
    assert (found.contrast.n, found.contrast.unit) == (3, "machine")
    # Muon has made 1 / 1.5, 1 / 1.4 and 1 / 1.6 of its steps when AdamW ends.
    assert all(value > -0.21 for value in found.contrast.by_seed.values())
    assert "each machine's own" in family.at


@pytest.mark.parametrize(
    "other",
    [
        {"cpu_isa": "GenuineIntel avx avx2 fma avx512f"},
        {"threads": 2},
        {"cpu_isa": "", "host_id": "host2"},  # of an older version: not known to be alike
    ],
)
def test_what_decides_losses_is_not_merged(lab: Lab, other: dict[str, object]) -> None:
    lab.task("host1", 1, 2)
    lab.task("host2", 3, 4, **other)
    assert len(lab.sections()[0]) == 2


def test_rows_of_an_older_version_stand_by_host_as_they_did(lab: Lab) -> None:
    lab.task("host1", 1, 2, cpu_isa="")
    lab.task("host2", 3, 4, cpu_isa="")
    lab.task("host1", 5, 6, cpu_isa="")
    sections, _ = lab.sections()
    assert [section.timing.hosts for section in sections] == [("host1",), ("host2",)]
    assert [len(section.ok) for section in sections] == [8, 4]


def test_a_folder_that_a_newer_version_went_on_with_is_one_section(lab: Lab) -> None:
    lab.task("host1", 1, 2, cpu_isa="")
    lab.task("host1", 3, 4)
    lab.task("host2", 5, 6, cpu_isa="")
    sections, _ = lab.sections()
    assert [len(section.ok) for section in sections] == [8, 4]


def test_of_gpus_the_name_decides(lab: Lab) -> None:
    """Not the processor beside them."""
    gpu = {"device": "cuda", "gpu_name": "NVIDIA H100"}
    lab.task("host1", 1, 2, **gpu)
    lab.task("host2", 3, 4, **gpu, cpu_isa="GenuineIntel avx512f")
    lab.task("host3", 5, 6, **{**gpu, "gpu_name": "NVIDIA A100"})
    sections, _ = lab.sections()
    assert [section.timing.hosts for section in sections] == [("host1", "host2"), ("host3",)]


def test_a_seed_that_failed_on_one_machine_has_failed(lab: Lab) -> None:
    """Also where a queue gave it to another one afterwards, which finished it."""
    lab.task("host1", 1, 2, 3, 4)
    folder = lab.task("host2", 5)
    folder.runs[1] |= {"status": "crashed", "reason": "exit code 1"}
    again = {**folder.runs[1], "status": "ok", "host_id": "host1", "attempt": 2}
    folder.runs.append(again | {"started_at": "2026-02-01T00:00:00+00:00", "reason": ""})
    (family,) = lab.families()
    assert family.comparisons[0].ends.failed_new == 1


def test_whether_two_machines_give_the_same_digits_is_told(lab: Lab, tmp_path: Path) -> None:
    lab.task("host1", 1, 2)
    lab.task("host2", 1)
    ((section,), _) = lab.sections()
    found = digits_of(section)
    assert found
    assert (found.runs, found.equal, found.largest) == (2, 2, 0.0)
    page = report(lab, tmp_path)
    assert "2 runs ended ok on two machines or more, with the same loss to the last digit." in page
    lab.folders[-1].runs[0]["val_loss_final"] = 2.01 + 1e-7
    assert "1 with the same loss to the last digit; the largest difference is" in report(
        lab, tmp_path
    )


def report(lab: Lab, place: Path) -> str:
    build_report(lab.written(), place / "report")
    return (place / "report" / "report.md").read_text()


def test_the_page_tells_times_machine_by_machine(lab: Lab, tmp_path: Path) -> None:
    for host, seeds in (("host1", (1, 2)), ("host2", (3, 4)), ("host3", (5, 6))):
        lab.task(host, *seeds)
    page = report(lab, tmp_path)
    assert "These runs are of 3 machines of one kind." in page
    table = page.partition("### Machine by machine")[2].partition("###")[0]
    lines = [[part.strip() for part in line.split("|")[1:-1]] for line in table.splitlines()]
    changes = {(line[0], line[1]): line[-1] for line in lines if len(line) > 2}
    assert changes["gpt + muon", "host1"] == "+50.0 %"
    assert changes["gpt + muon", "host2"] == "+40.0 %"
    assert changes["gpt + muon", "over 3 machines"].startswith("+49.8 % (")
    assert changes["gpt + adamw", "host1"] == ""
    summary = page.partition("### Summary by configuration")[2].partition("###")[0]
    assert "training (s)" not in summary


def test_the_page_of_a_time_counts_machines_and_no_pairs_of_them(lab: Lab, tmp_path: Path) -> None:
    lab.metric = "train_time_s"
    for host, seed in (("host1", 1), ("host2", 2), ("host3", 3)):
        lab.task(host, seed)
    page = report(lab, tmp_path)
    assert "Each machine is one value, the mean of its own pairs; t intervals" in page
    assert "A verdict needs 3 machines." in page
    assert "geometric mean over the machines (n = 3)" in page
    claim = page.partition("### The claim")[2].partition("\n\n###")[0]
    for word in ("pairs of machines", "planned machines", "would decide", "correlation"):
        assert word not in claim


def test_a_published_matrix_over_three_machines_has_the_verdict_of_one(tmp_path: Path) -> None:
    """Copies of one folder, of which each has the rows of some seeds, under another host_id."""
    whole = ROOT / "results" / "original-cpu"
    places = {"1": "a", "2": "a", "3": "b", "4": "b", "5": "c"}
    folders = []
    for host in "abc":
        folder = tmp_path / host
        folder.mkdir()
        for name in ("matrix.yaml", "plan.csv", "curves.csv"):
            shutil.copy(whole / name, folder / name)
        copied(whole / "runs.csv", folder / "runs.csv", host, places, RUN_COLUMNS)
        copied(whole / "curves.csv", folder / "curves.csv", host, None, None)
        folders.append(folder)
    one, several = (
        make_family(make_sections(merge(paths))[0], read_asked(paths), look=1)
        for paths in ([whole], folders)
    )
    assert one
    assert several
    for here, there in zip(one.comparisons, several.comparisons, strict=True):
        assert (here.arm.label, here.verdict) == (there.arm.label, there.verdict)
        assert here.contrast.by_seed == there.contrast.by_seed
        assert here.contrast.interval == there.contrast.interval


def copied(old: Path, new: Path, host: str, places: dict[str, str] | None, columns) -> None:
    """A table's rows of a host's seeds; all, where nothing tells whose seeds are whose."""
    with old.open(newline="") as file:
        rows = list(csv.DictReader(file))
    mine = [row for row in rows if places is None or places[row["seed"]] == host]
    with new.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns or rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        for row in mine:
            isa = AVX2 if columns else {}
            writer.writerow({**row, "host_id": host, **isa})
