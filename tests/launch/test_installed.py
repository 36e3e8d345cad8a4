"""Classes that are installed where local cells run: their code is part of the environment."""

import base64
import hashlib
import json
import platform
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy
import pytest
import torch

from bench.errors import MatrixError, MissingError, RequestError
from bench.launch.choose import choose_launcher
from bench.launch.image import derived_tag
from bench.launch.local import LocalLauncher
from bench.matrix.expansion import load_matrix
from tests.builders.own_code import OPTIMIZER, rows, write_matrix, write_package
from tests.builders.shared import bench, without

CLASS = "devopt.signs:MyOpt"
NEVER_IMPORTED = "raise RuntimeError('imported by who only asks where it is')\n"
PLAIN = f"python {platform.python_version()} torch {torch.__version__} numpy {numpy.__version__}"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter with torch and numpy and a folder of its own for further packages."""
    venv.create(tmp_path / "venv", symlinks=True)
    (folder_of(tmp_path) / "torch.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return tmp_path / "venv" / "bin" / "python"


def folder_of(place: Path) -> Path:
    (folder,) = (place / "venv" / "lib").glob("python*/site-packages")
    return folder


def install(folder: Path, code: str, *lines: str) -> Path:
    """devopt with its dist-info, as pip leaves it; `lines`: further ones of its RECORD."""
    write_code(folder, code)
    info = folder / "devopt_x-0.1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: devopt-x\nVersion: 0.1\n")
    record = [recorded(folder, f"devopt/{name}.py") for name in ("__init__", "signs")]
    record += [recorded(folder, f"{info.name}/METADATA"), f"{info.name}/RECORD,,", *lines]
    (info / "RECORD").write_text("\n".join(record) + "\n")
    return info


def write_code(folder: Path, code: str) -> None:
    (folder / "devopt").mkdir(parents=True, exist_ok=True)
    (folder / "devopt" / "__init__.py").write_text("")
    (folder / "devopt" / "signs.py").write_text(code)


def recorded(folder: Path, name: str) -> str:
    content = (folder / name).read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(content)}"


def env_id(python: Path | str, *classes: str, requirements: tuple[str, ...] = ()) -> str:
    launcher = LocalLauncher(str(python), requirements=requirements, installed=classes)
    return launcher.environment("cpu").env_id


# --- Packages -----------------------------------------------------------------------------------


def test_without_installed_classes_an_environment_is_what_it_was() -> None:
    digest = hashlib.sha256(PLAIN.encode()).hexdigest()[:12]
    assert env_id(sys.executable) == f"local:{digest}"


def test_an_edit_of_an_installed_class_is_another_environment(python: Path, tmp_path: Path) -> None:
    folder, seen = folder_of(tmp_path), [env_id(python)]
    for code in (NEVER_IMPORTED, NEVER_IMPORTED + "# another\n"):
        install(folder, code)
        seen.append(env_id(python, CLASS))
        assert env_id(python, CLASS, "devopt:Other") == seen[-1]  # one package, told once
    (folder / "devopt" / "signs.py").write_text("# edited in place\n")
    seen.append(env_id(python, CLASS))
    assert len(set(seen)) == 4
    assert env_id(python) == seen[0]  # that of matrices that do not name it
    install(folder, NEVER_IMPORTED)
    assert env_id(python, CLASS) == seen[1]


def test_what_an_installer_leaves_beside_the_code_does_not_count(
    python: Path, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path)
    install(folder, NEVER_IMPORTED)
    before = env_id(python, CLASS)
    (tmp_path / "venv" / "bin" / "devopt").write_text(f"#!{python}\n")
    (folder / "devopt" / "signs.cpython-311.pyc").write_bytes(b"compiled")
    info = folder / "devopt_x-0.1.dist-info"
    (info / "INSTALLER").write_text("another\n")
    lines = ["../../../bin/devopt,sha256=x,1", "devopt/signs.cpython-311.pyc,,"]
    install(folder, NEVER_IMPORTED, *lines, recorded(folder, f"{info.name}/INSTALLER"))
    assert env_id(python, CLASS) == before


def test_a_package_that_pip_installed_is_told() -> None:
    plain, soap = env_id(sys.executable), env_id(sys.executable, "pytorch_optimizer:SOAP")
    assert soap == env_id(sys.executable, "pytorch_optimizer.optimizer:Lion") != plain


def test_a_namespace_is_known_by_what_is_in_it(python: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    install(folder, NEVER_IMPORTED)
    with_init = env_id(python, CLASS)
    (folder / "devopt" / "__init__.py").unlink()
    assert env_id(python, CLASS) not in (with_init, env_id(python))


def test_a_class_that_is_not_there_is_for_the_cells_row_to_tell(python: Path) -> None:
    assert env_id(python, CLASS, "nowhere.at.all:One") == env_id(python)


# --- What no package lists ----------------------------------------------------------------------


def on_path_alone(folder: Path, source: Path) -> None:
    (folder / "devopt.pth").write_text(f"{source}\n")


def editable(folder: Path, source: Path) -> None:
    on_path_alone(folder, source)
    info = folder / "devopt_x-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: devopt-x\nVersion: 0.1\n")
    (info / "top_level.txt").write_text("devopt\n")
    (info / "RECORD").write_text("devopt.pth,,\n")


def by_finder(folder: Path, source: Path) -> None:
    """As setuptools does where a package's folder has another name."""
    (folder / "finder.py").write_text(
        "import importlib.util, sys\n"
        "class Finder:\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        file = '{source}/devopt/__init__.py'\n"
        "        if name == 'devopt':\n"
        "            return importlib.util.spec_from_file_location(name, file)\n"
        "sys.meta_path.append(Finder)\n"
    )
    (folder / "devopt.pth").write_text("import finder\n")


