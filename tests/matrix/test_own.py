"""A class of one's own in a matrix: what is asked, who it is, and which mistakes are told."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import get_args

import pytest
import yaml

from bench.border.logical import Role
from bench.border.options import OWN, OwnOptimizer
from bench.border.options.own import ROLES
from bench.border.spec import RunSpec
from bench.compare.ab import pinned
from bench.errors import CacheError, CodeError, MatrixError
from bench.matrix.expansion import Matrix, load_matrix
from bench.records import owncode
from bench.records.cache import check_stored
from bench.records.corpora import find_corpus
from bench.records.owncode import read_code
from bench.run import estimate
from tests.builders.own_code import write_matrix, write_package

MYMODEL = "  mymodel: {class: my_package.model:build, path: ./my_package, n_embd: 12}\n"
MINE = "mine: {class: my_package.opt:MyOpt, path: ./my_package, lr: 0.02}"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path)


def load(folder: Path, optimizer: str = MINE) -> Matrix:
    return load_matrix(write_matrix(folder, (MINE, optimizer)))


def spec(folder: Path, optimizer: str = MINE) -> RunSpec:
    return load(folder, optimizer).cells[0].spec


def refusal(folder: Path, *changes: tuple[str, str]) -> str:
    with pytest.raises(MatrixError) as caught:
        load_matrix(write_matrix(folder, *changes))
    (mistake,) = caught.value.mistakes
    return f"{mistake.where}: {mistake.what}"


# --- What is asked ------------------------------------------------------------------------------


def test_what_is_not_ours_is_an_argument_of_the_class(package):
    options = spec(
        package.parent, "mine: {class: my_package.opt.MyOpt, betas: [0.9, 0.5], a: true, b: text}"
    ).optimizer.options
    assert isinstance(options, OwnOptimizer)
    assert options.reference == "my_package.opt:MyOpt"
    assert options.settings == {"betas": [0.9, 0.5], "a": True, "b": "text"}
    assert options.code_sha256 == ""


def test_groups_of_every_kind(package):
    groups = """\
{hidden: {lr: 0.1}, head: {class: torch.optim.SGD, lr: 1.0, leaves: matrices},
            other: {base: adamw, lr: 0.5, beta1: 0.9}}"""
    options = spec(package.parent, MINE.replace("}", f", groups: {groups}}}")).optimizer.options
    assert options.groups == {
        "hidden": {"settings": {"lr": 0.1}},
        "head": {"class": "torch.optim:SGD", "settings": {"lr": 1.0}, "leaves": "matrices"},
        "other": {"base": "adamw", "settings": {"lr": 0.5}},  # beta1 is at its default
    }


def test_the_code_may_be_that_of_a_groups_class(package):
    variant = (
        "mine: {class: torch.optim.AdamW, path: ./my_package, "
        "groups: {hidden: {class: my_package.opt:MyOpt}, other: {}}}"
    )
    (code,) = load(package.parent, variant).codes
    assert spec(package.parent, variant).own_code == (code.sha256,)


def test_the_roles_are_those_of_logical_tensors():
    assert set(get_args(Role)) == set(ROLES)


def test_a_spec_reads_back_to_the_same_spec(package):
    before = spec(package.parent, MINE.replace("}", ", groups: {other: {}}, leaves: matrices}"))
    again = RunSpec.from_json(before.to_json())
    assert again == before
    assert hash(again) == hash(before)
    assert again.run_id == before.run_id


def test_nothing_of_it_is_imported_here(package):
    (package / "__init__.py").write_text("raise SystemExit('imported on the host')")
    assert load(package.parent).cells


def test_its_time_is_not_guessed(package):
    file = write_matrix(package.parent, ("model: [small]", "model: [mymodel]"))
    matrix = load_matrix(file)
    corpus = find_corpus(matrix.corpus)
    (found,) = estimate.estimate_arms([cell.spec for cell in matrix.cells], corpus, []).values()
    assert (found.wall_s, found.memory_mib, found.basis) == (None, None, "unknown")


# --- Who it is ----------------------------------------------------------------------------------


def test_the_identity_is_the_class_its_settings_and_its_code(package, tmp_path):
    asked = spec(tmp_path)._asked_of_arm["optimizer"]
    (code,) = load(tmp_path).codes
    assert asked == {
        "base": OWN,
        "reference": "my_package.opt:MyOpt",
        "settings": {"lr": 0.02},
        "code_sha256": code.sha256,
        "groups": {},
    }
    assert str(tmp_path) not in json.dumps(asked)


@pytest.mark.parametrize(
    "other",
    [
        MINE.replace("0.02", "0.03"),
        MINE.replace("opt:MyOpt", "opt:Other"),
        MINE.replace("}", ", groups: {other: {}}}"),
        MINE.replace("}", ", leaves: matrices}"),
        MINE.replace("path: ./my_package, ", ""),
    ],
)
def test_another_request_is_another_run(package, other):
    assert spec(package.parent).run_id != spec(package.parent, other).run_id


@pytest.mark.parametrize(
    "same",
    [
        MINE.replace("opt:MyOpt", "opt.MyOpt"),
        MINE.replace("./my_package", "my_package/"),
        MINE.replace("mine", "'mine'"),
    ],
)
def test_the_same_written_in_another_way_is_the_same_run(package, same):
    assert spec(package.parent).run_id == spec(package.parent, same).run_id


def test_the_code_is_known_by_content_and_not_by_place(package, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(package, elsewhere / "my_package")
    assert spec(package.parent).run_id == spec(elsewhere).run_id


@pytest.mark.parametrize("change", ["text", "name", "new", "deep"])
def test_a_change_of_any_file_is_another_run(package, change):
    before = spec(package.parent).run_id
    if change == "text":
        (package / "model.py").write_text("# nothing that the optimizer imports\n")
    elif change == "name":
        (package / "model.py").rename(package / "models.py")
    else:
        folder = package / "inner" / "more" if change == "deep" else package
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data.json").write_text("{}")
    assert spec(package.parent).run_id != before


def test_hidden_and_compiled_files_do_not_count(package):
    before = spec(package.parent).run_id
    for name in ("__pycache__/opt.cpython-311.pyc", ".git/HEAD", ".env"):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text("x")
    assert spec(package.parent).run_id == before


def test_a_file_name_may_be_no_text(package):
    before = spec(package.parent).run_id
    names = [b"n\xff.py", b"n\xfe.py"]
    ids = set()
    for name in names:
        file = Path(os.fsdecode(os.fsencode(package) + b"/" + name))
        file.write_text("ONE = 1\n")
        ids.add(spec(package.parent).run_id)
        assert (read_code(package).store() / package.name / file.name).read_text() == "ONE = 1\n"
        file.unlink()
    assert len({before, *ids}) == 3


def test_what_a_class_wants_is_part_of_what_it_is(package):
    folder = package.parent
    plain = spec(folder)
    asked = {
        text: spec(folder, MINE.replace("lr:", f"wants: {text}, lr:"))
        for text in (
            "closure",
            "[closure]",
            "[closure, named_parameters]",
            "[named_parameters, closure]",
            "[]",
        )
    }
    ids = [one.run_id for one in asked.values()]
    assert (ids[0], ids[2], ids[4]) == (ids[1], ids[3], plain.run_id)
    assert len({*ids}) == 3
    for one in asked.values():
        assert RunSpec.from_json(one.to_json()).run_id == one.run_id


# --- Links --------------------------------------------------------------------------------------


def test_what_a_link_leads_to_is_part_of_the_code(package, tmp_path_factory):
    """A folder elsewhere, one within the package, and a file."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "layers").mkdir()
    (elsewhere / "layers" / "norm.py").write_text("ONE = 1\n")
    for link, target in (
        ("layers", elsewhere / "layers"),
        ("again", Path("layers")),
        ("norm.py", elsewhere / "layers" / "norm.py"),
    ):
        (package / link).symlink_to(target)
    code = read_code(package)
    names = {"layers/norm.py", "again/norm.py", "norm.py"}
    assert {f"my_package/{name}" for name in names} <= code.files.keys()
    stored = code.store()
    assert (stored / "my_package" / "again" / "norm.py").read_text() == "ONE = 1\n"
    before = spec(package.parent).run_id
    (elsewhere / "layers" / "norm.py").write_text("ONE = 2\n")
    assert spec(package.parent).run_id != before


