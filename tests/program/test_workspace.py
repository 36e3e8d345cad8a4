"""The folder that a program runs in: its own copy, and what is put into it."""

import os
import stat

import pytest

from tests.builders.program_cells import VAL, ProgramRun

DONE = "\nprint('val 1.5')"


def cell(tmp_path, script="", **asked) -> ProgramRun:
    return ProgramRun(tmp_path, script + DONE, read=(VAL,), asked=asked)


def test_a_program_runs_in_a_copy_that_it_may_change(tmp_path):
    script = """import os, pathlib
assert pathlib.Path.cwd().name == "program"
pathlib.Path("inner/kept.txt").write_text("changed")
pathlib.Path("inner/new.txt").write_text("new")
pathlib.Path("tool.sh").unlink()
assert os.access("other.sh", os.X_OK)"""
    run = cell(tmp_path, script)
    code = run.code
    (code / "inner").mkdir(parents=True)
    for name in ("inner/kept.txt", "tool.sh", "other.sh"):
        (code / name).write_text("as given")
        (code / name).chmod(0o555)
    (code / "link").symlink_to("tool.sh")
    process = run.start()
    for place in (code / "inner", code):
        place.chmod(0o555)
    ran = run.finish(process)
    code.chmod(0o755)
    assert ran.end == ("ok", None)
    left = {path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*")}
    assert {name for name in left if name.startswith(("program", "out"))} == {
        *("program", "program/inner", "program/inner/kept.txt", "program/inner/new.txt")
    }
    assert (code / "inner/kept.txt").read_text() == (code / "tool.sh").read_text() == "as given"


def test_a_script_starts_though_the_cache_keeps_contents_and_no_modes(tmp_path):
    run = cell(tmp_path, command=("./inner/train.sh", "2.5"))
    script = run.code / "inner/train.sh"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\necho val $1\n")
    script.chmod(0o444)
    ran = run.run()
    assert (ran.end, ran.row["val_loss_final"]) == (("ok", None), 2.5)


def test_a_program_may_be_one_file(tmp_path):
    ran = ProgramRun(tmp_path, "print('val 2')", read=(VAL,), main="single.py").run()
    assert ran.row["val_loss_final"] == 2
    assert not (ran.folder / "program").exists()


def test_placeholders_are_filled_everywhere(tmp_path):
    script = """import os, sys, pathlib
SEED = 1337 + offset if False else 0
assert sys.argv[1:] == ["--lr=0.5", "--out=" + str(pathlib.Path.cwd().parent / "out"), "{seed}"]
assert os.environ["RUN"] == "small-plain-cpu"
assert pathlib.Path("conf/a.json").read_text() == '{"seed": 4, "name": "{}"}'
assert SEED == 4
assert pathlib.Path(sys.argv[2].removeprefix("--out=")).is_dir()
(pathlib.Path(sys.argv[2].removeprefix("--out=")) / "model.pt").write_text("weights")"""
    run = cell(
        tmp_path,
        script,
        command=("python", "main.py", "--lr={lr}", "--out={out}", "{{seed}}"),
        environment={"RUN": "{model}-{optimizer}-{device}"},
        files={"conf/a.json": '{"seed": {seed}, "name": "{}"}'},
        replace={"main.py": {"1337 + offset if False else 0": "{seed}"}},
    )
    run.seed, run.settings = 4, {"lr": 0.5}
    ran = run.run()
    assert ran.end == ("ok", None), ran.log.decode()
    assert (run.folder / "out" / "model.pt").read_text() == "weights"
    assert not (run.folder / "program").exists()


@pytest.mark.parametrize(("text", "count"), [("absent", 0), ("twice", 2)])
def test_a_replacement_must_match_exactly_once(tmp_path, text, count):
    run = cell(tmp_path, "# twice twice", replace={"main.py": {text: "x"}})
    ran = run.run()
    status, reason = ran.end
    assert (ran.code, status, ran.result["stage"]) == (1, "crashed", "start")
    assert reason.startswith(f"replace: '{text}' stands {count} times in main.py, and must stand ")


def test_a_replaced_file_that_is_not_there_is_told(tmp_path):
    status, reason = cell(tmp_path, replace={"other.py": {"a": "b"}}).run().end
    assert status == "crashed"
    assert "other.py" in reason


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x", "", ".", "data/../..", "out/x"])
@pytest.mark.parametrize("how", ["files", "replace"])
def test_no_path_leads_out_of_the_folder(tmp_path, name, how):
    asked = {"files": {name: "x"}} if how == "files" else {"replace": {name: {"a": "b"}}}
    run = cell(tmp_path, **asked)
    run.code.mkdir(parents=True)
    (run.code / "out").symlink_to(tmp_path)
    (tmp_path / "x").write_text("a")
    status, reason = run.run().end
    assert status == "crashed"
    assert f"{name!r} leads out of the program's folder" in reason
    assert (tmp_path / "x").read_text() == "a"


def test_the_environment_is_the_cells_with_the_programs_on_top(tmp_path):
    script = """import os, sys
assert "PYTHONPATH" not in os.environ
assert os.environ["PATH"].startswith(os.path.dirname(sys.executable) + os.pathsep)
assert os.environ["OMP_NUM_THREADS"] == "3"
assert os.environ["MKL_NUM_THREADS"] == "1"
assert sys.stdin.read() == ''"""
    ran = cell(tmp_path, script, environment={"OMP_NUM_THREADS": "3"}).run()
    assert ran.end == ("ok", None), ran.log.decode()


def test_the_interpreter_of_a_command_is_ours_and_so_are_its_scripts(tmp_path):
    script = (
        "import subprocess, sys\nassert subprocess.run(['python', '-c', 'pass']).returncode == 0"
    )
    assert cell(tmp_path, script, command=("python3", "main.py")).run().end == ("ok", None)


# --- Data ----------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "given"
    (folder / "deep").mkdir(parents=True)
    (folder / "train.bin").write_text("train")
    (folder / "deep" / "val.bin").write_text("val")
    return folder


def test_data_are_links_in_real_folders(tmp_path, data):
    script = """import pathlib
assert pathlib.Path("data/text/train.bin").read_text() == "train"
assert pathlib.Path("data/text/deep/val.bin").read_text() == "val"
assert pathlib.Path("data/text/prepare.py").read_text() == "of the program"
assert pathlib.Path("data/one").read_text() == "train"
pathlib.Path("data/text/deep/cache").write_text("mine")"""
    run = cell(tmp_path, script)
    run.data = {"text": data, "one": data / "train.bin"}
    (run.code / "data/text").mkdir(parents=True)
    (run.code / "data/text/prepare.py").write_text("of the program")
    (run.code / "data/text/train.bin").write_text("an older one")
    ran = run.run()
    assert ran.end == ("ok", None), ran.log.decode()
    left = [path for path in (run.folder / "program").rglob("*") if not path.is_dir()]
    assert left == [run.folder / "program/data/text/deep/cache"]
    assert sorted(path.name for path in data.rglob("*")) == ["deep", "train.bin", "val.bin"]


@pytest.mark.parametrize(
    "how", ["write_text('other')", "write_text('train')", "resolve().unlink()"]
)
def test_data_that_a_program_changes_are_told(tmp_path, data, how):
    run = cell(tmp_path, f"import pathlib; pathlib.Path('data/text/train.bin').{how}")
    run.data = {"text": data}
    os.utime(data / "train.bin", (1, 1))
    status, reason = run.run().end
    assert status == "crashed"
    assert f"it changed its data, which other cells read as well: {data / 'train.bin'}" in reason


def test_data_may_be_read_only(tmp_path, data):
    for path in (data / "train.bin", data):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    run = cell(tmp_path)
    run.data = {"text": data}
    assert run.run().end == ("ok", None)
    data.chmod(0o755)