def linked(folder: Path, source: Path) -> None:
    """As some builders do: links to the source, and the note that pip leaves for an editable."""
    install(folder, NEVER_IMPORTED)
    origin = {"url": f"file://{source}", "dir_info": {"editable": True}}
    (folder / "devopt_x-0.1.dist-info" / "direct_url.json").write_text(json.dumps(origin))


def unlisted(folder: Path, source: Path) -> None:
    """In a package's folder, where its RECORD names another module."""
    record = install(folder, NEVER_IMPORTED) / "RECORD"
    record.write_text(record.read_text().replace("devopt/__init__.py", "devopt/signs.py"))


def beside_packages(folder: Path, source: Path) -> None:
    install(folder, NEVER_IMPORTED)
    (folder / "devopt").rename(folder / "another")
    record = folder / "devopt_x-0.1.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("devopt/", "another/"))
    (source / "devopt").rename(folder / "devopt")


@pytest.mark.parametrize(
    "way", [on_path_alone, editable, by_finder, linked, unlisted, beside_packages]
)
def test_a_class_whose_edits_nobody_would_see_is_refused(
    way: Callable[[Path, Path], None], python: Path, tmp_path: Path
) -> None:
    write_code(tmp_path / "source", NEVER_IMPORTED)
    way(folder_of(tmp_path), tmp_path / "source")
    with pytest.raises(RequestError, match=r"devopt.signs:MyOpt: .*devopt/__init__.py.* `path`"):
        env_id(python, CLASS)


# --- What Python runs by itself -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "counts"),
    [
        ("sitecustomize.py", "print('hello')\n", True),
        ("sitecustomize.py", "", False),
        ("usercustomize.py", "print('hello')\n", False),  # a worker has no user's site
        ("mine.pth", "import devopt\n", True),
        ("mine.pth", "import devopt; devopt.patch()\n", True),
        ("mine.pth", "/a/folder\n# import devopt\n", False),
        ("mine.pth", "import \n", True),  # Python says so and goes on
        ("mine.pth", "import .devopt\n", True),
        ("distutils-precedence.pth", "import os; os.environ.get('X')\n", False),
        ("__editable__.mine-0.1.pth", "import devopt\n", False),
        ("mine-0.1-nspkg.pth", "import sys, types, os\n", False),
    ],
)
def test_code_that_runs_before_the_worker_is_part_of_the_environment(
    name: str, text: str, counts: bool, python: Path, tmp_path: Path
) -> None:
    before = env_id(python)
    write_code(folder_of(tmp_path), "")
    (folder_of(tmp_path) / name).write_text(text)
    assert (env_id(python) != before) == counts


def test_so_is_the_module_that_a_pth_file_imports(python: Path, tmp_path: Path) -> None:
    write_code(folder_of(tmp_path), "")
    (folder_of(tmp_path) / "mine.pth").write_text("import devopt\n")
    before = env_id(python)
    (folder_of(tmp_path) / "devopt" / "__init__.py").write_text("# edited\n")
    assert env_id(python) != before


def test_every_file_of_a_sitecustomize_counts(python: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path) / "sitecustomize"
    (folder / "deep").mkdir(parents=True)
    (folder / "__init__.py").write_text("from sitecustomize.deep import patch\n")
    (folder / "deep" / "patch.py").write_text("ONE = 1\n")
    before = env_id(python)
    (folder / "deep" / "patch.py").write_text("ONE = 2\n")
    assert env_id(python) != before


def test_a_pth_that_python_cannot_read_is_passed_over(python: Path, tmp_path: Path) -> None:
    before = env_id(python)
    (folder_of(tmp_path) / "gone.pth").symlink_to("nowhere.pth")
    (folder_of(tmp_path) / "folder.pth").mkdir()
    assert env_id(python) == before


