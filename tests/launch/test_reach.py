"""Whether torch reaches a GPU where cells run: the program that finds out, and what follows."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from bench.border.surroundings import PROBE_ANSWER
from bench.errors import MissingError
from bench.launch import container
from bench.launch.container import ContainerLauncher, reach_argv
from bench.launch.engine import Engine
from bench.launch.image import find_image
from bench.launch.local import LocalLauncher
from bench.launch.reach import Reach, read_reach, why_unreached

TOO_OLD = "RuntimeError: The NVIDIA driver on your system is too old (found version 12040)."
NO_KERNEL = "AcceleratorError: CUDA error: no kernel image is available for execution on the device"
TOOLCHAIN = "CUDA error: the provided PTX was compiled with an unsupported toolchain."
FULL = "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB."
BUSY = "AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable"
NO_DEVICE = "RuntimeError: No CUDA GPUs are available"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            Reach(TOO_OLD, "2.11.0+cu130", "13.0", "12.4"),
            ["CUDA 13.0", "driver 550.54", "up to CUDA 12.4", "Update the driver to 580", "INDEX="],
        ),
        (
            Reach(TOO_OLD, "2.11.0+cu126", "12.6", "12.2"),
            # A driver of 12.2 is no older than CUDA 12's oldest: to name that would help nobody.
            ["CUDA 12.6", "up to CUDA 12.2", "to one of CUDA 12.6 or later"],
        ),
        (Reach(TOO_OLD, "2.11.0+cu126", "12.6", "11.8"), ["to 525.60.13 or later"]),
        (
            Reach(TOOLCHAIN, "2.11.0+cu132", "13.2", "12.4"),
            ["up to CUDA 12.4", "Update the driver to one of CUDA 13.2 or later", "INDEX="],
        ),
        (
            Reach(FULL, "2.11.0+cu128", "12.8", "12.4"),
            ["Somebody computes there", "--wait-for-gpu", "--gpus", FULL],
        ),
        (Reach(BUSY, "2.11.0+cu128", "12.8", "12.8"), ["Somebody computes there", BUSY]),
        (Reach("AssertionError: x", "2.11.0+cpu"), ["torch 2.11.0+cpu", "without CUDA", "INDEX="]),
        (
            Reach(NO_KERNEL, "2.11.0+cu130", "13.0", "13.0"),
            ["architecture", "no kernel image", "compute capability"],
        ),
        # A GPU of an older architecture stays so under any driver.
        (Reach(NO_KERNEL, "2.11.0+cu130", "13.0", "12.4"), ["architecture"]),
        (
            Reach(NO_DEVICE, "2.11.0+cu130", "13.0", "13.0"),
            ["reaches no GPU, although the driver 550.54 lists one", NO_DEVICE],
        ),
        (Reach(NO_DEVICE, "2.11.0+cu130", "13.0", None), ["reaches no GPU"]),
        (Reach("docker run failed: no device driver"), ["no device driver"]),
        (Reach(f"docker run {'word ' * 200} timed out"), ["docker run", "timed out"]),
    ],
)
@pytest.mark.parametrize("container", [True, False])
def test_why_with_both_versions_and_the_remedy(
    found: Reach, words: list[str], container: bool
) -> None:
    why = why_unreached(found, "550.54", container)
    assert why is not None
    for word in words:
        assert word in why
    if "INDEX=" in words:
        assert ("make image-cuda" in why, "RUNTIME=local" in why) == (container, not container)
    else:
        assert "container toolkit" not in why or container
    assert ". " in why  # the remedy begins there


@pytest.mark.parametrize("driver_cuda", ["12.4", "13.0", None])
def test_what_computes_is_reached_whatever_versions_say(driver_cuda: str | None) -> None:
    assert why_unreached(Reach(None, "2.11.0", "13.0", driver_cuda), None, True) is None


@pytest.mark.parametrize("printed", ["", "Traceback", 'bench.worker.gpu_probe answers: {"a": 1'])
def test_no_answer_is_an_error(printed: str) -> None:
    with pytest.raises(ValueError, match="Expecting"):
        read_reach(printed)


def test_the_probe_itself_where_torch_has_no_gpu() -> None:
    found = LocalLauncher(sys.executable).reach("GPU-that-is-not-here")
    assert (found.torch, found.built_for) == (torch.__version__, torch.version.cuda)
    assert found.error


def test_an_interpreter_without_torch_is_named() -> None:
    with pytest.raises(MissingError, match=r"/nonexistent .*--worker-python"):
        LocalLauncher("/nonexistent").reach("GPU-a")


def test_the_probes_container_is_as_closed_as_a_cells() -> None:
    gpu = ["--gpus", "device=GPU-abc"]
    argv = reach_argv("docker", "sha256:123", gpu, "bench-gpu-7", 65532, 65532)
    text = " ".join(argv)
    assert text.startswith("docker run --rm --name bench-gpu-7 --pull never --log-driver none ")
    for words in (
        *("--network none", "--read-only", "--cap-drop ALL", "--security-opt no-new-privileges"),
        *("--user 65532:65532", "--gpus device=GPU-abc", "--env PYTHONPATH=/opt/bench"),
    ):
        assert words in text
    assert text.endswith("readonly sha256:123 python3 -P -m bench.worker.gpu_probe")


def test_the_probes_container_is_found_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of cells are, where a run is killed while it tries a GPU out."""
    asked: list[str] = []

    def command(engine: Engine, *words: str, timeout_s: float = 0) -> str:
        asked.append(" ".join(words))
        answers = {"run": PROBE_ANSWER + json.dumps({"error": None}), "info": "{}"}
        return answers.get(words[0], "")

    monkeypatch.setattr(Engine, "command", command)
    monkeypatch.setattr(container, "_image_id", lambda launcher, device: "sha256:123")
    monkeypatch.setattr(ContainerLauncher, "_gpu", lambda launcher, gpu_uuid: [])
    launcher = ContainerLauncher(Engine("docker"))
    assert launcher.reach("GPU-a", tmp_path).error is None
    (started,) = (words for words in asked if words.startswith("run "))
    assert f"--label {container.folder_label(tmp_path)} " in started
    launcher.clean(tmp_path)
    assert f"label={container.folder_label(tmp_path)}" in asked[-1]