@pytest.mark.parametrize(
    ("links", "says"),
    [
        ({"gone": "nowhere"}, "gone leads to nowhere, which is not there. Remove it."),
        ({"gone.py": "nowhere.py"}, "gone.py leads to nowhere.py, which is not there"),
        ({"me": "me"}, "me leads to me, which is not there"),
        ({"here": "."}, "here leads to a folder that holds it. Remove it."),
        ({"up": "../.."}, "up leads to a folder that holds it"),
        ({"a/to_b": "../b", "b/to_a": "../a"}, "leads to a folder that holds it"),
    ],
)
def test_a_link_without_an_end_is_refused_by_name(package, links, says):
    for link, target in links.items():
        (package / link).parent.mkdir(exist_ok=True)
        (package / link).symlink_to(target)
    with pytest.raises(CodeError, match=re.escape(says)):
        read_code(package)


def test_links_that_multiply_paths_are_refused_by_name(package):
    """Two to the power of 40 paths in 40 folders."""
    for depth in range(40):
        (package / f"f{depth}").mkdir()
        for link in ("a", "b"):
            (package / f"f{depth}" / link).symlink_to(f"../f{depth + 1}")
    (package / "f40").mkdir()
    with pytest.raises(CodeError, match=r"my_package/f\d+ is reached by more than 16 paths"):
        read_code(package)


