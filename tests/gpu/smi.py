"""nvidia-smi's own readings, beside which NVML's columns are held."""

import subprocess
import time
from dataclasses import dataclass
from subprocess import Popen
from threading import Thread

QUERY = ("memory.used", "power.draw.average")
PERIOD_MS = 100


@dataclass(frozen=True)
class Reading:
    time_s: float  # CLOCK_MONOTONIC, as the spans of a cell
    used_mib: float  # of the whole device
    power_w: float  # over the second before


class Smi:
    """Reads the GPU ten times a second while a block runs."""

    def __enter__(self) -> "Smi":
        self.readings: list[Reading] = []
        words = [f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
        command = ["nvidia-smi", *words, f"--loop-ms={PERIOD_MS}"]
        self.process = Popen(command, stdout=subprocess.PIPE, text=True)
        self.reader = Thread(target=self._read)
        self.reader.start()
        while not self.readings and self.process.poll() is None:
            time.sleep(0.01)
        assert self.readings, "nvidia-smi ended without a reading"
        self.before_mib = self.readings[0].used_mib
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.reader.join()
        with self.process:  # closes what is read, and waits
            pass

    def _read(self) -> None:
        """Until the process ends; what it was writing then is no reading."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.count(",") == 1 and line.endswith("\n"):
                self.readings.append(Reading(time.monotonic(), *map(float, line.split(","))))

    def peak_mib(self) -> float:
        """More than was in use before."""
        return max(reading.used_mib for reading in self.readings) - self.before_mib

    def powers_w(self, begin: float, end: float) -> list[float]:
        """Of seconds that lie within this time."""
        return [reading.power_w for reading in self.readings if begin + 1 <= reading.time_s <= end]
