"""A reader of JSON Schema that knows the keywords of ours: no package is needed for them."""

import re
from collections.abc import Iterator
from typing import Any

from bench.matrix.forms import json_schema

SCHEMA = json_schema()
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
REMARKS = {"title", "type", "description", "default", "discriminator", "$defs", "$schema"}


def violations(value: Any, schema: dict[str, Any], where: str = "") -> Iterator[str]:
    """What of `value` the schema does not accept; knows the keywords that our schema uses."""
    wanted = schema.get("type")
    if wanted is not None and (isinstance(value, bool) or not isinstance(value, TYPES[wanted])):
        yield f"{where}: not of type {wanted}"
        return
    for keyword, limit in schema.items():
        match keyword:
            case "$ref":
                yield from violations(value, SCHEMA["$defs"][limit.rpartition("/")[2]], where)
            case "properties":
                for key in value.keys() & limit.keys():
                    yield from violations(value[key], limit[key], f"{where}.{key}")
            case "additionalProperties" if limit is False:
                unknown = value.keys() - schema["properties"].keys()
                yield from (f"{where}: unknown {key}" for key in unknown)
            case "additionalProperties" if isinstance(limit, dict):
                for key in value.keys() - schema.get("properties", {}).keys():
                    yield from violations(value[key], limit, f"{where}.{key}")
            case "propertyNames":
                for key in value:
                    yield from violations(key, limit, f"{where}.{key}")
            case "patternProperties":
                for key, form in (
                    (k, f) for k in value for p, f in limit.items() if re.search(p, k)
                ):
                    yield from violations(value[key], form, f"{where}.{key}")
            case "required":
                yield from (f"{where}: no {key}" for key in set(limit) - value.keys())
            case "items":
                for index, item in enumerate(value):
                    yield from violations(item, limit, f"{where}[{index}]")
            case "anyOf":
                if all(list(violations(value, form)) for form in limit):
                    yield f"{where}: none of the forms"
            case "oneOf":
                if sum(not list(violations(value, form)) for form in limit) != 1:
                    yield f"{where}: not exactly one of the forms"
            case _ if keyword not in REMARKS:
                if not holds(keyword, limit, value):
                    yield f"{where}: {keyword} {limit}"


def holds(keyword: str, limit: Any, value: Any) -> bool:
    match keyword:
        case "enum":
            return value in limit
        case "const":
            return value == limit
        case "pattern":
            return re.search(limit, value) is not None
        case "minLength" | "minItems" | "minProperties":
            return len(value) >= limit
        case "maxItems" | "maxProperties":
            return len(value) <= limit
        case "minimum":
            return value >= limit
        case "maximum":
            return value <= limit
        case "exclusiveMinimum":
            return value > limit
        case "exclusiveMaximum":
            return value < limit
    raise NotImplementedError(keyword)
