"""run.sh and pack.sh with a Python that only notes what it is asked, and with the real one."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.builders.shared import ROOT

RUN, PACK = (ROOT / "tests" / "gpu" / name for name in ("run.sh", "pack.sh"))
PARTS = ["tests", "container", "original", "speed", "formats", "large"]
Typed = Callable[..., subprocess.CompletedProcess[str]]

# A Python that notes its words. `bench run` leaves a file where its rows would be.
NOTING = r"""#!/bin/sh
echo "$*" >>"$NOTES"
case "$*" in
  *"bench run"*"$FAILS"*) [ -n "$FAILS" ] && exit 1;;
  *"bench run"*"$HANGS"*) [ -n "$HANGS" ] && { trap "" TERM; sleep 600; };;
esac
for last; do :; done
case "$*" in *"bench run"*) mkdir -p "$last"; echo rows >"$last/runs.csv";; esac
exit 0
"""


@pytest.fixture
def typed(tmp_path: Path) -> Typed:
    python = tmp_path / "python"
    python.write_text(NOTING)
    python.chmod(0o755)

    def type_in(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", *map(str, words)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHON": str(python),
                "NOTES": str(tmp_path / "notes"),
                "FAILS": "",
                "HANGS": "",
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return type_in


def notes(folder: Path) -> list[str]:
    return (folder / "notes").read_text().splitlines()


def names(file: Path) -> set[str]:
    with tarfile.open(file) as packed:
        return set(packed.getnames())


# --- run.sh -------------------------------------------------------------------------------------


def test_all_parts_run_in_their_order_and_leave_few_files(typed, tmp_path):
    for name in ("podman", "unshare"):  # of the part that needs root
        (tmp_path / name).write_text('#!/bin/sh\necho "$@" >>"$NOTES"\n')
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    ran = typed(RUN, "out", DEVICE="cpu", PATH=path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    out = tmp_path / "out"
    packed = {f"{part}.tar.gz" for part in PARTS}
    assert {file.name for file in out.iterdir()} == {"environment.txt", "summary.txt", *packed}
    told = (out / "summary.txt").read_text().splitlines()
    assert [line.split()[1:3] for line in told] == [[f"{part}:", "ok,"] for part in PARTS]
    asked = [line for line in notes(tmp_path) if not line.startswith("-c")]
    assert asked[0] == "-m pytest -m gpu tests/gpu -p no:cacheprovider -W default --durations 15"
    assert re.match(r"--mount tests/gpu/container\.sh \S+/container ", asked[1])
    runs = [line.split()[3] for line in asked if "bench run" in line]
    assert [Path(file).stem for file in runs] == [
        *("original-gpu", "float32", "bfloat16", "tf32", "large", "large-topk")
    ]
    assert {"formats/log.txt", "formats/tf32/runs.csv"} <= names(out / "formats.tar.gz")
    assert "speed/kernels.txt" in names(out / "speed.tar.gz")


@pytest.mark.slow
def test_a_part_that_fails_or_hangs_keeps_no_other_from_running(typed, tmp_path):
    ran = typed(
        RUN, "out", "formats", "large", "tests", FAILS="bfloat16", HANGS="topk", LIMIT_S="3"
    )
    assert ran.returncode == 1
    told = (tmp_path / "out" / "summary.txt").read_text().splitlines()
    assert told[0].startswith("== formats: FAILED, ")
    assert told[1].startswith("== large: ENDED after 3 s, ")  # also where it is deaf to SIGTERM
    assert told[2].startswith("== tests: ok, ")
    assert "formats/tf32/runs.csv" in names(
        tmp_path / "out" / "formats.tar.gz"
    )  # after the failure
    assert "large/large/runs.csv" in names(tmp_path / "out" / "large.tar.gz")


def test_a_part_that_there_is_not_is_refused_before_anything_runs(typed, tmp_path):
    ran = typed(RUN, "out", "tests", "sped")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"no part is named sped: {' '.join(PARTS)}\n"
    assert not (tmp_path / "out").exists()


# --- pack.sh and start.sh -----------------------------------------------------------------------


# A Python whose pip "downloads" a wheel of one module for each name.
FETCHING = f"""#!{sys.executable}
import os, sys, zipfile
words = sys.argv[1:]
if words[:3] != ["-m", "pip", "download"]:
    os.execv({sys.executable!r}, [{sys.executable!r}, *words])
