"""Pages, tables and bundles of a training script: what it tells, and nothing that it does not."""

import csv
import json
from pathlib import Path

import pytest
from scipy.stats import ttest_ind, ttest_rel

from bench.merge.asked import Asked, read_asked
from bench.merge.curves import at_equal_cost, seconds
from bench.merge.frames import load
from bench.records.cache import sha256_of, store
from bench.records.programs import field_of, figure_of, setup_of
from bench.report.build import build_report
from bench.report.bundle import make_bundle
from bench.report.family import Comparison, Family, make_family
from bench.report.looks import fingerprint
from bench.report.verify import verify
from bench.statistics.verdict import Verdict
from tests.builders.programs import BASE, NEW, Programs, spread
from tests.builders.results import Results, sections_of, two_arms
from tests.report.bundles import unpacked, with_sums, written

OF_OURS = (
    *("nats", "perplexity", "same batches in the same order;", "corpus", "learning rates"),
    *("infer", "param_efficiency is", "paired by seed", "Paired by seed", "protocol"),
)


def family_of(folder: Programs, asked: Asked | None = None, look=1) -> Family:
    [section] = sections_of(folder)
    found = make_family(section, asked or read_asked([folder.path]), look)
    assert found is not None
    return found


def first(folder: Programs) -> Comparison:
    return family_of(folder).comparisons[0]


def declaring(path: Path, better="lower", **shared) -> Programs:
    """Two arms by a metric that the program declares: 1.2 and 1.1."""
    folder = Programs(path, metrics={"val_bpb": better}, **shared)
    folder.declared(BASE, "val_bpb", spread(1.2, 0.02))
    folder.declared(NEW, "val_bpb", [x + 0.001 * (i % 2) for i, x in enumerate(spread(1.1, 0.02))])
    return folder


# --- figures


def test_a_figure_is_a_column_or_a_declared_metric():
    row = {"val_loss_final": "2.5", "metrics": '{"val_bpb": 1.25, "n": 3, "bad": NaN}'}
    names = ("val_loss_final", "val_bpb", "n", "bad", "other")
    assert [figure_of(row, name) for name in names] == [2.5, 1.25, 3.0, None, None]
    assert field_of({"metrics": ""}, "val_bpb") == ""


def test_a_declared_metric_is_like_a_loss_with_its_own_direction():
    setup = setup_of('{"program": {"metrics": {"acc": "higher", "bpb": "lower"}}}')
    assert setup.declared == ("acc", "bpb")
    assert [setup.columns[name].more_is_better for name in setup.declared] == [True, False]
    assert {setup.columns[name].kind for name in setup.declared} == {
        setup.columns["val_loss_final"].kind
    }
    assert setup.columns["val_loss_final"].unit == ""
    ours = setup_of('{"train": {"steps": 5}}')
    assert (ours.program, ours.declared, ours.is_paired) == ({}, (), True)
    assert ours.columns["val_loss_final"].unit == "nats per token"


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("metrics", "[1]"),
        ("metrics", '{"val_bpb": "low"}'),
        ("metrics", "[" * 100_000),
        ("settings", "{"),
        ("settings", '{"program": 5}'),
        ("settings", '{"program": {"metrics": {"a": 1}}}'),
    ],
)
def test_damaged_json_is_told_and_left_out(tmp_path, column, text):
    folder = declaring(tmp_path / "a")
    folder.runs[0][column] = text
    folder.write()
    with pytest.warns(UserWarning, match=f"{column} is"):
        cells = load(folder.path).cells
    assert list(cells["status"]).count("open") == 1


# --- claims on declared metrics


@pytest.mark.parametrize(
    ("better", "expected"), [("lower", Verdict.BETTER), ("higher", Verdict.WORSE)]
)
def test_a_claim_on_a_declared_metric_is_judged_in_its_direction(tmp_path, better, expected):
    folder = declaring(tmp_path / "a", better)
    folder.claiming("val_bpb")
    comparison = first(folder)
    assert comparison.verdict is expected
    new, base = (
        [json.loads(row["metrics"])["val_bpb"] for row in folder.runs][i:][:5] for i in (5, 0)
    )
    low, high = ttest_rel(new, base).confidence_interval(0.975)
    assert comparison.contrast.interval.low == pytest.approx(low)
    assert comparison.contrast.interval.high == pytest.approx(high)


def test_four_seeds_of_a_declared_metric_are_too_few(tmp_path):
    folder = declaring(tmp_path / "a")
    folder.plan = [row for row in folder.plan if row["seed"] < 5]
    folder.runs = [row for row in folder.runs if row["seed"] < 5]
    folder.claiming("val_bpb")
    assert first(folder).verdict is Verdict.TOO_FEW


