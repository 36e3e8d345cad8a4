"""The doctor: here and on made-up machines, with an engine and without, with GPUs and without."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bench.doctor import cells, files, host
from bench.doctor.examine import examine
from bench.doctor.finding import CPU, GPU, Answer, Diagnosis, as_lines, checked, missing
from bench.launch.engine import Engine
from bench.launch.local import LocalLauncher
from bench.measure.listed import find_gpus
from bench.measure.machine import this_room
from bench.records.cache import cache_folder
from bench.records.corpora import TINYSHAKESPEARE_SHA256, find_corpus
from tests.builders.doctor import examined, made_up
from tests.builders.nvml_stub import NvmlStub
from tests.builders.shared import ROOT, bench

pytest_plugins = "tests.builders.nvml_stub"


# --- The command -----------------------------------------------------------------------------


def test_with_an_engine_it_tells_version_image_and_disk_and_bench_cpu_is_ready(
    engine: Engine, tmp_path: Path
) -> None:
    answer = bench("doctor", "--runtime", engine.name, "--out", tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    lines = answer.stdout.splitlines()
    assert "bench-cpu: ready" in lines
    (told,) = [line for line in lines if line.split()[1] == "engine"]
    version = engine.version()
    assert version is not None
    assert version in told
    (image,) = [line for line in lines if "  bench-cpu:" in line]
    assert image.startswith("ok ")


def test_json_says_the_same(tmp_path: Path) -> None:
    asked = ["doctor", "--runtime", "local", "--out", str(tmp_path)]
    told = json.loads(bench(*asked, "--json").stdout)
    assert set(told) == {"findings", "ready", "missing"}
    assert told["ready"] == {target: not told["missing"][target] for target in (CPU, GPU)}
    lines = bench(*asked).stdout
    for finding in told["findings"]:
        assert set(finding) == {"check", "state", "text", "remedy", "concerns"}
        assert finding["check"] in lines
        assert finding["state"] in ("ok", "warning", "problem", "unknown")
        assert (finding["remedy"] or "") in lines


def test_a_bare_machine_is_told_exactly_what_is_missing(no_engine: Path, tmp_path: Path) -> None:
    """No engine, no torch, no GPU: an interpreter without packages stands for the bare one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    python = tmp_path / "bare" / "bin" / "python"
    answer = bench("doctor", "--worker-python", python, "--out", tmp_path)
    assert answer.returncode == 1
    assert "no docker here and no podman here" in answer.stdout
    assert f"{python} has no torch and no numpy" in answer.stdout
    cpu, gpu_ = answer.stdout.splitlines()[-2:]
    assert cpu.startswith("bench-cpu: needs torch and numpy (make bench-cpu ")
    assert cpu.count("(") == 1
    if find_gpus().gpus:
        pytest.skip("this machine has a GPU")
    assert [name in gpu_ for name in ("torch and numpy (", "NVML (", "GPU (")] == [True] * 3


