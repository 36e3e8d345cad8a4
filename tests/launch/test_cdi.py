"""A GPU's name for an engine: taken from what the toolkit lists, or refused with the remedy."""

from pathlib import Path
from typing import Any

import pytest

from bench.errors import MissingError
from bench.launch.cdi import docker_words, podman_words
from bench.measure.gpu_index import gpu_index, is_only_gpu
from tests.builders.doctor import made_up
from tests.builders.nvml_stub import TWO_GPUS, WITH_MIG, NvmlStub

pytest_plugins = "tests.builders.nvml_stub"

# As `nvidia-ctk cdi generate` writes it, cut down to two devices.
SPEC = """\
---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}
- name: "1"
  containerEdits: {deviceNodes: [{path: /dev/nvidia1}]}
- name: all
  containerEdits: {deviceNodes: [{path: /dev/nvidia0}, {path: /dev/nvidia1}]}
containerEdits: {env: [NVIDIA_VISIBLE_DEVICES=void]}
"""


def names(*names: str) -> str:
    devices = ", ".join(f'{{"name": "{name}"}}' for name in names)
    return f'{{"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [{devices}]}}'


def podman(folder: Path, uuid: str, index: str | None = None, only: bool = False) -> list[str]:
    folders = (folder / "etc", folder / "run")
    return podman_words((uuid,), lambda _: index, lambda _: only, folders)


def docker(uuid: str, index: str | None, info: dict[str, Any]) -> list[str]:
    return docker_words((uuid,), lambda _: index, lambda _: False, info)


@pytest.mark.parametrize(
    ("listed", "uuid", "index", "name"),
    [
        (("GPU-aa", "0", "all"), "GPU-aa", None, "GPU-aa"),
        (("0", "1", "all"), "GPU-bb", "1", "1"),
        (("gpu0", "gpu1", "all"), "GPU-bb", "1", "gpu1"),
        (("0", "1:0", "1:2"), "MIG-cc", "1:2", "1:2"),
        (("gpu0", "mig1:0"), "MIG-cc", "1:0", "mig1:0"),
        (("GPU-aa", "MIG-cc"), "MIG-cc", None, "MIG-cc"),
        (("GPU-aa", "1:0"), "MIG-cc", "1:0", "1:0"),
    ],
)
def test_a_gpu_is_named_by_its_uuid_or_else_its_number(
    tmp_path: Path, listed: tuple[str, ...], uuid: str, index: str | None, name: str
) -> None:
    made_up(tmp_path, {"etc/nvidia.json": names(*listed)})
    assert podman(tmp_path, uuid, index) == ["--device", f"nvidia.com/gpu={name}"]


def test_specifications_are_yaml_and_json_of_both_folders(tmp_path: Path) -> None:
    made_up(tmp_path, {"etc/nvidia.yaml": SPEC, "run/other.json": '{"kind": "other.com/nic"}'})
    made_up(tmp_path, {"run/mig.json": names("MIG-cc"), "run/notes.txt": "nvidia.com/gpu"})
    assert podman(tmp_path, "GPU-bb", "1")[1] == "nvidia.com/gpu=1"
    assert podman(tmp_path, "MIG-cc")[1] == "nvidia.com/gpu=MIG-cc"


@pytest.mark.parametrize(
    ("listed", "index"), [(("0", "all"), "1"), (("GPU-old", "1"), "1"), (("0",), None)]
)
def test_a_gpu_that_is_not_listed_is_refused_with_what_is(
    tmp_path: Path, listed: tuple[str, ...], index: str | None
) -> None:
    """Also where an old list has its number: that may be of another GPU by now."""
    made_up(tmp_path, {"etc/nvidia.json": names(*listed)})
    with pytest.raises(MissingError) as told:
        podman(tmp_path, "GPU-bb", index)
    assert f"the GPU GPU-bb: listed are nvidia.com/gpu={listed[0]}" in str(told.value)
    assert "--output=/etc/cdi/nvidia.yaml --device-name-strategy=uuid" in str(told.value)


