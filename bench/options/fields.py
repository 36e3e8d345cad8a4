"""A setting with its default, its meaning and its limits."""

from dataclasses import field, fields
from typing import Any


def option(default: Any, doc: str, **limits: Any) -> Any:
    """A dataclass field with its meaning and limits (`ge`, `gt`, `le`, as pydantic names them)."""
    return field(default=default, metadata={"doc": doc, "limits": limits})


def asked(options: Any) -> dict[str, Any]:
    """The settings that differ from their defaults: what somebody asked for."""
    return {
        entry.name: getattr(options, entry.name)
        for entry in fields(options)
        if getattr(options, entry.name) != entry.default
    }