# --- Mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "says"),
    [
        ("mine: {lr: 0.02}", "mine: needs `base`, the built-in that it varies, or `class`, one"),
        ("mine: {class: MyOpt}", "mine.class: 'MyOpt' names no class. Write package.module:Name."),
        ("mine: {class: 7}", "mine.class: 7 is not text. Put it in quotes."),
        ("mine: {class: a.B, base: adamw}", "mine: has a `base` and a `class`. Leave one of them"),
        (
            "mine: {class: a.B, lr: '3e-4'}",
            "mine.lr: '3e-4' is text. Write it without quotes: 3e-4.",
        ),
        (
            "mine: {class: a.B, x: {y: 1}}",
            "mine.x: {'y': 1} cannot be an argument. Give a plain value",
        ),
        ("mine: {class: a.B, x: [[1], {}]}", "mine.x[1]: {} cannot be an argument."),
        ("mine: {class: a.B, leaves: matrix}", "mine.leaves: 'matrix' is not allowed. Did you "),
        (
            "mine: {class: a.B, groups: {hidden: {}, head: {}}}",
            "mine.groups: has no group for embedding, vector, router. Add them, or `other` for",
        ),
        (
            "mine: {class: a.B, groups: {hiden: {}, other: {}}}",
            "mine.groups.hiden: 'hiden' is not allowed. Did you mean 'hidden'?",
        ),
        (
            "mine: {class: a.B, groups: {other: {base: adam}}}",
            "mine.groups.other: base 'adam' is not a built-in. Did you mean 'adamw'?",
        ),
        (
            "mine: {class: a.B, groups: {other: {base: adamw, lrr: 1}}}",
            "mine.groups.other.lrr: unknown key. Did you mean 'lr'?",
        ),
        (
            "mine: {class: a.B, groups: {other: {base: sgd, momentum: 0.0, nesterov: true}}}",
            "mine.groups.other: nesterov needs a momentum: give one above 0",
        ),
        (
            "mine: {class: a.B, groups: {other: {class: a.C, base: adamw}}}",
            "mine.groups.other: has a `base` and a `class`. Leave one of them out.",
        ),
        (
            "mine: {class: a.B, wants: [model], groups: {other: {}}}",
            "mine.wants: model goes to the class whole, and groups divides it. Leave one out.",
        ),
        (
            "mine: {class: a.B, groups: {other: {class: a.C, wants: model}}}",
            "mine.groups.other.wants: model is all parameters, and a group is some. Leave groups",
        ),
        ("mine: {class: a.B, wants: closures}", "Did you mean 'closure'?"),
        ("mine: {class: a.B, path: ./b}", "mine.path: './b' is not where 'a:B' is from: give"),
        ("mine: {class: a.B, path: ./a}", "a is not there. A path is relative to the matrix file."),
        ('mine: {class: a.B, path: "a\\e[2J"}', "holds a control character. Rename it."),
    ],
)
def test_a_mistake_is_told_with_its_place_and_remedy(tmp_path, variant, says):
    text = refusal(tmp_path, (MINE, variant), (MYMODEL, ""))
    assert says in text
    assert text.startswith("optimizers.mine")


