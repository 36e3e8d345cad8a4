"""What a matrix requires of the cells' packages: name==version, by one spelling of each name."""

import re
from collections.abc import Iterable


def normalised(package: str) -> str:
    """A package's name as the index compares names: Some_Name and some-name are one."""
    return re.sub(r"[-_.]+", "-", package).lower()


def pinned(requirements: Iterable[str]) -> dict[str, str]:
    """The version of each package, in the order of the requirements; of two of one the last."""
    pairs = (each.partition("==") for each in requirements)
    return {normalised(name): version for name, _, version in pairs}
