"""A `make` that notes what it is asked, leaves files, and fails at the target that is broken."""

import os
import re
from pathlib import Path

MAKE = """\
#!/bin/sh
echo "$*" >>"{log}"
case "$*" in *gpu*) device=gpu ;; *) device=cpu ;; esac
mkdir -p results/$device results/ab build/site
echo a row | tee results/$device/runs.csv >results/ab/compare.xml
echo a bundle >results/$device.tar.gz
echo a page | tee build/site/index.html >build/tests.xml
case " $* " in *" {broken} "*) echo "{broken} is broken"; exit 2 ;; esac
"""


class StandInMake:
    """Its folder goes before PATH."""

    def __init__(self, place: Path, broken: str = "none") -> None:
        self.log = place / "asked.txt"
        place.mkdir(parents=True, exist_ok=True)
        (place / "make").write_text(MAKE.format(log=self.log, broken=broken))
        (place / "make").chmod(0o755)
        self.around = {"PATH": f"{place}{os.pathsep}{os.environ['PATH']}"}

    def asked(self) -> list[str]:
        """The targets, in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [target_of(line) for line in lines]


def target_of(command: str) -> str:
    """Of a line for make: the word that is no option, no variable."""
    words = command.removeprefix("make").partition(">>")[0].split()
    (target,) = (word for word in words if re.fullmatch(r"[a-z]+(-[a-z]+)*", word))
    return target
