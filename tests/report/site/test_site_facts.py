"""What a site reads from a bundle: arms, figures, and what stays the same from one to the next."""

import json
from pathlib import Path

import pytest

from bench.report.archive import pack
from bench.report.site.facts import BundleFacts, read_bundle
from bench.report.site.trend import arm_trends
from tests.builders.results import Results, two_arms
from tests.builders.shared import ROOT
from tests.builders.sites import LOSS, RATE, TIME, packed, packed_folder


def read(results: Results) -> BundleFacts:
    place = results.path.parent
    file = packed(results, place / f"{results.path.name}.tar.gz")
    return read_bundle(file, place / f"unpacked-{results.path.name}")


def test_the_published_results_are_read(made: Path, tmp_path: Path):
    facts = read_bundle(made, tmp_path / "unpacked")
    assert facts.top == "original-cpu"
    assert facts.ok == facts.selected > 0
    assert len(facts.arms) == len({arm.series for arm in facts.arms}) == len(facts.labels)
    for arm in facts.arms:
        assert [metric.name for metric in arm.metrics] == [LOSS, TIME, RATE, "host_rss_peak_mib"]
        assert all(metric.mean is not None for metric in arm.metrics)
        assert facts.ends[arm.series].keys() == arm.metrics[0].by_seed.keys()


def test_a_trial_is_no_arm_and_what_tuning_left_as_it_was_is_told_once(tmp_path: Path):
    file = packed_folder(ROOT / "results" / "tuned-cpu", tmp_path / "tuned.tar.gz")
    facts = read_bundle(file, tmp_path / "unpacked")
    assert len(facts.arms) == len({arm.series for arm in facts.arms})
    assert {arm.series for arm in facts.arms} == set(facts.labels)
    assert any("tuned" in arm.label for arm in facts.arms)


def test_of_several_folders_all_are_read(new, tmp_path: Path):
    first, second = two_arms(new("first")), two_arms(new("second"), host_id="host2")
    members = {"folders.txt": "first\nsecond\n"}
    both = tmp_path / "both"
    for results in (first, second):
        results.write()
        (both / "folders").mkdir(parents=True, exist_ok=True)
        results.path.rename(both / "folders" / results.path.name)
    files = {
        f"both/{path.relative_to(both).as_posix()}": path.read_bytes()
        for path in sorted(both.rglob("*.csv"))
    }
    files |= {f"both/{name}": text.encode() for name, text in members.items()}
    files["both/SHA256SUMS"] = b""
    (tmp_path / "both.tar.gz").write_bytes(pack(files.items()))
    facts = read_bundle(tmp_path / "both.tar.gz", tmp_path / "unpacked")
    assert set(facts.hosts) == {"host1", "host2"}
    assert [arm.host_id for arm in facts.arms] == ["host1", "host1", "host2", "host2"]
    assert len(arm_trends([facts])[0].trends[0].points) == 2


def test_machines_of_one_kind_have_one_loss_and_memory_of_their_own(new):
    results = new()
    for seed, host in ((1, "host1"), (2, "host2")):
        for optimizer in ("adamw", "muon"):
            cell = results.planned(optimizer=optimizer, seed=seed)
            results.ended(cell, host_id=host, cpu_isa="AuthenticAMD avx2")
    facts = read(results)
    assert [arm.host_id for arm in facts.arms] == [
        *("host1 host2", "host1 host2"),
        *("host1", "host1", "host2", "host2"),
    ]
    loss, memory = ([arm.metrics[place] for arm in facts.arms[::2]] for place in (0, 3))
    assert [sorted(metric.by_seed) for metric in loss] == [[1, 2], [], []]
    assert [sorted(metric.by_seed) for metric in memory] == [[], [1], [2]]
    losses, memories = arm_trends([facts])[0].trends  # no run has the others
    assert (len(losses.points), len(memories.points)) == (1, 2)


def test_on_a_gpu_its_memory_counts(new):
    results = new()
    figures = {"gpu_mem_allocated_peak_mib": 900.0, "gpu_name": "A GPU"}
    results.ended(results.planned(device="cuda"), **figures)
    facts = read(results)
    assert facts.gpus == ("A GPU",)
    (arm,) = facts.arms
    assert arm.machine == ("host1", "A GPU")
    assert (arm.metrics[3].name, arm.metrics[3].mean) == ("gpu_mem_allocated_peak_mib", 900.0)


def test_times_of_disturbed_seeds_are_left_out(new):
    results = new()
    for seed, time in ((1, 10.0), (2, 90.0)):
        results.cell(seed, step_time_ms_p50=time, tainted="true" if seed == 2 else "false")
    loss, step, *_ = read(results).arms[0].metrics
    assert (step.by_seed, step.mean, step.decides) == ({1: 10.0}, 10.0, True)
    assert set(loss.by_seed) == {1, 2}
    for row in results.runs:
        row["tainted"] = "true"
    loss, step, *_ = read_again(results).arms[0].metrics
    assert (step.mean, step.decides, loss.decides) == (50.0, False, True)


def read_again(results: Results) -> BundleFacts:
    results.path = results.path.with_name("again")
    return read(results)


def test_a_failure_is_how_a_seed_ended_whatever_came_later(new):
    results = new()
    results.cell(1)
    run = results.planned(seed=2)
    results.ended(run, "crashed", env_id="local:env1", code_sha256="code1")
    results.ended(run, attempt=2)
    results.planned(seed=3)
    facts = read(results)
    assert facts.ends == {"gpt/adamw/cpu": {1: "ok", 2: "crashed", 3: "open"}}


@pytest.mark.parametrize(("seeds", "is_paired"), [("passed", True), ("replicates", False)])
def test_versions_of_a_program_are_one_arm_and_two_readings_of_it_are_two(new, seeds, is_paired):
    def version(name: str, metrics: dict[str, str]) -> BundleFacts:
        results = new(name)
        results.ended(results.planned(arm=f"arm of {name}"), metrics=json.dumps({"score": 1.0}))
        program = {"name": "train", "metrics": metrics, "seeds": seeds}
        results.plan[0]["settings"] = json.dumps({"program": program})
        return read(results)

    first, second = (version(name, {"score": "higher"}) for name in ("one", "two"))
    other = version("three", {"score": "lower"})
    assert first.arms[0].arm_id != second.arms[0].arm_id
    assert first.arms[0].series == second.arms[0].series != other.arms[0].series
    assert first.arms[0].is_paired is is_paired
    assert [len(arm.trends[0].points) for arm in arm_trends([first, second, other])] == [1, 2]