def test_a_declared_metric_is_everywhere_that_a_loss_is(tmp_path):
    folder = declaring(tmp_path / "a")
    folder.run(NEW, 6, "crashed", reason="exit code 1")
    folder.run(BASE, 6, metrics={"val_bpb": 1.21})
    out = tmp_path / "report"
    built = build_report([folder.claiming("val_bpb")], out)
    told = "\n".join(built.terminal_lines)
    assert told.startswith("val_bpb against small + slow, margin 0.01: small + fast is undecided")
    assert "val_bpb (n)" in told
    assert "1.1004 (5)" in told
    [slow, fast] = csv.DictReader((out / "summary.csv").read_text().splitlines())
    assert (slow["val_bpb_n"], fast["val_bpb_n"]) == ("6", "5")
    assert float(fast["val_bpb_mean"]) == pytest.approx(1.1004)
    frames = load(folder.path)
    assert frames.cells["val_bpb"].dtype == "float64"
    assert frames.cells["val_bpb"].count() == 11
    assert list(frames.summary["val_bpb_n"]) == [6, 5]
    page = (out / "report.md").read_text()
    assert "### The claim: val\\_bpb less that of small + slow" in page
    assert "Difference in val\\_bpb from small + slow, paired by seed." in page
    assert "| val\\_bpb | val\\_bpb | a figure that the program printed" in page
    for picture in ("forest", "paired_differences", "comparison_graph"):
        assert (out / f"{picture}.png").is_file()


def test_without_a_claim_what_the_program_has_is_compared(tmp_path):
    folder = declaring(tmp_path / "a")
    [section] = sections_of(folder)
    assert section.main_metric == "val_bpb"
    assert family_of(folder, Asked(None)).metric == "val_bpb"
    folder = Programs(tmp_path / "b")
    for optimizer in (BASE, NEW):
        folder.arm(optimizer, [2.0, 2.1], train_loss_final=1.5)
    [section] = sections_of(folder)
    assert section.main_metric == "val_loss_final"


def test_a_claim_about_another_programs_metric_tests_nothing_and_says_so(tmp_path):
    other = Programs(tmp_path / "b")
    for optimizer in (BASE, NEW):
        other.arm(optimizer, spread(2.0, 0.1))
    other.write()
    folders = [declaring(tmp_path / "a").claiming("val_bpb"), other.path]
    told = "\n".join(build_report(folders, tmp_path / "report").terminal_lines)
    assert "val_bpb against small + slow" in told
    assert "Nothing is tested: no run here has val_bpb, which the claim is about." in told


def test_a_claim_on_what_nobody_declares_is_no_claim(tmp_path):
    folder = declaring(tmp_path / "a")
    folder.claiming("val_bqb")
    assert read_asked([folder.path]).note.startswith("The matrix.yaml of a holds no claim")


# --- what a page says of a program


def page_of(folder: Results, out: Path) -> str:
    build_report([folder.path], out)
    whole = (out / "report.md").read_text()
    return whole.partition("Definitions of the columns")[0]


def test_a_page_says_nothing_of_a_program_that_is_not_known(tmp_path):
    folder = Programs(tmp_path / "a", seeds="replicates")
    for optimizer, mean in ((BASE, 2.0), (NEW, 1.9)):
        folder.arm(optimizer, spread(mean, 0.02))
    for row in folder.runs:
        folder.curve(row["run_id"], [(step, "", 2 + 1 / (step + 1)) for step in range(0, 90, 10)])
    for point in folder.curves:
        point["tokens"] = ""
    folder.claiming("val_loss_final")
    page = page_of(folder, tmp_path / "report")
    assert [word for word in OF_OURS if word in page] == []
    assert "Loss at equal cost" not in page  # it tells none
    assert "n/a tokens" not in page
    assert "Program: nanoGPT (SHA-256 0a1b2c3d4e5f…)" in page
    assert "Times: Training time is not known" in page
    assert "Pairing: none: the program seeds itself, and its runs are replicates" in page
    html = (tmp_path / "report" / "index.html").read_text()
    assert '"loss":"validation loss"' in html.replace('": "', '":"')
    assert "Welch&#39;s t interval" in html or "Welch's t interval" in html
    assert "both saw the same batches" not in html


def test_equal_weights_and_batches_are_never_said_of_a_program(tmp_path):
    folder = Programs(tmp_path / "a")
    for optimizer in (BASE, NEW):
        folder.arm(optimizer, spread(2.0, 0.02))
    folder.claiming("val_loss_final")
    page = page_of(folder, tmp_path / "report")
    assert "not known whether configurations of a seed saw the same batches" in page
    assert "Paired by seed; t intervals" in page
    assert "Whether losses come out the same is the program's own doing" in (
        tmp_path / "report" / "index.html"
    ).read_text().replace("&#39;", "'")