@pytest.fixture
def in_container(engine: Engine) -> ContainerLauncher:
    """Where the CPU's image stands for that of a GPU."""
    found = find_image(engine, "cpu")
    assert found is not None
    return ContainerLauncher(engine, image=found[0])


def test_an_engine_without_a_way_to_a_gpu_is_told_before_anything_runs(
    in_container: ContainerLauncher,
) -> None:
    with pytest.raises(MissingError, match="has no way to a GPU"):
        in_container.reach("GPU-not-here")


def test_an_engine_that_brings_none_in_says_why_and_leaves_no_container(
    in_container: ContainerLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = ["--device", "/dev/not-here"]
    monkeypatch.setattr(ContainerLauncher, "_gpu", lambda launcher, gpu_uuid: missing)
    found, engine = in_container.reach("GPU-not-here"), in_container.engine
    assert found.torch is None
    assert f"{engine.name} run failed" in (found.error or "")
    assert f"bench-gpu-{os.getpid()}" not in engine.command("ps", "--all", "--format", "{{.Names}}")


@pytest.mark.slow
def test_the_program_runs_in_a_container(
    in_container: ContainerLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as a machine without a GPU allows: an image without CUDA is told as one."""
    monkeypatch.setattr(ContainerLauncher, "_gpu", lambda launcher, gpu_uuid: [])
    found = in_container.reach("GPU-not-here")
    assert found.torch is not None
    assert "without CUDA" in str(why_unreached(found, "580.1", container=True))
