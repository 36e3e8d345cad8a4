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


def kind_of(gpus: Sequence[Gpu]) -> str:
    """What rows call the GPUs of one cell, which are all of one name."""
    return gpus[0].name if len(gpus) == 1 else f"{len(gpus)} x {gpus[0].name}"


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
    """What is there for our cells, or why there is not more."""

    gpus: tuple[Gpu, ...]
    driver_version: str | None
    reason: str | None  # why there is none, or which are in use
    remedy: str = "run where nvidia-smi lists one"  # of that reason
    left_out: str = ""  # which GPUs of the machine are not for us, and by what
    every: tuple[WholeGpu, ...] = ()  # all of the machine, by nvidia-smi's numbers

    @property
    def names(self) -> set[str]:
        return {gpu.name for gpu in self.gpus}

    def groups(self, each: int) -> list[tuple[Gpu, ...]]:
        """The GPUs of as many cells at once as there are enough for; `each` of one kind a cell.

        Within a cell they are in NVML's order. Several are whole ones: of instances (MIG) a process
        reaches one alone.
        """
        numbers = {whole.gpu: number for number, whole in enumerate(self.every)}
        found: list[tuple[Gpu, ...]] = []
        begun: dict[str, list[Gpu]] = {}
        for gpu in self.gpus:
            if each > 1 and gpu.uuid.startswith(INSTANCE):
                continue
            group = begun.setdefault(gpu.name, [])
            group.append(gpu)
            if len(group) == each:
                found.append(tuple(sorted(group, key=lambda gpu: numbers.get(gpu, 0))))
                del begun[gpu.name]
        return found


def with_uuid(beginning: str, every: Sequence[WholeGpu]) -> list[Gpu]:
    """The GPUs and instances whose UUIDs begin like this."""
    if not beginning.startswith((GPU, INSTANCE)):
        return []
    known = [gpu for whole in every for gpu in (whole.gpu, *(whole.instances or ()))]
    return [gpu for gpu in known if gpu.uuid.startswith(beginning)]
