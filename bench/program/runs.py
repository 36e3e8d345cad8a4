"""One process, one run or several: its lines, each given to the run that it tells of."""

import re

from bench.border.program import Program
from bench.program.figures import Figures
from bench.program.reading import Record


class OutputRuns:
    """Each match of `trials` begins another run; what is told before the first is of the first.

    Unless it tells of a loss or a metric: then it was a run as well.
    """

    def __init__(self, program: Program, begin: float) -> None:
        self.figures = [Figures(program.metrics, begin)]  # of each run
        self._metrics = program.metrics
        self._begins = re.compile(program.trials) if program.trials else None
        self._announced = False

    def add(self, line: str, record: Record, at: float) -> None:
        if self._begins is not None and self._begins.search(line):
            if self._announced or self.figures[-1].has_begun:
                self.figures.append(Figures(self._metrics, at))
            self.figures[-1].begin = at
            self._announced = True
        if record:
            self.figures[-1].add(record, at)
