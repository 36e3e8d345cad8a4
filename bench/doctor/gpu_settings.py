"""What somebody set on the GPUs that changes their speed: power limits and clocks."""

from bench.doctor.finding import Answer, ok, unknown, warning
from bench.measure.gpu_reader import GpuReader, GpuSettings
from bench.measure.gpus import Gpu, Gpus

LOCK = (
    "for even times lock them: sudo nvidia-smi -i UUID -lgc MHZ   (nvidia-smi -q -d "
    "SUPPORTED_CLOCKS lists what a GPU has; -rgc gives them free again)"
)


def power_limit(gpus: Gpus) -> Answer:
    """Whether each GPU may draw as much power as it is made for."""
    if not gpus.gpus:
        return ok("none: no GPU")
    lowered, remedies, told, untold = [], [], [], []
    for gpu in gpus.gpus:
        settings = _settings(gpu)
        limit, default = settings.power_limit_w, settings.power_default_w
        if limit is None or default is None:
            untold.append(str(gpu))
        elif limit < default:
            lowered.append(f"{limit:g} W on {gpu}, whose default is {default:g} W")
            remedies.append(f"sudo nvidia-smi -i {gpu.uuid} -pl {default:g}")
        else:
            told.append(f"{limit:g} W on {gpu}")
    if lowered:
        return warning("; ".join(lowered), "; ".join(remedies))
    if untold:
        return unknown(f"NVML does not tell it of {', '.join(untold)}")
    return ok(f"not below the default: {', '.join(told)}")


def clocks(gpus: Gpus) -> Answer:
    """Whether clocks are held; NVML tells application clocks alone."""
    if not gpus.gpus:
        return ok("none: no GPU")
    held = [str(gpu) for gpu in gpus.gpus if _settings(gpu).app_clocks_set]
    if len(held) == len(gpus.gpus):
        return ok(f"application clocks are set on {', '.join(held)}")
    said = f"application clocks are set on {', '.join(held)} alone" if held else "none are set"
    return unknown(f"{said}; NVML does not tell whether nvidia-smi -lgc locked them", LOCK)


def _settings(gpu: Gpu) -> GpuSettings:
    reader = GpuReader(gpu.uuid)
    try:
        return reader.settings()
    finally:
        reader.close()
