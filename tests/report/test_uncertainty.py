"""Where the uncertainty of a claimed difference comes from."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from bench.matrix.claim_forms import FixedClaim
from bench.merge.asked import Asked
from bench.merge.merging import merge
from bench.merge.sections import make_sections
from bench.report.build import build_report
from bench.report.family import make_family
from bench.report.fixed import fixed_family
from bench.report.page.uncertainty import uncertainty_tables
from bench.report.uncertainty import uncertainties
from bench.statistics.blocks import error_of_mean
from tests.builders.claims import claimed
from tests.builders.results import Results
from tests.builders.scenes import cell_folder, window_file

SEEDS = (1, 2, 3, 4, 5)
OF_SEEDS = [0.010, 0.014, 0.006, 0.012, 0.008]  # muon - adamw; their mean is 0.010
TWO_THREADS = {"threads": 2}
OTHER_PROCESSOR = {"host_id": "host2", "host_cpu_model": "Another processor"}


def filled(folder: Results, further=0.0, seeds=SEEDS, threads=1, lr=0.1, **fields) -> Results:
    """Two arms with what was asked of each; `further`: what every difference has more."""
    for optimizer in ("adamw", "muon"):
        for seed in seeds:
            arm = f"{optimizer}/{threads}/{lr}"  # threads are among what was asked
            run_id = folder.planned(optimizer=optimizer, seed=seed, arm=arm).replace("/", "_")
            folder.plan[-1]["run_id"] = run_id
            more = OF_SEEDS[seed - 1] + further if optimizer == "muon" else 0.0
            folder.ended(run_id, val_loss_final=2.0 + more, threads=threads, **fields)
            spec = {"run_id": run_id, "seed": seed, "optimizer": {"name": optimizer, "lr": lr}}
            spec["train"] = {"threads": threads}
            (cell_folder(folder, run_id) / "spec.json").write_text(json.dumps(spec))
    return folder


def told(*folders: Results, asked=None, further=()):
    """Of the first folder's section."""
    merged = merge([folder.write() for folder in folders])
    sections = make_sections(merged)
    asked = asked or claimed(margin=0.02)
    family = make_family(sections[0], asked, look=1)
    return uncertainties(sections[0], family, sections, merged)


def windows(folder: Results, seeds=SEEDS, n=64, split="val", drop=0):
    """Losses of every window by (optimizer, seed); written beside the cells."""
    rng = np.random.default_rng(7)
    shared = rng.normal(size=n)
    found = {}
    for row in folder.plan:
        losses = 2 + shared + 0.1 * rng.normal(size=n)
        if row["seed"] in seeds:
            kept = losses[drop:] if row["optimizer"] == "muon" else losses
            window_file(folder, row["run_id"], kept.tolist(), split)
            found[row["optimizer"], row["seed"]] = losses
    return found


def test_what_seeds_make_is_the_standard_error_of_their_differences(new):
    (found,) = told(filled(new()))
    assert found.seeds == pytest.approx(np.std(OF_SEEDS, ddof=1) / math.sqrt(5))
    assert (found.rounding, found.repeated, found.text, found.seeds_and_text) == (None, 0) + (
        None,
    ) * 2


@pytest.mark.parametrize("where", [TWO_THREADS, OTHER_PROCESSOR])
def test_rounding_is_what_the_same_seeds_differ_by_elsewhere(new, where):
    """Each of two repeated seeds by 0.004: within a pair the variance is 0.004 squared / 2."""
    (found,) = told(filled(new("one")), filled(new("two"), further=0.004, seeds=(1, 2), **where))
    assert found.repeated == 2
    assert found.rounding == pytest.approx(math.sqrt(0.004**2 / 2 / 5))


def test_a_third_processor_is_pooled_with_the_second(new):
    """Of three figures a, a and a + 0.006 the variance is 0.006 squared / 3."""
    folders = [filled(new("one"))]
    folders += [filled(new("two"), seeds=(3,), **TWO_THREADS)]
    folders += [filled(new("three"), further=0.006, seeds=(3,), **OTHER_PROCESSOR)]
    (found,) = told(*folders)
    assert found.repeated == 1
    assert found.rounding == pytest.approx(math.sqrt(0.006**2 / 3 / 5))


@pytest.mark.parametrize(
    "otherwise",
    [
        {"host_id": "host2"},  # the same processor: the same digits
        {**TWO_THREADS, "code_sha256": "code2"},
        {**TWO_THREADS, "torch_version": "2.1"},
        {**TWO_THREADS, "lr": 0.2},
        {"host_id": "host2", "host_cpu_model": ""},  # which processor is not known
    ],
)
def test_what_differs_by_more_than_rounding_is_not_counted(new, otherwise):
    (found,) = told(filled(new("one")), filled(new("two"), further=0.004, **otherwise))
    assert (found.rounding, found.repeated) == (None, 0)