def test_without_an_engine_the_workers_own_packages_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client alone is no engine; its own words are told."""
    client = shutil.which("docker")
    if client is None:
        pytest.skip("no docker client here")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").symlink_to(client)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    found = examined(tmp_path / "results", "auto")
    assert found["engine"].state == "warning"
    assert "unix:///nonexistent" in found["engine"].text
    assert found["torch and numpy"].state == "ok"
    assert missing(list(found.values()), CPU) == []


def test_an_engine_that_was_asked_for_and_does_not_answer_is_a_problem_for_both(
    no_engine: Path, tmp_path: Path
) -> None:
    answer = bench("doctor", "--runtime", "podman", "--out", tmp_path)
    assert answer.returncode == 1
    cpu, gpu_ = answer.stdout.splitlines()[-2:]
    assert cpu.startswith("bench-cpu: needs engine (start it")
    assert gpu_.startswith("bench-gpu: needs engine (start it")


@pytest.mark.parametrize("wrong", [["--runtime", "dokcer"], ["--nix"], ["--corpus"]])
def test_a_wrong_option_ends_with_2(wrong: list[str]) -> None:
    answer = bench("doctor", *wrong)
    assert answer.returncode == 2
    assert "bench-cpu:" not in answer.stdout


def test_a_missing_gpu_alone_leaves_bench_cpu_ready(nvml: NvmlStub, tmp_path: Path) -> None:
    found = examined(tmp_path)
    assert found["NVML"].state == "problem"
    assert missing(list(found.values()), CPU) == []
    assert missing(list(found.values()), GPU)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "there").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for results in (tmp_path / "new" / "deep", tmp_path / "there"):
        assert examined(results)["results folder"].state == "ok"
    assert sorted(tmp_path.rglob("*")) == before


# --- Findings ----------------------------------------------------------------------------------


def test_a_remedy_stands_below_its_finding_and_the_end_names_what_is_needed() -> None:
    findings = [
        Diagnosis("one", "ok", "fine", None, (CPU, GPU)),
        Diagnosis("two", "warning", "meh", "mend it", (CPU, GPU)),
        Diagnosis("three", "problem", "broken", "buy it", (GPU,)),
    ]
    assert list(as_lines(findings)) == [
        "ok       one    fine",
        "warning  two    meh",
        "                -> mend it",
        "problem  three  broken",
        "                -> buy it",
        "bench-cpu: ready",
        "bench-gpu: needs three (buy it)",
    ]


@pytest.mark.parametrize(("needed", "state"), [(True, "problem"), (False, "unknown")])
def test_a_check_that_fails_is_a_finding_that_says_so(needed: bool, state: str) -> None:
    def look() -> Answer:
        raise OSError("a cable\nis loose")

    finding = checked("cable", look, needed=needed)
    assert finding.state == state
    assert "check itself failed: OSError: a cable is loose" in finding.text


def test_every_finding_that_is_not_ok_on_this_machine_is_one_line_with_a_remedy(
    tmp_path: Path,
) -> None:
    for finding in examine("auto", None, tmp_path, None):
        assert "\n" not in finding.text
        assert "check itself failed" not in finding.text
        assert finding.state in ("ok", "unknown") or finding.remedy, finding


# --- The host ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "state"),
    [((3, 10, 9), "problem"), ((3, 11, 0), "ok"), ((3, 13, 5), "ok"), ((3, 14, 0), "problem")],
)
def test_the_pythons_of_the_package_are_those_that_pass(
    version: tuple[int, ...], state: str
) -> None:
    assert host.python(version).state == state


def test_a_report_without_its_packages_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.report_extra().state == "ok"
    monkeypatch.setattr(host, "REPORT_PACKAGES", {"jinja2": "jinja2", "not_here": "not-here"})
    absent = host.report_extra()
    assert absent.state == "warning"
    assert "no not-here" in absent.text
    assert "pip install 'bench-matrix[report]'" in (absent.remedy or "")


def test_every_package_that_a_report_needs_is_looked_for() -> None:
    """Those of the extra, and nothing that the report's rooms import is left out."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split("[>=]", each)[0] for each in extras["optional-dependencies"]["report"]]
    assert sorted(host.REPORT_PACKAGES.values()) == sorted(names)
    always = {"pydantic", "yaml", "rich", "typer", "bench", *sys.stdlib_module_names}
    files = [file for room in ("report", "merge") for file in (ROOT / "bench" / room).rglob("*.py")]
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
        assert {name.split(".")[0] for name in names} <= {*always, *host.REPORT_PACKAGES}


def test_memory_is_held_against_a_cells_limit() -> None:
    assert host.memory(4.0).state == "ok"
    short = host.memory(3.75)
    assert short.state == "warning"
    assert "3.8 GiB available" in short.text
    assert 0 < this_room().free_gib <= psutil.virtual_memory().total / 2**30


@pytest.mark.parametrize(
    ("one_minute", "cpus", "state"), [(0.5, 1, "ok"), (0.51, 1, "warning"), (7.9, 16, "ok")]
)
def test_load_is_held_against_the_cpus(one_minute: float, cpus: int, state: str) -> None:
    assert host.load(one_minute, cpus).state == state


@pytest.mark.parametrize(
    ("governors", "state"),
    [
        ([], "unknown"),
        (["performance", "performance"], "ok"),
        (["performance", "schedutil"], "warning"),
    ],
)
def test_any_governor_but_performance_is_a_warning(
    governors: list[str], state: str, tmp_path: Path
) -> None:
    names = {f"cpu{n}/cpufreq/scaling_governor": name for n, name in enumerate(governors)}
    answer = host.governor(made_up(tmp_path, names))
    assert answer.state == state
    assert ("schedutil" in answer.text) == ("schedutil" in governors)


@pytest.mark.parametrize(
    ("switch", "text", "told"),
    [
        ("intel_pstate/no_turbo", "0", "on"),
        ("intel_pstate/no_turbo", "1", "off"),
        ("cpufreq/boost", "1", "on"),
        ("cpufreq/boost", "0", "off"),
    ],
)
def test_turbo_is_told_as_a_fact(switch: str, text: str, told: str, tmp_path: Path) -> None:
    answer = host.turbo(made_up(tmp_path, {switch: text}))
    assert answer.state == "ok"
    assert answer.text.startswith(f"{told}: ")


def test_a_machine_that_does_not_tell_its_clocks_is_no_fault(tmp_path: Path) -> None:
    assert host.turbo(tmp_path).state == host.governor(tmp_path).state == "unknown"


