"""What building a report came to. Apart from the building, so that the commands load no pandas."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Looked:
    """What a report has tested, as SHA-256."""

    claim: str
    figures: str


@dataclass(frozen=True)
class Built:
    coverage: str  # for example "37 of 40 runs ok, 2 diverged, 1 skipped"
    damaged: int  # files of the results folders of which something had to be left out
    looked: Looked | None  # None: nothing was tested
    terminal_lines: list[str]  # the verdict and the main table, as a terminal shows them
