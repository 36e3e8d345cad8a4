"""YAML -> plain data that remembers its lines. Only safe scalars, lists and mappings are built."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.errors import MatrixError, Mistake

Where = tuple[str | int, ...]  # keys and list positions from the top
Wrong = tuple[Where, str]  # a mistake before its line is looked up: where, and what with its remedy

# A matrix of thousands of cells needs some hundred values. The bounds stop alias bombs, which
# expand a few lines into billions of values, and nesting that exhausts the stack.
MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
MAX_DEPTH = 50

BOOLEAN = "tag:yaml.org,2002:bool"
SCALARS = {
    "tag:yaml.org,2002:null": "null",
    BOOLEAN: "true or false",
    "tag:yaml.org,2002:int": "a whole number of at most 64 bits",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:str": "text in UTF-8",
}


@dataclass(frozen=True)
class Document:
    """A YAML file as plain data, with the line of every value."""

    file: str
    text: str
    data: Any
    lines: Mapping[Where, int]
    mistakes: tuple[Mistake, ...]  # of reading: keys and values that a matrix cannot hold

    def error(self, found: Iterable[Wrong] = ()) -> MatrixError:
        """The mistakes of reading and these, each with its line."""
        told = [Mistake(self._line(where), dotted(where), what) for where, what in found]
        return MatrixError(self.file, [*self.mistakes, *told])

    def raise_mistakes(self, found: Iterable[Wrong] = ()) -> None:
        error = self.error(found)
        if error.mistakes:
            raise error

    def _line(self, where: Where) -> int:
        """The line of a value, or of the nearest thing around it that is in the file."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 0)


def dotted(where: Where) -> str:
    """('exclude', 0, 'model') -> 'exclude[0].model', in one line whatever the keys hold."""
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text if text.isprintable() else repr(text)[1:-1]


def read_yaml(path: Path) -> Document:
    """Read a file whole; mistakes in keys and values are collected, others end it at once.

    Raises:
        MatrixError: if it cannot be read, or is no YAML.
    """
    file = str(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _no_matrix(file, f"cannot be read: {error.strerror}.") from error
    if len(raw) > MAX_BYTES:
        what = f"has more than {MAX_BYTES:,} bytes. A matrix needs a few thousand: name another."
        raise _no_matrix(file, what)
    try:
        text = raw.decode("utf-8")
        root = yaml.compose(text, Loader=_Loader)
    except UnicodeDecodeError as error:
        what = f"is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}. Convert it first."
        raise _no_matrix(file, what) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        what = f"this is not YAML: {error.problem or error.context}. Check indents and quotes."
        raise _no_matrix(file, what, line) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise _no_matrix(file, f"this is not YAML: {reason}.") from error
    if root is None:
        raise _no_matrix(file, "is empty. `name` and `matrix` are required.")
    builder = _Builder(file)
    data = builder.build(root, ())
    return Document(file, text, data, builder.lines, tuple(builder.mistakes))


def _no_matrix(file: str, what: str, line: int = 0) -> MatrixError:
    return MatrixError(file, [Mistake(line, "", what)])


class _Loader(yaml.SafeLoader):
    """With the booleans of YAML 1.2: `off`, `no` and `y` are text, as people mean them."""

    yaml_implicit_resolvers = {  # noqa: RUF012, overrides what SafeLoader has
        first: [entry for entry in entries if first in "tTfF" or entry[0] != BOOLEAN]
        for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Builder:
    """Walks the node graph; every visit counts, so that aliases cannot multiply unseen."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.constructor = yaml.constructor.SafeConstructor()
        self.values = 0
        self.lines: dict[Where, int] = {}
        self.mistakes: list[Mistake] = []

    def build(self, node: yaml.Node, where: Where) -> Any:
        line = self.lines.setdefault(where, node.start_mark.line + 1)
        self.values += 1
        if self.values > MAX_VALUES or len(where) > MAX_DEPTH:
            what = (
                f"expands to more than {MAX_VALUES:,} values or {MAX_DEPTH} levels. "
                "Write lists out instead of nesting aliases."
            )
            raise _no_matrix(self.file, what, line)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.build(item, (*where, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in SCALARS:
            return self._scalar(node, where)
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        self._mistake(line, where, f"{tag} is not allowed. Use text, numbers, lists, mappings.")
        return None

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            is_text = key_node.tag == "tag:yaml.org,2002:str" and _is_utf8(str(key))
            if not (is_text and isinstance(key_node, yaml.ScalarNode)):
                what = f"the key at line {line} is not text. Put it in quotes."
                self._mistake(line, (*where, line), what)
                continue
            inner = (*where, key)
            if key in content:
                first = self.lines[inner]
                self._mistake(line, inner, f"is set twice, first in line {first}. Remove one.")
                continue
            self.lines[inner] = line
            content[key] = self.build(value_node, inner)
        return content

    def _scalar(self, node: yaml.ScalarNode, where: Where) -> Any:
        try:
            value = self.constructor.construct_object(node)
            if _holds(value):
                return value
        except (ValueError, LookupError, OverflowError, yaml.YAMLError):
            pass  # PyYAML's own constructors fail in all these ways
        what = f"{node.value[:40]!a} cannot be read as {SCALARS[node.tag]}. Correct it."
        self._mistake(self.lines[where], where, what)
        return None

    def _mistake(self, line: int, where: Where, what: str) -> None:
        self.mistakes.append(Mistake(line, dotted(where), what))


def _holds(value: Any) -> bool:
    """Whether a scalar can be stored and shown: text in UTF-8, whole numbers of 64 bits."""
    if isinstance(value, int):
        return value.bit_length() <= 64
    return not isinstance(value, str) or value.isascii() or _is_utf8(value)


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a character, by an escape
        return False
    return True
