"""What a GPU is to a run, and how people name one."""

from collections.abc import Sequence
from dataclasses import dataclass

GPU, INSTANCE = "GPU-", "MIG-"  # how UUIDs begin: of a whole GPU, of an instance of one


@dataclass(frozen=True)
class Gpu:
    """What one cell gets: a whole GPU, or an instance of one that is in MIG mode."""

    uuid: str
    name: str  # NVML's; an instance's tells its profile

    def __str__(self) -> str:
        return f"{self.name} ({self.uuid})"


@dataclass(frozen=True)
class WholeGpu:
    """A GPU of this machine, whatever of it is there for us."""

    gpu: Gpu
    instances: tuple[Gpu, ...] | None = None  # None: it is not in MIG mode
    virtual: bool = False  # a vGPU: what a hypervisor gives of one
    lost: str = ""  # NVML's words, where it does not even tell its UUID

    def __str__(self) -> str:
        if self.lost:
            return f"{self.gpu.name}: {self.lost}"
        if self.instances is None:
            return str(self.gpu)
        held = ", ".join(map(str, self.instances)) or "no instance"
        return f"{self.gpu} in MIG mode with {held}"

    @property
    def parts(self) -> tuple[Gpu, ...]:
        """What cells may get of it."""
        if self.lost:
            return ()
        return (self.gpu,) if self.instances is None else self.instances

    @property
    def mig_remedy(self) -> str:
        """Where it is in MIG mode, so that no cell gets all of it."""
        if self.instances:
            return "name instances: " + ", ".join(gpu.uuid for gpu in self.instances)
        return (
            "make instances (nvidia-smi mig -cgi PROFILE -C), or end MIG mode (nvidia-smi -mig 0)"
        )


@dataclass(frozen=True)
class Gpus:
    """What is there for our cells, or why there is nothing."""

    gpus: tuple[Gpu, ...]
    driver_version: str | None
    reason: str | None  # None if there is a GPU
    remedy: str = "run where nvidia-smi lists one"  # if there is none
    left_out: str = ""  # which GPUs of the machine are not for us, and by what
    every: tuple[WholeGpu, ...] = ()  # all of the machine, by nvidia-smi's numbers

    @property
    def names(self) -> set[str]:
        return {gpu.name for gpu in self.gpus}


def with_uuid(beginning: str, every: Sequence[WholeGpu]) -> list[Gpu]:
    """The GPUs and instances whose UUIDs begin like this."""
    if not beginning.startswith((GPU, INSTANCE)):
        return []
    known = [gpu for whole in every for gpu in (whole.gpu, *(whole.instances or ()))]
    return [gpu for gpu in known if gpu.uuid.startswith(beginning)]