@pytest.mark.parametrize(
    "requirement", ["soap", "soap>=1", "soap==", "soap==1.*", "--index-url==x"]
)
def test_a_requirement_is_pinned(package, requirement):
    change = ("name: own", f"name: own\nimage: {{requirements: ['{requirement}']}}")
    assert (
        "names no exact version: nobody could run the same again. Write name==version."
        in refusal(package.parent, change)
    )


def test_two_packages_of_one_name_do_not_meet_in_a_cell(package):
    shutil.copytree(package, package.parent / "v2" / "my_package")
    (package.parent / "v2" / "my_package" / "opt.py").write_text("# another\n")
    text = refusal(
        package.parent,
        (MINE, MINE.replace("./my_package", "v2/my_package")),
        ("model: [small]", "model: [mymodel]"),
    )
    assert text.startswith("optimizers.mine: its my_package is another than that of model mymodel")


def test_a_folder_without_python_is_no_package(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(CodeError, match="holds no Python file"):
        read_code(tmp_path / "a")


def test_a_package_is_not_a_data_set(package, monkeypatch):
    monkeypatch.setattr(owncode, "MOST_BYTES", 100)
    with pytest.raises(CodeError, match="Give the folder of the package alone"):
        read_code(package)


# --- The copy in the cache ----------------------------------------------------------------------


def test_cells_import_from_a_copy_that_is_named_by_its_content(package):
    code = read_code(package)
    folder = code.store()
    assert folder.name == code.sha256
    assert (folder / "my_package" / "opt.py").read_bytes() == (package / "opt.py").read_bytes()
    check_stored(folder, "code")
    assert read_code(folder / "my_package").sha256 == code.sha256


def test_a_module_may_be_one_file(tmp_path):
    (tmp_path / "mine.py").write_text("x = 1\n")
    folder = read_code(tmp_path / "mine.py").store()
    assert [path.name for path in folder.iterdir()] == ["mine.py"]
    check_stored(folder, "code")


@pytest.mark.parametrize("damage", ["changed", "missing", "added"])
def test_a_damaged_copy_is_noticed_and_mended(package, damage):
    code = read_code(package)
    folder = code.store()
    file = folder / "my_package" / "opt.py"
    match damage:
        case "changed":
            file.write_text("tampered")
        case "missing":
            file.unlink()
        case "added":
            (folder / "my_package" / "more.py").write_text("")
    with pytest.raises(CacheError, match="changed while cells ran"):
        check_stored(folder, "code")
    check_stored(code.store(), "code")


@pytest.mark.parametrize("path", ["./my_package", "~/my_package"])
def test_two_versions_are_compared_on_the_same_code(package, monkeypatch, path):
    """`ab` reads its matrix elsewhere, where a relative path would lead to nothing."""
    monkeypatch.setenv("HOME", str(package.parent))
    file = write_matrix(package.parent)
    file.write_text(file.read_text().replace("./my_package", path))
    codes = load_matrix(file).codes
    assert [code.sha256 for code in codes] == [read_code(package).sha256]
    content = yaml.safe_load(pinned(file, None))
    assert content["optimizers"]["mine"]["path"] == str(package)
    assert content["models"]["mymodel"]["path"] == str(package)
