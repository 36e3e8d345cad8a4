"""The GPUs: hardware, driver, the engine's way to them, and who uses them now."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.doctor.finding import Answer, ok, problem, unknown, warning
from bench.launch.engine import Engine
from bench.measure.gpu_reader import GpuReader
from bench.measure.gpus import Gpu, Gpus
from bench.measure.listed import who_computes

PCI_DEVICES = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", "0x03"  # PCI's vendor id and base class (video and 3D controllers)
CDI_FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))  # of the Container Device Interface
CDI_KIND = "nvidia.com/gpu"


def nvml(gpus: Gpus) -> Answer:
    """The driver, through which GPUs are found and measured."""
    if gpus.driver_version is not None:
        return ok(f"answers, driver {gpus.driver_version}")
    return problem(gpus.reason or "no driver", "install or repair the NVIDIA driver")


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


def toolkit(gpus: Gpus, engine: Engine, folders: tuple[Path, ...] = CDI_FOLDERS) -> Answer:
    """NVIDIA's container toolkit, which brings a GPU into a container."""
    way = _podmans_way(folders) if engine.name == "podman" else _dockers_way(engine)
    if way is not None:
        return ok(way)
    if not gpus.gpus:
        return ok("not needed: no GPU here")
    configure = (
        "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
        if engine.name == "podman"
        else "nvidia-ctk runtime configure --runtime=docker, then restart docker"
    )
    return problem(
        f"{engine.name} has no way to a GPU", f"install nvidia-container-toolkit; {configure}"
    )


def _dockers_way(engine: Engine) -> str | None:
    """`--gpus` is served by the toolkit's hook, as a runtime or on the path, or by CDI devices."""
    info = engine.info()
    if "nvidia" in (info.get("Runtimes") or {}):
        return "docker has the runtime nvidia"
    devices = info.get("DiscoveredDevices") or []  # told since docker 28.2
    if any(device.get("ID", "").startswith(CDI_KIND) for device in devices):
        return f"docker has CDI devices of {CDI_KIND}"
    if hook := shutil.which("nvidia-container-runtime-hook"):
        return f"the hook is there: {hook}"
    return None


def _podmans_way(folders: tuple[Path, ...]) -> str | None:
    for folder in folders:
        for file in (*folder.glob("*.json"), *folder.glob("*.yaml")):
            if CDI_KIND in file.read_text(encoding="utf-8", errors="replace"):
                return f"podman has CDI devices of {CDI_KIND}: {file}"
    return None


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
