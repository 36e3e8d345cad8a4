"""The GPUs: hardware, driver, the engine's way to them, and who uses them now."""

from collections.abc import Iterator
from pathlib import Path

from bench.doctor.finding import Answer, explained, ok, problem, unknown, warning
from bench.errors import EngineError, MissingError
from bench.launch.cdi import FOLDERS, docker_words, podman_words
from bench.launch.engine import Engine
from bench.measure.gpu_index import gpu_index, is_only_gpu
from bench.measure.gpu_reader import GpuReader
from bench.measure.gpus import Gpu, Gpus
from bench.measure.listed import who_computes
from bench.measure.packed import packed

PCI_DEVICES = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", "0x03"  # PCI's vendor id and base class (video and 3D controllers)


def nvml(gpus: Gpus) -> Answer:
    """The driver, through which GPUs are found and measured."""
    if gpus.driver_version is not None:
        return ok(f"answers, driver {gpus.driver_version}")
    remedy = gpus.remedy if packed() else "install or repair the NVIDIA driver"
    return problem(gpus.reason or "no driver", remedy)


def gpu(gpus: Gpus, pci_devices: Path = PCI_DEVICES) -> Answer:
    if gpus.gpus:
        found = ", ".join(map(str, gpus.gpus))
        return ok("; ".join(filter(None, (found, gpus.left_out, *_shares(gpus)))))
    if gpus.driver_version is not None:
        return problem(gpus.reason or "none", gpus.remedy)
    if count := sum(_is_nvidia_gpu(device) for device in pci_devices.glob("*")):
        return unknown(f"{count} from NVIDIA on the PCI bus, but no driver answers")
    return problem("none from NVIDIA on the PCI bus", gpus.remedy)


def _shares(gpus: Gpus) -> Iterator[str]:
    """What is less than a whole GPU, and what NVML does not tell of it: tried."""
    for whole in gpus.every:
        kind = "a vGPU" if whole.virtual else f"an instance of {whole.gpu} (MIG)"
        for gpu in whole.parts:
            if gpu in gpus.gpus and (whole.virtual or whole.instances):
                told = ", ".join(_not_told(gpu)) or "nothing else"
                yield f"{gpu.uuid} is {kind}; NVML does not tell its {told}"


def _not_told(gpu: Gpu) -> list[str]:
    reader = GpuReader(gpu.uuid)
    reader.read()
    reader.settings()
    reader.close()
    return [name.replace("_", " ") for name in reader.reasons]


def _is_nvidia_gpu(device: Path) -> bool:
    vendor, kind = (_text(device / name) for name in ("vendor", "class"))
    return vendor == NVIDIA and kind.startswith(DISPLAY)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip()


def toolkit(gpus: Gpus, engine: Engine, folders: tuple[Path, ...] = FOLDERS) -> Answer:
    """NVIDIA's container toolkit, which brings a GPU into a container: as a cell would get each."""
    if not gpus.gpus:
        return ok("not needed: no GPU here")
    info = engine.info() if engine.name == "docker" else {}
    try:
        words = [
            podman_words((gpu.uuid,), gpu_index, is_only_gpu, folders)
            if engine.name == "podman"
            else docker_words((gpu.uuid,), gpu_index, is_only_gpu, info)
            for gpu in gpus.gpus
        ]
    except (EngineError, MissingError) as error:
        return problem(*explained(error))
    return ok(f"{engine.name} has a way to each GPU: {', '.join(map(' '.join, words))}")


def processes(gpus: Gpus) -> Answer:
    """Who computes on the GPUs now; the doctor itself never does."""
    if not gpus.gpus:
        return ok("none: no GPU")
    uses = who_computes(gpus.gpus)
    found = [f"{user} on {use.gpu.uuid}" for use in uses for user in use.users]
    untold = [
        f"NVML does not list those on {use.gpu.uuid}: {use.why}"
        for use in uses
        if use.processes is None
    ]
    if found:
        return warning(
            "; ".join([f"{', '.join(found)}: `run` passes over a GPU in use", *untold]),
            "end them, or wait (--wait-for-gpu); --gpus UUID takes one all the same, and the rows "
            "of its cells are marked as disturbed",
        )
    return unknown("; ".join(untold)) if untold else ok("none computes on a GPU")