def test_a_question_that_fails_is_told_by_its_last_words(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho first >&2; echo 'ValueError: of its own' >&2; exit 3\n")
    broken.chmod(0o755)
    with pytest.raises(MissingError, match=r"installed for it \(ValueError: of its own\)"):
        env_id(broken)


def test_debians_own_sitecustomize_is_none(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debians = Path("/usr/lib/python3.11/sitecustomize.py")
    if not debians.exists():
        without("no Python of Debian's is here")
    before = env_id(python)
    (folder_of(tmp_path) / "sitecustomize.py").write_bytes(debians.read_bytes())
    assert env_id(python) == before


@pytest.mark.slow
def test_a_sitecustomize_that_prints_breaks_nothing(python: Path, tmp_path: Path) -> None:
    """Neither the question what is installed nor what the worker says, from its first word on."""
    noise = "import atexit, sys\nsys.stdout.write('hello {')\natexit.register(print, '} bye')\n"
    (folder_of(tmp_path) / "sitecustomize.py").write_text(noise)
    write_package(tmp_path)
    results, options = tmp_path / "results", ("--runtime", "local", "--worker-python", python)
    ran = bench("run", write_matrix(tmp_path), *options, "--out", results)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (row,) = rows(results)
    assert "hello {" in (results / row["log_path"]).read_text()
    assert float(row["import_time_s"]) > 0


# --- Which classes of a matrix are meant --------------------------------------------------------


def test_the_classes_of_cells_that_no_path_brings_are_those_installed(tmp_path: Path) -> None:
    write_package(tmp_path)
    variants = """\
  mine: {class: my_package.opt:MyOpt, path: ./my_package, groups: {hidden: {class: b.inner.One},
         head: {class: torch.optim.SGD, lr: 1.0}, other: {}}}
  further: {class: a:Two}
  unused: {class: c:Three}
"""
    change = ("  mine: {class: my_package.opt:MyOpt, path: ./my_package, lr: 0.02}\n", variants)
    matrix = write_matrix(tmp_path, change, ("[mine]", "[mine, further]"))
    assert load_matrix(matrix).installed == ("a:Two", "b.inner:One")
    assert load_matrix(write_matrix(tmp_path)).installed == ()
    choice = choose_launcher("local", None, installed=("a:Two",))[0]
    assert isinstance(choice, LocalLauncher)
    assert choice.installed == ("a:Two",)


@pytest.mark.slow
def test_cells_of_an_installed_class_are_open_again_after_an_edit(
    python: Path, tmp_path: Path
) -> None:
    """And where an edit would not be seen nothing runs, until the code is named by its path."""
    install(folder_of(tmp_path), OPTIMIZER)
    write_package(tmp_path)
    here = "my_package.opt:MyOpt, path: ./my_package"
    matrix, results = write_matrix(tmp_path, (here, CLASS)), tmp_path / "results"
    run = ("run", matrix, "--runtime", "local", "--worker-python", python, "--out", results)
    assert bench(*run).returncode == 0
    assert bench(*run).returncode == 0
    (first,) = rows(results)
    install(folder_of(tmp_path), OPTIMIZER.replace("alpha=-", "alpha=+"))
    assert bench(*run).returncode == 0
    _, again = rows(results)
    assert first["val_loss_final"] != again["val_loss_final"]
    assert (first["run_id"], first["env_id"] == again["env_id"]) == (again["run_id"], False)

    (folder_of(tmp_path) / "devopt_x-0.1.dist-info").rename(tmp_path / "elsewhere")
    refused = bench(*run)
    assert refused.returncode == 2
    assert "Name its folder with `path`" in " ".join(refused.stderr.split())
    assert len(rows(results)) == 2
    (folder_of(tmp_path) / "devopt").rename(tmp_path / "devopt")
    matrix.write_text(matrix.read_text().replace(CLASS, f"{CLASS}, path: ./devopt"))
    assert bench(*run).returncode == 0
    assert rows(results)[2]["val_loss_final"] == again["val_loss_final"]


# --- Requirements -------------------------------------------------------------------------------

PYTEST = f"pytest=={pytest.__version__}"


def test_requirements_are_one_environment_however_they_are_written() -> None:
    other = f"hypothesis=={hypothesis.__version__}"
    expected = f"{PLAIN} {other.replace('==', ' ')} pytest {pytest.__version__}"
    digest = hashlib.sha256(expected.encode()).hexdigest()[:12]
    for requirements in (
        (PYTEST, other),
        (other, PYTEST),
        (other.title(), PYTEST.upper(), PYTEST),
    ):
        assert env_id(sys.executable, requirements=requirements) == f"local:{digest}"


def test_requirements_are_one_image_however_they_are_written() -> None:
    tags = {
        derived_tag("bench-cpu:1", requirements)
        for requirements in (
            ["some-name==1", "other==2"],
            ["other==2", "Some_Name==1"],
            ["some.name==1", "Other==2", "some--name==1"],
        )
    }
    assert len(tags) == 1
    assert derived_tag("bench-cpu:1", ["some-name==1", "other==3"]) not in tags


def test_two_versions_of_one_package_are_a_mistake(tmp_path: Path) -> None:
    write_package(tmp_path)
    for listed, wrong in (("a-b==1, A_b==1", False), ("a-b==1, A_b==2", True)):
        change = ("name: own\n", f"name: own\nimage: {{requirements: [{listed}]}}\n")
        file = write_matrix(tmp_path, change)
        if not wrong:
            load_matrix(file)
            continue
        with pytest.raises(MatrixError, match=r"requirements\[1\]: 'A_b==2' asks for another ver"):
            load_matrix(file)