# --- Files -------------------------------------------------------------------------------------


def test_a_results_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (Path("/proc/results"), tmp_path / "file" / "results"):
        answer = files.results_folder(folder)
        assert answer.state == "problem"
        assert f"{folder.parent} cannot be written" in answer.text


def test_a_current_folder_that_was_removed_holds_no_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    answer = files.results_folder(Path("results"))
    assert (answer.state, "current folder, which has been removed" in answer.text) == (
        "problem",
        True,
    )
    assert files.results_room(Path("results")).state == "unknown"
    assert files.results_folder(tmp_path / "results").state == "ok"


def test_a_worker_python_that_is_a_folder_is_told_whole(tmp_path: Path) -> None:
    answer = cells.packages(LocalLauncher("."))
    assert answer.state == "problem"
    assert answer.text.startswith(". does not tell what is installed for it")


def test_room_for_results_is_measured_where_they_go(tmp_path: Path) -> None:
    assert files.results_room(Path("/proc/results")).state == "warning"  # a disk without blocks
    free = shutil.disk_usage(tmp_path).free / 2**30
    if free > 2 * files.RESULTS_GIB:
        assert files.results_room(tmp_path / "not" / "yet").state == "ok"


def test_the_corpus_is_found_its_cache_written_to_or_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    assert "its cache can be written" in files.corpus("pydoc").text
    find_corpus("pydoc").store()
    assert "in the cache" in files.corpus("pydoc").text
    monkeypatch.setenv("BENCH_CACHE", "/proc")
    refused = files.corpus("pydoc")
    assert refused.state == "problem"
    assert refused.remedy is not None
    assert "BENCH_CACHE" in refused.remedy


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), ("", "empty"), ("ab", "2 c")])
def test_a_corpus_that_no_run_could_use_is_a_problem(
    content: str | None, why: str, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    if content is not None:
        text.write_text(content)
    answer = files.corpus(str(text))
    assert answer.state == "problem"
    assert why in answer.text


def test_tinyshakespeare_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("fetched"))
    answer = files.corpus("tinyshakespeare")
    assert answer.state == "warning"
    assert answer.remedy is not None
    assert str(cache_folder() / "corpora" / f"{TINYSHAKESPEARE_SHA256}.txt") in answer.remedy


# --- What cells run in ---------------------------------------------------------------------------


def test_an_image_of_other_inputs_is_not_the_image(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = cells.image(engine, "cpu")
    assert current.state == "ok"
    monkeypatch.setenv("TORCH_INDEX", "another")
    stale = cells.image(engine, "cpu")
    assert stale.state == "problem"
    assert current.text.split(",")[0] in stale.text
    assert stale.remedy is not None
    assert stale.remedy.startswith("make image-cpu;")


def test_a_base_that_must_be_pulled_is_named(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASE_IMAGE", "no-such-base:1")
    remedy = cells.image(engine, "cpu").remedy
    assert remedy is not None
    assert "no-such-base:1 first: make base-offline" in remedy


def test_disk_space_counts_where_an_image_must_still_be_built(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cells.image_room(engine, "cpu").state == "unknown":
        pytest.skip("the engine runs on another machine")
    monkeypatch.setitem(cells.BUILD_GIB, "cpu", 1e9)
    assert cells.image_room(engine, "cpu").state == "ok"  # it is built
    monkeypatch.setenv("TORCH_INDEX", "another")
    assert cells.image_room(engine, "cpu").state == "problem"


@pytest.mark.parametrize(
    ("root", "host_name", "state"),
    [("/", os.uname().nodename, "ok"), ("/not/here", os.uname().nodename, "unknown"),
     ("/", "elsewhere", "unknown")],
)  # fmt: skip
def test_the_disk_of_an_engine_elsewhere_is_unknown(
    root: str,
    host_name: str,
    state: str,
    program: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(cells.BUILD_GIB, "cuda", 0.0)
    monkeypatch.setattr(cells, "find_image", lambda *_: None)
    program("podman", json.dumps({"host": {"hostname": host_name}, "store": {"graphRoot": root}}))
    assert cells.image_room(Engine("podman"), "cuda").state == state


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ({"Client": {"Version": "9"}, "Server": {"Version": "8"}}, "8"),
        ({"Client": {"Version": "5.1"}}, "5.1"),
        ({"Client": {"Version": "5.1"}, "Server": None}, "5.1"),
        ({}, None),
    ],
)
def test_the_engines_version_is_the_servers_or_podmans_own(
    told: object, version: str | None, program: Callable[[str, str], None]
) -> None:
    program("podman", json.dumps(told))
    assert Engine("podman").version() == version
