"""Images with a matrix's requirements, built without an index from a wheel in docker/wheels."""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.border.spec import CellFiles
from bench.errors import EngineError, MissingError
from bench.launch import image
from bench.launch.container import ContainerLauncher
from bench.launch.engine import Engine
from bench.launch.image import find_image
from bench.launch.job import Job, Stop
from bench.matrix.expansion import load_matrix
from bench.measure.host import FindProcesses
from bench.records.corpora import find_corpus
from tests.builders.own_code import OPTIMIZER, write_matrix, write_package
from tests.builders.shared import ROOT

NAME, MODULE, VERSION = "bench-test-opt", "bench_test_opt", "1.2.3"
WHEEL = f"{MODULE}-{VERSION}-py3-none-any.whl"
CONSTRAINTS = (ROOT / "docker" / "constraints.txt").read_text()
PINNED_TORCH = re.findall("^torch==(.*)$", CONSTRAINTS, re.MULTILINE)[0]
REQUIREMENTS = (f"{NAME}=={VERSION}",)


def write_wheel(folder: Path, module: str) -> Path:
    """A wheel by hand: a module and its metadata."""
    info = f"{MODULE}-{VERSION}.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr(f"{MODULE}.py", module)
        wheel.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\nRequires-Dist: torch\n",
        )
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")
    return folder / WHEEL


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository's docker folder without its wheels, of hundreds of MB."""
    root = tmp_path / "root"
    shutil.copytree(ROOT / "docker", root / "docker", ignore=shutil.ignore_patterns("*.whl"))
    (root / "docker" / "wheels").mkdir(exist_ok=True)
    shutil.copy(ROOT / ".dockerignore", root)
    monkeypatch.setattr(image, "ROOT", root)
    return root


def test_a_requirements_wheel_makes_no_new_image_of_the_cells(root: Path) -> None:
    wheels = root / "docker" / "wheels"
    (wheels / "typing_extensions-4.16.0-py3-none-any.whl").write_bytes(b"one of the pinned")
    before = image.tag("cpu", "base:1")
    wheel = write_wheel(wheels, "")
    assert image.further_wheels() == [wheel]
    assert image.tag("cpu", "base:1") == before
    (wheels / "typing_extensions-4.16.0-py3-none-any.whl").write_bytes(b"another of them")
    assert image.tag("cpu", "base:1") != before


def test_wheels_without_torch_are_refused_before_a_build(root: Path) -> None:
    """The Dockerfile takes everything from the wheels where there are any."""
    write_wheel(root / "docker" / "wheels", "")
    with pytest.raises(MissingError, match=r"holds bench_test_opt.* and no torch.*make wheels"):
        image.build(Engine("no-such-engine"), "cpu", "base:1")


def test_the_tag_follows_what_is_required(root: Path) -> None:
    one = image.derived_tag("bench-cpu:1", ["a==1", "b==2"])
    assert one.startswith("bench-cpu-own:")
    assert one == image.derived_tag("bench-cpu:1", ["b==2", "a==1"])
    assert one != image.derived_tag("bench-cpu:2", ["a==1", "b==2"])
    assert one != image.derived_tag("bench-cpu:1", ["a==1", "b==3"])
    write_wheel(root / "docker" / "wheels", "")
    assert one != image.derived_tag("bench-cpu:1", ["a==1", "b==2"])


@pytest.mark.parametrize(
    ("requirements", "no_index"),
    [(REQUIREMENTS, "1"), ((*REQUIREMENTS, "elsewhere==1"), ""), (("bench_test.opt==1.2.4",), "")],
)
def test_the_wheels_are_the_source_where_they_hold_everything(
    root: Path, monkeypatch: pytest.MonkeyPatch, requirements: tuple[str, ...], no_index: str
) -> None:
    write_wheel(root / "docker" / "wheels", "")
    asked: dict[str, str] = {}
    monkeypatch.setattr(image, "build_file", lambda engine, file, tag, words: asked.update(words))
    image.build_derived(Engine("docker"), "bench-cpu:1", requirements)
    assert asked["NO_INDEX"] == no_index
    assert asked["REQUIREMENTS"].split() == list(requirements)


def test_a_missing_one_names_the_command_that_builds_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "image_id", lambda self, name: None)
    with pytest.raises(
        MissingError, match=r"cpu cells with bench-test-opt==1.2.3 is not built. .*"
    ):
        image.require_image(Engine("docker"), "cpu", REQUIREMENTS)


@pytest.fixture
def cells_image(engine: Engine) -> str:
    """The tag of the image that is there, found by the repository's own files."""
    found = find_image(engine, "cpu")
    assert found is not None
    return found[0]


@pytest.fixture
def built(cells_image: str, root: Path, engine: Engine) -> Iterator[str]:
    """The tag of an image with an optimizer that only a wheel has; removed after."""
    write_wheel(root / "docker" / "wheels", OPTIMIZER)
    tag = image.build_derived(engine, cells_image, REQUIREMENTS)
    try:
        yield tag
    finally:
        engine.command("image", "rm", tag)


@pytest.mark.slow
def test_each_engine_builds_the_image_of_cells(engine: Engine) -> None:
    """In make test Podman has a copy of Docker's, which takes a minute less."""
    base = image.find_base(engine)
    tag = "bench-cpu-test:built"
    arguments = {
        "DEVICE": "cpu",
        "BASE_IMAGE": base,
        "TORCH_INDEX": os.environ.get("TORCH_INDEX", ""),
    }
    image.build_file(engine, image.CELLS, tag, arguments)
    assert (engine.image_id(tag) or "").startswith("sha256:")
    engine.command("image", "rm", tag)


def test_a_build_that_fails_tells_what_to_do_without_an_index(root: Path) -> None:
    failing = Engine("false")  # a program that ends with 1
    with pytest.raises(EngineError, match=r"Its output above says why\. .*make wheels.*RUNTIME="):
        image.build_file(failing, image.CELLS, "tag", {})
    (root / "docker" / "wheels").mkdir(exist_ok=True)
    (root / "docker" / "wheels" / "torch-2.13.0-py3-none-any.whl").touch()
    with pytest.raises(EngineError, match=r"Its output above says why\.$"):
        image.build_file(failing, image.CELLS, "tag", {})


def test_a_class_from_a_requirement_runs_in_the_image_that_has_it(
    built: str, engine: Engine, tmp_path: Path
) -> None:
    write_package(tmp_path)
    file = write_matrix(tmp_path, ("my_package.opt:MyOpt, path: ./my_package", f"{MODULE}:MyOpt"))
    matrix = load_matrix(file)
    corpus = find_corpus(matrix.corpus)
    (cell,) = matrix.with_corpus(corpus.ref).cells
    files = CellFiles(tmp_path / "results" / "cells" / "abc-1")
    files.folder.mkdir(parents=True)
    files.spec.write_text(cell.spec.to_json())
    cpu = max(os.sched_getaffinity(0))
    job = Job(cell.spec, cell.limits, files, corpus.for_cells(), (cpu,), ())
    ended = ContainerLauncher(engine, image=built).run(job, Deaf(), Stop())
    assert ended.code == 0, files.log.read_text()
    result = json.loads(files.result.read_text())
    assert result["status"] == "ok"
    assert result["row"]["torch_version"].startswith(PINNED_TORCH)


class Deaf:
    def started(self, find: FindProcesses) -> None: ...

    def event(self, event: dict[str, Any]) -> None: ...