open(os.environ["NOTES"], "a").write(" ".join(words) + "\\n")
folder, *packages = words[words.index("--dest") + 1 :]
for package in packages:
    module = package.replace("-", "_")
    with zipfile.ZipFile(f"{{folder}}/{{module}}-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"of_{{module}}.py", os.urandom(int(os.environ["SIZE"])))
"""


@pytest.fixture
def pack(typed: Typed, tmp_path: Path) -> Typed:
    python = tmp_path / "fetching"
    python.write_text(FETCHING)
    python.chmod(0o755)
    cache = str(tmp_path / "no-cache")

    def type_in(**variables: str) -> subprocess.CompletedProcess[str]:
        settings = {"PYTHON": str(python), "BENCH_CACHE": cache, "SIZE": "0", "XZ_OPT": "-0"}
        return typed(PACK, "made/bench-gpu.tar.xz", **{"ENGINE": "none", **settings, **variables})

    return type_in


HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_the_pack_has_code_wheels_text_and_the_command_to_type(pack, tmp_path):
    (tmp_path / "input.txt").write_text("a text")
    ran = pack(PYTHON_VERSION=HERE)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[-2].endswith(
        f"text: {tmp_path}/input.txt; engine: none, as asked"
    )
    found = names(tmp_path / "made" / "bench-gpu.tar.xz")
    assert {name.split("/")[1] for name in found if "/" in name} == {
        *("code", "wheels", "start.sh", "python.txt")
    }
    for file in (
        "bench/__main__.py",
        "tests/gpu/run.sh",
        "tests/gpu/curves.csv",
        "commit.txt",
        "input.txt",
    ):
        assert f"bench-gpu/code/{file}" in found
    assert not any("/results/" in name for name in found)
    (asked,) = notes(tmp_path)
    assert f"--python-version {HERE}" in asked
    assert "-c constraints.txt" in asked
    typed = ran.stdout.splitlines()[-1]
    assert typed == (
        "python3 -m tarfile -e bench-gpu.tar.xz && "
        "bench-gpu/start.sh bench-gpu/code/tests/gpu/run.sh gpu-results"
    )
    # What is typed there, with a command of ours in the place of run.sh.
    script = typed.replace("bench-gpu/code/tests/gpu/run.sh gpu-results", '"$PYTHON" -c "$CODE"')
    code = "import bench, of_pydantic; print(bench.__file__)"
    there = subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path / "made",
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable, "CODE": code},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = f"{tmp_path}/made/bench-gpu/code/bench/__init__.py\n"
    assert (there.stdout, there.returncode) == (expected, 0), there.stderr


def test_a_pack_without_a_text_says_so_and_one_of_another_python_is_refused_there(pack, tmp_path):
    ran = pack(PYTHON_VERSION="3.2")
    assert "text: pydoc, for there is no text to take along" in ran.stdout
    with tarfile.open(tmp_path / "made" / "bench-gpu.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    there = subprocess.run(
        [tmp_path / "bench-gpu" / "start.sh", "true"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert there.returncode == 2
    assert f"is Python {HERE}, and the wheels here are for 3.2" in there.stderr


def test_a_text_that_is_named_and_missing_is_refused(pack, tmp_path):
    ran = pack(CORPUS="no.txt")
    assert (ran.returncode, ran.stderr) == (
        1,
        "pack: there is no file no.txt, which CORPUS names\n",
    )


def test_a_pack_too_large_to_carry_is_none(pack, tmp_path):
    ran = pack(SIZE=str(2 * 2**20))
    assert ran.returncode == 1
    assert "are more than 30: a shorter CORPUS" in ran.stderr
    assert list((tmp_path / "made").iterdir()) == []


def test_the_wheels_are_all_that_planning_running_and_testing_need():
    """Beside what a machine with PyTorch has. Versions are those that the tests run with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed, waiting = set(), [*project["dependencies"], "pytest", "plotly", "jinja2"]
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = requirement.name.lower().replace("_", "-")
        if name not in needed:
            needed.add(name)
            waiting += metadata.requires(name) or []
    listed = PACK.read_text().split("PACKAGES=(")[1].split("\n)")[0]
    lines = [line for line in listed.splitlines() if not line.strip().startswith("#")]
    assert sorted(" ".join(lines).split()) == sorted(needed)