@pytest.mark.parametrize("spec", ["{", "[]", '{"train": 1}', "{" * 100_000])
def test_a_damaged_spec_is_no_repeat(new, spec):
    one, two = filled(new("one")), filled(new("two"), further=0.004, **TWO_THREADS)
    for path in two.path.glob("cells/*/spec.json"):
        path.write_text(spec)
    assert told(one, two)[0].rounding is None


def test_the_text_is_told_by_differences_of_the_same_windows(new):
    """What both arms find hard alike is not in it: their own losses scatter ten times as much."""
    folder = filled(new())
    losses = windows(folder)
    (found,) = told(folder)
    differences = [losses["muon", seed] - losses["adamw", seed] for seed in SEEDS]
    assert found.parts == 64
    assert found.text == pytest.approx(error_of_mean(np.mean(differences, axis=0)))
    assert found.text < error_of_mean(losses["adamw", 1]) / 5
    assert found.seeds_and_text == pytest.approx(math.hypot(found.seeds, found.text))


def test_seeds_that_did_not_keep_their_windows_are_left_out(new):
    folder = filled(new())
    losses = windows(folder, seeds=(2, 4))
    differences = [losses["muon", seed] - losses["adamw", seed] for seed in (2, 4)]
    (found,) = told(folder)
    assert found.text == pytest.approx(error_of_mean(np.mean(differences, axis=0)))


@pytest.mark.parametrize("content", ["", "windows,loss\n1,nan\n", "windows\n1\n", "loss\nx\n"])
def test_damaged_files_of_windows_are_left_out(new, content):
    folder = filled(new())
    windows(folder)
    for path in folder.path.glob("cells/muon*/val_windows.csv"):
        path.write_text(content)
    assert told(folder)[0].text is None


def test_windows_that_are_not_the_same_ones_are_not_compared(new):
    folder = filled(new())
    windows(folder, drop=1)
    assert told(folder)[0].text is None


def test_a_claim_about_the_test_split_is_told_by_its_windows(new):
    folder = filled(new(), test_loss_final=2.0)
    windows(folder, split="test")
    asked = claimed("test_loss_final", margin=0.02)
    (found,) = told(folder, asked=asked)
    assert found.text is not None
    assert told(folder)[0].text is None  # of the validation split


@pytest.mark.parametrize("metric", ["train_time_s", "host_rss_peak_mib"])
def test_other_claims_have_no_such_table(new, metric):
    assert told(filled(new()), asked=claimed(metric, margin=0.02)) == []


def test_a_fixed_target_has_the_errors_of_one_arm(new):
    folder = filled(new())
    losses = windows(folder)
    named = {"arm": {"model": "gpt", "optimizer": "muon"}, "metric": "val_loss_final"}
    claim = FixedClaim.model_validate({**named, "at_most": 2.1})
    merged = merge([folder.write()])
    (section,) = make_sections(merged)
    family = fixed_family(section, Asked(None, fixed=claim), claim, 1)
    (found,) = uncertainties(section, family, [section], merged)
    mean = np.mean([losses["muon", seed] for seed in SEEDS], axis=0)
    assert found.text == pytest.approx(error_of_mean(mean))
    assert found.seeds == pytest.approx(np.std(OF_SEEDS, ddof=1) / math.sqrt(5))


def test_the_page_puts_each_beside_the_margin(new, tmp_path):
    one, two = filled(new("one")), filled(new("two"), further=0.004, seeds=(1, 2), **TWO_THREADS)
    windows(one)
    merged = merge([one.write(), two.write()])
    sections = make_sections(merged)
    family = make_family(sections[0], claimed(margin=0.02), look=1)
    found = uncertainties(sections[0], family, sections, merged)
    (table,) = uncertainty_tables(family, found)
    texts = [field.text for field in table.rows[0]]
    assert table.caption == "Where the uncertainty comes from, beside the margin, 0.02"
    assert texts[:4] == ["gpt + muon", "+0.0100", "0.0014 (7 %)", "0.0013 (6 %), 2 seeds again"]
    assert "n/a" not in table.note
    assert "64 windows (or parts) of the last evaluation, in blocks of " in table.note
    bare = [replace(each, rounding=None, text=None, parts=0) for each in found]
    (table,) = uncertainty_tables(family, bare)
    assert table.rows[0][4].text == "n/a"
    assert "n/a: nothing ran on another processor" in table.note
    assert uncertainty_tables(family, [replace(each, seeds=None) for each in bare]) == []
    build_report([one.path, two.path], tmp_path / "report")
    assert "Where the uncertainty comes from" in (tmp_path / "report" / "report.md").read_text()
