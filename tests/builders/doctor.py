"""What the doctor finds, by name, on machines that are made up."""

from pathlib import Path

from bench.doctor.examine import examine
from bench.doctor.finding import Diagnosis
from bench.measure.gpus import Gpus

NO_GPU = Gpus((), None, "NVML finds no NVIDIA driver: not there")


def by_name(findings: list[Diagnosis]) -> dict[str, Diagnosis]:
    named = {finding.check: finding for finding in findings}
    assert len(named) == len(findings), "two findings of one name"
    return named


def examined(results: Path, runtime: str = "local") -> dict[str, Diagnosis]:
    return by_name(examine(runtime, None, results, "pydoc"))


def made_up(root: Path, contents: dict[str, str]) -> Path:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n")
    return root