def test_without_a_list_the_toolkit_is_to_be_installed(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no way to a GPU.*nvidia-ctk cdi generate"):
        podman(tmp_path, "GPU-bb", "1")
    with pytest.raises(MissingError, match=r"no way to a GPU.*nvidia-ctk runtime configure"):
        docker("GPU-bb", "1", {"Runtimes": {"runc": {}}})


BROKEN = ["kind: nvidia.com/gpu", "kind: [nvidia.com/gpu", "nvidia.com/gpu", "\udcff nvidia"]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_specification_is_named_where_nothing_fits(tmp_path: Path, text: str) -> None:
    made_up(tmp_path, {"etc/other.yaml": "kind: [other.com/nic"})
    (tmp_path / "etc/nvidia.yaml").write_bytes(text.encode(errors="surrogateescape"))
    said = r"no way to a GPU.*nvidia-ctk cdi generate.*etc/nvidia.yaml is no specification of CDI"
    with pytest.raises(MissingError, match=said) as told:
        podman(tmp_path, "GPU-bb", "1")
    assert "other.yaml" not in str(told.value)


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_specification_keeps_nothing_from_a_gpu_that_is_listed(
    tmp_path: Path, text: str
) -> None:
    made_up(tmp_path, {"run/nvidia.json": names("GPU-bb"), "etc/a.json/folder": ""})
    (tmp_path / "etc/nvidia.yaml").write_bytes(text.encode(errors="surrogateescape"))
    assert podman(tmp_path, "GPU-bb")[1] == "nvidia.com/gpu=GPU-bb"


def test_the_one_gpu_of_a_machine_is_all_where_nothing_else_is_listed(tmp_path: Path) -> None:
    """As it is in Windows' subsystem for Linux."""
    made_up(tmp_path, {"etc/nvidia.json": names("all"), "run/nvidia.json": names("all")})
    assert podman(tmp_path, "GPU-bb", "0", only=True)[1] == "nvidia.com/gpu=all"
    with pytest.raises(MissingError, match=r"no name for the GPU GPU-bb: listed are .*=all"):
        podman(tmp_path, "GPU-bb", "0")
    made_up(tmp_path, {"etc/nvidia.json": names("GPU-old", "all")})
    with pytest.raises(MissingError, match="no name for the GPU GPU-bb"):
        podman(tmp_path, "GPU-bb", "0", only=True)


def test_docker_takes_its_own_option_and_else_what_it_discovered() -> None:
    discovered = {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=1"}]}
    by_name = docker("GPU-bb", "1", {"Runtimes": {"runc": {}}, **discovered})
    assert by_name == ["--device", "nvidia.com/gpu=1"]
    own = docker("GPU-bb", "1", {"Runtimes": {"nvidia": {}}, **discovered})
    assert own == ["--gpus", "device=GPU-bb"]
    instance = docker("MIG-cc", None, {"Runtimes": {"nvidia": {}}})
    assert instance == ["--gpus", "device=MIG-cc"]


def test_a_gpus_number_is_the_drivers_and_an_instances_both(nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS)
    assert not is_only_gpu("GPU-aaaa")
    assert [gpu_index(uuid) for uuid in ("GPU-aaaa", "GPU-bbbb", "GPU-cccc")] == ["0", "1", None]
    nvml.write(WITH_MIG)
    assert [gpu_index(uuid) for uuid in ("MIG-b0", "MIG-b2", "MIG-b3")] == ["1:0", "1:2", None]
    nvml.write({name: value for name, value in TWO_GPUS.items() if "gpu1" not in name})
    assert (is_only_gpu("GPU-aaaa"), is_only_gpu("MIG-a0")) == (True, False)


# --- Several GPUs -------------------------------------------------------------------------------


def test_docker_takes_several_in_one_word_that_is_a_line_of_csv() -> None:
    """Each further `--gpus` would take the place of the one before."""
    words = docker_words(("GPU-aa", "GPU-bb"), gpu_index, is_only_gpu, {"Runtimes": {"nvidia": {}}})
    assert words == ["--gpus", '"device=GPU-aa,GPU-bb"']


def test_other_ways_have_a_word_for_each(tmp_path: Path) -> None:
    numbers = {"GPU-aa": "0", "GPU-bb": "1"}
    found = [{"Source": "cdi", "ID": f"nvidia.com/gpu={number}"} for number in (0, 1)]
    info = {"Runtimes": {"runc": {}}, "DiscoveredDevices": found}
    wanted = ["--device", "nvidia.com/gpu=0", "--device", "nvidia.com/gpu=1"]
    assert docker_words(numbers, numbers.get, lambda _: False, info) == wanted
    made_up(tmp_path, {"nvidia.json": names("0", "1", "all")})
    assert podman_words(numbers, numbers.get, lambda _: False, (tmp_path,)) == wanted


def test_one_of_several_that_is_not_listed_is_refused_by_name(tmp_path: Path) -> None:
    made_up(tmp_path, {"nvidia.json": names("GPU-aa", "GPU-old")})
    with pytest.raises(MissingError, match="no name for the GPU GPU-bb: listed are"):
        podman_words(("GPU-aa", "GPU-bb"), lambda _: "1", lambda _: False, (tmp_path,))
