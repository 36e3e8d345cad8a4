"""A setting with its default, its meaning and its limits."""

from dataclasses import dataclass, field, fields
from typing import Any


def option(default: Any, doc: str, **limits: Any) -> Any:
    """A dataclass field with its meaning and limits (`ge`, `gt`, `le`, as pydantic names them)."""
    return field(default=default, metadata={"doc": doc, "limits": limits})


@dataclass(frozen=True)
class Options:
    """Settings whose fractions are floats however they were written, so that they are one identity.

    A whole number becomes one, and -0.0 becomes 0.0, which Python calls equal and JSON does not.
    """

    def __post_init__(self) -> None:
        for entry in fields(self):
            if entry.type is float:
                object.__setattr__(self, entry.name, float(getattr(self, entry.name)) + 0.0)


def asked(options: Any) -> dict[str, Any]:
    """The settings that differ from their defaults: what somebody asked for."""
    return {
        entry.name: getattr(options, entry.name)
        for entry in fields(options)
        if getattr(options, entry.name) != entry.default
    }
