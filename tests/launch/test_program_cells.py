"""A program's cell in a container: the command of each engine, and images that somebody made."""

import dataclasses
import os
import sys
from pathlib import Path

import pytest

from bench.border.options import Limits
from bench.border.spec import CellFiles
from bench.errors import MissingError, RequestError
from bench.launch import container
from bench.launch.apptainer import exec_argv
from bench.launch.choose import choose_launcher
from bench.launch.container import ContainerLauncher, run_argv
from bench.launch.engine import Engine
from bench.launch.image import PACKAGE, find_image
from bench.launch.job import Job
from bench.matrix.expansion import load_matrix
from tests.builders.containers import ENGINES
from tests.builders.program_matrices import write_program
from tests.builders.program_runs import Scripted, command

# What differs from a built-in cell: no corpus, the program, its data, more shared memory.
MOUNTS = """\
--mount type=bind,source=/results/x/cells/abc-1,target=/cell
--mount type=bind,source=/results/x/cells/abc-1/spec.json,target=/cell/spec.json,readonly
--mount type=bind,source=PACKAGE,target=/opt/bench/bench,readonly
--mount type=bind,source=/cache/code/0123,target=/own/0123,readonly
--mount type=bind,source=/lake/texts,target=/data/text,readonly
--mount type=bind,source=/lake/vocab.json,target=/data/vocab,readonly
sha256:123 python3 -P -m bench.program /cell /own/0123 text=/data/text vocab=/data/vocab
"""
BINDS = """\
--bind /results/x/cells/abc-1:/cell --bind /results/x/cells/abc-1/spec.json:/cell/spec.json:ro
--bind PACKAGE:/opt/bench/bench:ro --bind /cache/code/0123:/own/0123:ro
--bind /lake/texts:/data/text:ro --bind /lake/vocab.json:/data/vocab:ro
/images/mine.sif env
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    spec = load_matrix(write_program(tmp_path)).cells[0].spec
    return Job(
        spec=spec,
        limits=Limits(memory_gib=2.5, cpus=2),
        files=CellFiles(Path("/results/x/cells/abc-1")),
        tokens=(),
        cpus=(2, 3),
        gpu_uuids=(),
        code=(Path("/cache/code/0123"),),
        data=(("text", Path("/lake/texts")), ("vocab", Path("/lake/vocab.json"))),
        module="bench.program",
    )


def words(text: str) -> list[str]:
    return text.replace("PACKAGE", str(PACKAGE)).split()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_mounts_and_the_call_are_the_recorded_ones(job: Job, engine: str) -> None:
    argv = run_argv(engine, "sha256:123", job, 65532, 65532)
    assert argv[argv.index("--mount") :] == words(MOUNTS)
    assert argv[0] == engine
    assert "/corpus.tokens" not in " ".join(argv)


@pytest.mark.parametrize("engine", ENGINES)
def test_shared_memory_is_what_its_memory_allows(job: Job, engine: str) -> None:
    """Loaders of several processes hand batches over in /dev/shm; it counts as its memory."""
    argv = run_argv(engine, "sha256:123", job, 65532, 65532)
    shared = [word for word in argv if word.startswith("/dev/shm")]
    assert shared == ["/dev/shm:rw,noexec,nosuid,nodev,size=3g"]
    assert argv[argv.index("--memory") + 1] == f"{5 * 2**29}b"


@pytest.mark.parametrize("engine", ENGINES)
def test_it_is_closed_as_any_cell_is(job: Job, engine: str) -> None:
    argv = " ".join(run_argv(engine, "sha256:123", job, 65532, 65532))
    closed = ("--network none", "--read-only", "--cap-drop ALL", "no-new-privileges")
    assert [each for each in closed if each not in argv] == []


def test_threads_are_those_that_the_program_asks_for(job: Job, tmp_path: Path) -> None:
    file = write_program(tmp_path, ("steps: 10", "steps: 10\n  threads: 2"))
    two = dataclasses.replace(job, spec=load_matrix(file).cells[0].spec)
    assert "OMP_NUM_THREADS=2" in run_argv("docker", "sha256:123", two, 65532, 65532)


def test_apptainer_binds_the_same(job: Job) -> None:
    argv = exec_argv(Path("/images/mine.sif"), job, Path("/scratch"))
    first = argv.index("--bind")
    assert argv[first : argv.index("env") + 1] == words(BINDS)
    data = ["text=/data/text", "vocab=/data/vocab"]
    call = ["python3", "-P", "-m", "bench.program", "/cell", "/own/0123", *data]
    assert argv[-len(call) :] == call


@pytest.mark.parametrize("path", ["/a, b/x,readonly", '/quo"te', "/$(touch x)", "/co:lon"])
def test_a_path_of_data_is_one_mount_whatever_it_holds(job: Job, path: str) -> None:
    import csv

    odd = dataclasses.replace(job, data=(("text", Path(path)),))
    argv = run_argv("docker", "sha256:123", odd, 65532, 65532)
    (fields,) = csv.reader([argv[argv.index("sha256:123") - 1]])
    assert fields == ["type=bind", f"source={path}", "target=/data/text", "readonly"]
    argv = exec_argv(Path("/images/mine.sif"), odd, Path("/scratch"))
    escaped = path.replace(",", r"\,").replace(":", r"\:")
    assert f"{escaped}:/data/text:ro" in argv


# --- Images that somebody made ------------------------------------------------------------------

# Answers as an engine does; `run` calls what is asked for as if it were inside.
ENGINE = """\
#!{python}
import sys
words = sys.argv[1:]
if words[:2] == ["image", "inspect"]:
    sys.exit(print("sha256:456"))
