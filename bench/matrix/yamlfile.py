"""YAML -> plain data that remembers its lines. Only safe scalars, lists and mappings are built."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.errors import MatrixError, Mistake

Where = tuple[str | int, ...]  # keys and list positions from the top

# A matrix of thousands of cells needs some hundred values. The bounds stop alias bombs, which
# expand a few lines into billions of values, and nesting that exhausts the stack.
MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
MAX_DEPTH = 50

BOOLEAN = "tag:yaml.org,2002:bool"
SCALARS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str")}


@dataclass
class Document:
    """A YAML file as plain data, with the line of every value and the mistakes found so far."""

    file: str
    text: str
    data: Any = None
    lines: dict[Where, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def line(self, where: Where) -> int:
        """The line of a value, or of the nearest thing around it that is in the file."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 0)

    def mistake(self, where: Where, what: str) -> None:
        self.mistakes.append(Mistake(self.line(where), dotted(where), what))

    def raise_mistakes(self) -> None:
        if self.mistakes:
            raise MatrixError(self.file, self.mistakes)


def dotted(where: Where) -> str:
    """('exclude', 0, 'model') -> 'exclude[0].model', in one line whatever the keys hold."""
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text if text.isprintable() else repr(text)[1:-1]


def read_yaml(path: Path) -> Document:
    """Read a file whole; mistakes in keys and values are collected, others end it at once."""
    file = str(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise MatrixError(file, [Mistake(0, "", f"cannot be read: {error.strerror}.")]) from error
    if len(raw) > MAX_BYTES:
        raise MatrixError(file, [Mistake(0, "", f"has more than {MAX_BYTES:,} bytes.")])
    try:
        document = Document(file, raw.decode("utf-8"))
        root = yaml.compose(document.text, Loader=_Loader)
    except UnicodeDecodeError as error:
        what = f"is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}. Convert it first."
        raise MatrixError(file, [Mistake(0, "", what)]) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        what = f"this is not YAML: {error.problem or error.context}. Check indents and quotes."
        raise MatrixError(file, [Mistake(line, "", what)]) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise MatrixError(file, [Mistake(0, "", f"this is not YAML: {reason}.")]) from error
    if root is None:
        raise MatrixError(file, [Mistake(0, "", "is empty. `name` and `matrix` are required.")])
    document.data = _Builder(document).build(root, ())
    return document


class _Loader(yaml.SafeLoader):
    """With the booleans of YAML 1.2: `off`, `no` and `y` are text, as whoever writes them means."""

    yaml_implicit_resolvers = {  # noqa: RUF012, overrides what SafeLoader has
        first: [entry for entry in entries if first in "tTfF" or entry[0] != BOOLEAN]
        for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Builder:
    """Walks the node graph; every visit counts, so that aliases cannot multiply unseen."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.constructor = yaml.constructor.SafeConstructor()
        self.values = 0

    def build(self, node: yaml.Node, where: Where) -> Any:
        self.document.lines.setdefault(where, node.start_mark.line + 1)
        self.values += 1
        if self.values > MAX_VALUES or len(where) > MAX_DEPTH:
            what = (
                f"expands to more than {MAX_VALUES:,} values or {MAX_DEPTH} levels. "
                "Write lists out instead of nesting aliases."
            )
            raise MatrixError(self.document.file, [Mistake(self.document.line(where), "", what)])
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.build(item, (*where, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in SCALARS:
            return self._scalar(node, where)
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        self.document.mistake(where, f"{tag} is not allowed. Use text, numbers, lists, mappings.")
        return None

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            is_text = key_node.tag == "tag:yaml.org,2002:str" and _is_utf8(str(key))
            if not (is_text and isinstance(key_node, yaml.ScalarNode)):
                what = f"the key at line {line} is not text. Put it in quotes."
                self.document.mistake((*where, line), what)
                continue
            inner = (*where, key)
            if key in content:
                first = self.document.lines[inner]
                repeated = Mistake(line, dotted(inner), f"is set twice, first in line {first}.")
                self.document.mistakes.append(repeated)
                continue
            self.document.lines[inner] = line
            content[key] = self.build(value_node, inner)
        return content

    def _scalar(self, node: yaml.ScalarNode, where: Where) -> Any:
        try:
            value = self.constructor.construct_object(node)
            if _holds(value):
                return value
        except (ValueError, LookupError, OverflowError, yaml.YAMLError):
            pass  # PyYAML's own constructors fail in all these ways
        self.document.mistake(where, f"{node.value[:40]!a} cannot be read as {node.tag[18:]}.")
        return None


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