def test_programs_that_end_at_different_steps_are_one_section(tmp_path):
    folder = Programs(tmp_path / "a")
    for seed in (1, 2):
        folder.run(BASE, seed, val_loss_final=2.0, steps=100 * seed)
    [section] = sections_of(folder)
    assert section.arms[0].constant("steps") is None  # they share none


@pytest.mark.slow
def test_sections_of_programs_are_told_apart_by_what_they_were_asked(tmp_path):
    one, two = Programs(tmp_path / "a", steps=100), Programs(tmp_path / "b", steps=200)
    for folder in (one, two):
        folder.arm(BASE, [2.0, 2.1])
        folder.write()
    ours = two_arms(Results(tmp_path / "c"))
    ours.write()
    build_report([one.path, two.path, ours.path], tmp_path / "report")
    page = (tmp_path / "report" / "report.md").read_text()
    assert "program nanoGPT, 100 steps" in page
    assert "program nanoGPT, 200 steps" in page
    assert "corpus text" in page


def test_times_of_two_sources_are_in_no_mean_and_in_no_verdict(tmp_path):
    folder = Programs(tmp_path / "a")
    for optimizer, source in ((BASE, "told"), (NEW, "stamps")):
        times = {"train_time_s": 5.0, "step_time_source": source, "wall_time_s": 9.0}
        folder.arm(optimizer, spread(2.0, 0.02), **times)
    folder.claiming("train_time_s")
    [section] = sections_of(folder)
    assert section.arms[0].spread("train_time_s").n == 0
    assert section.arms[0].spread("wall_time_s").n == 5
    assert first(folder).verdict is Verdict.NOT_AVAILABLE
    assert "not compared" in page_of(folder, tmp_path / "report")
    for row in folder.runs:
        row["step_time_source"] = "stamps"
    folder.write()
    assert "by the stamps of the lines that it printed" in page_of(folder, tmp_path / "report")


# --- replicates


def replicates(path: Path, new=1.9, n=5) -> Programs:
    folder = Programs(path, seeds="replicates")
    folder.arm(BASE, spread(2.0, 0.02, n))
    folder.arm(NEW, spread(new, 0.03, n)[::-1])
    return folder


def test_replicates_are_compared_by_means_and_welchs_interval(tmp_path):
    folder = replicates(tmp_path / "a")
    folder.claiming("val_loss_final", margin=0.03)
    comparison = first(folder)
    expected = ttest_ind(spread(1.9, 0.03), spread(2.0, 0.02), equal_var=False)
    low, high = expected.confidence_interval(0.975)
    interval = comparison.contrast.interval
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert (comparison.verdict, comparison.correlation) == (Verdict.BETTER, None)
    page = page_of(folder, tmp_path / "report")
    assert "on 5 runs against 5 of 5 planned each" in page
    assert "| 5 against 5 |" in page
    for words in ("paired by seed", "pairs of seeds", "correlation", "Paired by seed"):
        assert words not in page
    assert not (tmp_path / "report" / "paired_differences.png").exists()


def test_replicates_say_how_many_runs_would_decide(tmp_path):
    folder = replicates(tmp_path / "a", new=1.995)
    folder.claiming("val_loss_final", margin=0.02)
    comparison = first(folder)
    assert comparison.verdict is Verdict.UNDECIDED
    assert 6 <= comparison.seeds_needed.low < comparison.seeds_needed.high


def test_replicates_of_which_some_failed_are_ranked(tmp_path):
    folder = replicates(tmp_path / "a", n=6)
    for optimizer in (BASE, NEW):
        folder.run(optimizer, 7, "interrupted")
    folder.run(BASE, 8, "diverged")
    folder.run(NEW, 8, val_loss_final=1.95)
    folder.claiming("val_loss_final")
    comparison = first(folder)
    assert comparison.told == "better by rank"
    assert comparison.judgement.why == "49 of 49 comparisons of two runs"
    page = page_of(folder, tmp_path / "report")
    assert (
        "on 7 runs against 6 of 8 planned each, 1 diverged in the baseline, 1 run in neither"
        in page
    )
    assert "runs are tested by their rank" in page
    folder.run(NEW, 8, "crashed", attempt=2, reason="exit code 1")
    folder.write()
    # One failed in each: 42 of 49 are still ahead, p = 0.0131 of one side, where 0.0125 is needed.
    assert first(folder).judgement.why == "by the rank of 7 runs each"