if words[0] == "run":
    {answer}
sys.exit(print("not expected: ", words, file=sys.stderr) or 3)
"""
ANSWERS = {
    "new": "sys.exit(print('hello from this image\\n' + words[-1].split(repr('')[0])[1] + '3 12'))",
    "exactly new enough": "sys.exit(print(words[-1].split(repr('')[0])[1] + '3 11'))",
    "old": "sys.exit(print(words[-1].split(repr('')[0])[1] + '3 10'))",
    "very old": "sys.exit(print(words[-1].split(repr('')[0])[1] + '2 7'))",
    "none": "sys.exit(print('exec: python3: not found', file=sys.stderr) or 127)",
    "silent": "sys.exit(0)",
    "odd": "sys.exit(print(words[-1].split(repr('')[0])[1] + 'three eleven'))",
}


def with_engine(folder: Path, answer: str, monkeypatch: pytest.MonkeyPatch) -> ContainerLauncher:
    """Of a `docker` on the path that answers so."""
    program = folder / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(ENGINE.format(python=sys.executable, answer=ANSWERS[answer]))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    container._image_id.cache_clear()
    return ContainerLauncher(Engine("docker"), image="mine:1")


@pytest.mark.parametrize("answer", ["new", "exactly new enough"])
def test_an_image_with_a_new_python_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """Whatever it prints before."""
    launcher = with_engine(tmp_path, answer, monkeypatch)
    assert launcher.environment("cpu").image_id == "sha256:456"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("old", "the image mine:1 has Python 3.10, and cells need 3.11 or newer. Name another"),
        ("very old", "the image mine:1 has Python 2.7, and cells need 3.11 or newer."),
        ("none", "the image mine:1 does not run python3, by which cells are started: "),
        ("silent", "the image mine:1 "),
        ("odd", "the image mine:1 does not run python3"),
    ],
)
def test_an_image_without_one_is_refused_before_any_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, says: str
) -> None:
    launcher = with_engine(tmp_path, answer, monkeypatch)
    with pytest.raises(MissingError) as caught:
        launcher.environment("cpu")
    assert says in str(caught.value)
    assert str(caught.value).endswith((".", "to it."))


def test_an_image_needs_an_engine() -> None:
    with pytest.raises(RequestError, match=r"needs a container engine.*Start docker or podman"):
        choose_launcher("local", None, "mine:1")


LOOKS = """
import os, sys
from pathlib import Path
print("python", *sys.version_info[:2])
shared = os.statvfs("/dev/shm")
print("shared", shared.f_frsize * shared.f_blocks // 2**30)
for place in ("/data/text/new", "/data/text/a.txt", "/own/new", "data/text/a.txt"):
    try:
        Path(place).write_text("x")
    except OSError as error:
        print("refused", place)
Path("data/text/beside").write_text("x")  # its own folder it may write
print("val", len(Path("data/text/a.txt").read_text()), sys.argv[1])
"""


@pytest.mark.slow
def test_an_image_by_its_tag_runs_a_program_that_can_change_nothing(
    tmp_path: Path, engine: Engine
) -> None:
    found = find_image(engine, "cpu")
    assert found is not None
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("abc")
    runs = Scripted(
        tmp_path,
        LOOKS,
        "data: {text: ./texts}",
        arguments='"{seed}"',
        seeds="[1]",
        more=f"image: {{tag: {found[0]}}}\n",
    )
    file = runs.write()
    text = file.read_text().replace("    - 'step (?P<step>\\d+) loss (?P<loss>\\S+)'\n", "")
    file.write_text(text.replace("retries: 0", "retries: 0, memory_gib: 2"))
    said = command("run", file, "--out", runs.out, "--runtime", engine.name)
    assert said.code == 0, said.out + said.err
    assert f"image {found[0]}" in said.out
    (row,) = runs.rows()
    assert (row["status"], row["image_id"]) == ("ok", found[1])
    assert float(row["val_loss_final"]) == 3
    log = (runs.out / row["log_path"]).read_text()
    assert log.count("refused") == 4, log
    assert "shared 2" in log
    assert [file.name for file in (tmp_path / "texts").iterdir()] == ["a.txt"]
    assert (runs.cell(row) / "program" / "data" / "text" / "beside").is_file()