def test_another_run_of_the_baseline_is_another_look(tmp_path):
    folder = replicates(tmp_path / "a")
    folder.claiming("val_loss_final")
    before = fingerprint([family_of(folder)])
    folder.runs[0]["val_loss_final"] = 2.01
    folder.write()
    assert fingerprint([family_of(folder)]) != before


def test_replicates_have_a_ladder_of_means(tmp_path):
    folder = Programs(tmp_path / "a", seeds="replicates")
    means = {("small", BASE): 2.0, ("small", NEW): 1.9, ("large", BASE): 1.8, ("large", NEW): 1.7}
    for (model, optimizer), mean in means.items():
        folder.arm(optimizer, spread(mean, 0.02), model=model)
    folder.claiming("val_loss_final")
    [ladder] = family_of(folder).ladders
    assert ladder.whole.mean == pytest.approx(-0.3)
    assert ladder.interaction.mean == pytest.approx(0.0, abs=1e-12)
    page = page_of(folder, tmp_path / "report")
    assert "5, 5, 5, 5" in page
    assert "over all runs of its configurations" in page
    assert "that all four" not in page


# --- bundles


def test_a_bundle_holds_the_programs_source_and_verify_checks_it(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    source = {"nanoGPT/train.py": b"print('val_loss 2.0')\n", "nanoGPT/model.py": b""}
    code, gone = sha256_of(source), "d" * 64
    store(tmp_path / "cache" / "code" / code, lambda: source)
    folder = declaring(tmp_path / "a")
    folder.claiming("val_bpb")
    hashes = (code, gone, "../../etc")
    for row, sha256 in zip(folder.runs, hashes, strict=False):
        cell = folder.path / "cells" / f"{row['seed']}-1"
        cell.mkdir(parents=True)
        named = {"model": {"options": {"settings": {}}}, "optimizer": {"options": {}}}
        (cell / "spec.json").write_text(json.dumps({"program": {"code_sha256": sha256}, **named}))
    build_report([folder.path], folder.path / "report")
    made = make_bundle([folder.path], tmp_path / "a.tar.gz")
    assert made.lacks == (gone,)
    members = unpacked(made.file)
    held = {name: content for name, content in members.items() if name.startswith("a/code/")}
    assert held == {f"a/code/{code}/{name}": content for name, content in source.items()}
    assert verify(made.file).wrong == ()
    forged = {**members, f"a/code/{code}/nanoGPT/train.py": b"print('val_loss 1.0')\n"}
    [fault] = verify(written(tmp_path / "b.tar.gz", with_sums(forged, "a"))).wrong
    assert fault == f"a/code/{code}: is not what its name, a SHA-256, says"


def test_runs_that_stop_early_are_told_beside_the_verdict(tmp_path):
    folder = Programs(tmp_path / "a")
    folder.arm(BASE, spread(2.0, 0.02), steps=100)
    folder.arm(NEW, spread(1.9, 0.02), steps=100)
    folder.run(NEW, 6, val_loss_final=1.5, steps=40)
    folder.run(BASE, 6, val_loss_final=2.0, steps=100)
    folder.claiming("val_loss_final")
    page = page_of(folder, tmp_path / "report")
    assert "Finished runs of small + fast ended at steps 40 to 100, and count alike" in page
    assert "Finished runs of small + slow" not in page


def test_what_one_evaluation_a_run_does_not_show_is_not_shown(tmp_path):
    folder = Programs(tmp_path / "a")
    folder.arm(BASE, spread(2.0, 0.02))
    folder.arm(NEW, spread(1.9, 0.02))
    for row in folder.runs:
        folder.curve(row["run_id"], [(100, 0.5, row["val_loss_final"])])
    folder.claiming("val_loss_final")
    page = page_of(folder, tmp_path / "report")
    assert not list((tmp_path / "report").glob("loss_*.png"))
    assert "Until a validation loss of" not in page
    assert "parameters" not in page.partition("Definitions")[0]
    assert "Costs that the program does not tell of its evaluations are left out." in page


def test_no_loss_is_told_at_a_cost_before_the_first_evaluation(tmp_path):
    folder = Programs(tmp_path / "a")
    folder.arm(BASE, spread(2.0, 0.02))
    folder.arm(NEW, spread(1.9, 0.02))
    for row in folder.runs:
        late = 3.0 if row["run_id"] == "small/fast/cpu#2" else 0.1
        folder.curve(row["run_id"], [(50, late, 2.5), (100, late + 0.4, row["val_loss_final"])])
    [section] = sections_of(folder)
    slow, fast = at_equal_cost(section.arms, seconds).losses
    assert slow.n == 5
    assert fast.n == 0
