"""YAML -> plain data that remembers its lines. Only safe scalars, lists and mappings are built."""

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.errors import MatrixError, Mistake
from bench.matrix.packaged import NAMES
from bench.matrix.scalars import (
    BOOLEAN,
    FLOAT,
    INT,
    KINDS,
    MERGE,
    NULL,
    PLAIN,
    TAG,
    TEXT,
    is_utf8,
    read_scalar,
)

Where = tuple[str | int, ...]  # keys and list positions from the top
Entry = tuple[yaml.Node, yaml.Node]  # of a mapping: key and value
Wrong = tuple[Where, str]  # a mistake before its line is looked up: where, and what with its remedy

# A matrix of thousands of cells needs some hundred values. The bounds stop alias bombs, which
# expand a few lines into billions of values, and nesting that exhausts the stack.
MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
MAX_DEPTH = 50

# 1e-3 is a number, but for a name: variants are called so.
EXPONENT = re.compile(r"[0-9.]+[eE]-?[0-9]+")
TOGETHER = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*) ?[:=] ?(\S.*)")  # {lr:1e-3, eps=1e-8}


@dataclass(frozen=True)
class Document:
    """A YAML file as plain data, with the line of every value."""

    file: str
    text: str
    data: Any
    lines: Mapping[Where, int]
    plain: Mapping[Where, str]  # what stands without quotes, as it is written
    unread: frozenset[Where]  # what could not be read, and is None in `data`
    mistakes: tuple[Mistake, ...]  # of reading: keys and values that a matrix cannot hold

    def error(self, found: Iterable[Wrong] = ()) -> MatrixError:
        """The mistakes of reading and these, each with its line."""
        told = [
            Mistake(self._line(where), dotted(where), what)
            for where, what in found
            if where not in self.unread  # that is told already
        ]
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
    return parse_yaml(str(path), read_raw(path))


def read_raw(path: Path) -> bytes:
    """What `parse_yaml` takes.

    Raises:
        MatrixError: if it cannot be read, or is too long.
    """
    file = str(path)
    try:
        raw = _read_bytes(path)
    except OSError as error:
        ours = f"Matrices that come along are called by name: {', '.join(NAMES)}."
        raise _no_matrix(file, f"cannot be read: {error.strerror}. {ours}") from error
    if len(raw) > MAX_BYTES:
        what = f"has more than {MAX_BYTES:,} bytes. A matrix needs a few thousand: name another."
        raise _no_matrix(file, what)
    return raw


def parse_yaml(file: str, raw: bytes) -> Document:
    """What `raw` says; `file` is what its mistakes are told of.

    Raises:
        MatrixError: if it is no YAML.
    """
    try:
        text = raw.decode("utf-8")
        root = yaml.compose(text, Loader=_Loader)
    except UnicodeDecodeError as error:
        what = f"is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}. Convert it first."
        raise _no_matrix(file, what) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        if error.problem == "but found another document":
            what = "`---` begins another document, and a matrix is one. Make it a file of its own."
            raise _no_matrix(file, what, line) from error
        what = f"this is not YAML: {error.problem or error.context}. Check indents and quotes."
        raise _no_matrix(file, what, line) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise _no_matrix(file, f"this is not YAML: {reason}.") from error
    if root is None:
        raise _no_matrix(file, "is empty. `name` and `matrix` are required.")
    builder = _Builder(file)
    data = builder.build(root, ())
    unread, mistakes = frozenset(builder.unread), tuple(builder.mistakes)
    return Document(file, text, data, builder.lines, builder.plain, unread, mistakes)


def _read_bytes(path: Path) -> bytes:
    """A file or a pipe, up to what is too long: a device may have no end."""
    # A pipe that nobody writes to has nothing; opened as usual, it would be waited for.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        os.set_blocking(file.fileno(), True)
        return file.read(MAX_BYTES + 1)


def _no_matrix(file: str, what: str, line: int = 0) -> MatrixError:
    return MatrixError(file, [Mistake(line, "", what)])


class _Loader(yaml.SafeLoader):
    """Composes nodes by the rules of PLAIN, in their order; constructs nothing."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012, instead of SafeLoader's


for _tag, _written in PLAIN.items():
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_written.pattern})\Z"), None)


class _Builder:
    """Walks the node graph; every visit counts, so that aliases cannot multiply unseen."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.visits = 0
        self.lines: dict[Where, int] = {}
        self.plain: dict[Where, str] = {}
        self.unread: set[Where] = set()
        self.mistakes: list[Mistake] = []

    def build(self, node: yaml.Node, where: Where) -> Any:
        line = self.lines.setdefault(where, _line(node))
        self._count(line, len(where))
        if isinstance(node, yaml.MappingNode) and node.tag == f"{TAG}map":
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{TAG}seq":
            return [self.build(item, (*where, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag == MERGE:
            return self._scalar(node, where, TEXT)  # it merges as a key alone
        if isinstance(node, yaml.ScalarNode) and node.tag in KINDS:
            return self._scalar(node, where, node.tag)
        tag = node.tag.replace(TAG, "!!")
        self.unread.add(where)
        self._mistake(line, where, f"{tag} is not allowed. Use text, numbers, lists, mappings.")
        return None

    def _count(self, line: int, depth: int) -> None:
        self.visits += 1
        if self.visits > MAX_VALUES or depth > MAX_DEPTH:
            what = (
                f"expands to more than {MAX_VALUES:,} values or {MAX_DEPTH} levels. "
                "Write lists out instead of nesting aliases."
            )
            raise _no_matrix(self.file, what, line)

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = _line(key_node)
            if _merges(key_node):
                continue
            if why := _why_no_key(node, key_node, value_node):
                self._mistake(line, (*where, *_as_step(key_node)), why)
            elif (key := key_node.value) in content:
                what = f"is set twice, first in line {self.lines[(*where, key)]}. Remove one."
                self._mistake(line, (*where, key), what)
            else:
                self.lines[(*where, key)] = line
                content[key] = self.build(value_node, (*where, key))
        self._check_merges(node, (*where, "<<"))
        for key_node, value_node in self._merged(node, len(where)):
            if (key := key_node.value) not in content:
                self.lines[(*where, key)] = _line(key_node)
                content[key] = self.build(value_node, (*where, key))
        return content

    def _check_merges(self, node: yaml.MappingNode, where: Where) -> None:
        merges = [entry for entry in node.value if _merges(entry[0])]
        for key_node, _ in merges[1:]:
            what = f"is set twice, first in line {_line(merges[0][0])}. Write <<: [*one, *other]."
            self._mistake(_line(key_node), where, what)
        for key_node, value_node in merges[:1]:
            if key_node.tag != MERGE:
                what = "merges only where it has no quotes. Remove them."
                self._mistake(_line(key_node), where, what)
            if not all(isinstance(each, yaml.MappingNode) for each in _merged_by(value_node)):
                what = "merges mappings alone. Write <<: *name, with &name before a mapping."
                self._mistake(_line(key_node), where, what)

    def _merged(self, node: yaml.MappingNode, depth: int) -> Iterator[Entry]:
        """What `<<: *name` or `<<: [*a, *b]` brings in, the first of a key before others.

        Without what is wrong in it: that is told where it stands.
        """
        self._count(_line(node), depth)
        values = [value_node for key_node, value_node in node.value if _merges(key_node)]
        for each in itertools.chain.from_iterable(map(_merged_by, values)):
            if isinstance(each, yaml.MappingNode):
                for entry in each.value:
                    self._count(_line(entry[0]), depth)
                    if not (_merges(entry[0]) or _why_no_key(each, *entry)):
                        yield entry
                yield from self._merged(each, depth + 1)

    def _scalar(self, node: yaml.ScalarNode, where: Where, tag: str) -> Any:
        if tag == FLOAT and _is_name(where) and EXPONENT.fullmatch(node.value):
            tag = TEXT
        if node.style is None:
            self.plain[where] = node.value
        try:
            return read_scalar(node.value, tag)
        except ValueError:
            what = f"{node.value[:40]!a} cannot be read as {KINDS[tag]}. Correct it."
        self.unread.add(where)
        self._mistake(self.lines[where], where, what)
        return None

    def _mistake(self, line: int, where: Where, what: str) -> None:
        self.mistakes.append(Mistake(line, dotted(where), what))


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line + 1
    return line


def _merges(key_node: yaml.Node) -> bool:
    """Whether a key is `<<`; in quotes it is no merge key to YAML, and can be meant as no other."""
    return isinstance(key_node, yaml.ScalarNode) and key_node.value == "<<"


def _merged_by(value_node: yaml.Node) -> list[yaml.Node]:
    """What the value of `<<` names: one node, or those of a list."""
    return value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]


def _is_name(where: Where) -> bool:
    """Whether the matrix is named here, or a model or an optimizer."""
    if where == ("name",):
        return True
    in_section = bool(where) and where[0] in ("matrix", "exclude", "include", "claim")
    return in_section and not {"model", "optimizer"}.isdisjoint(where)


def _as_step(key_node: yaml.Node) -> Where:
    """A key as a part of a place; nothing for a list or a mapping, which have no short form."""
    is_text = isinstance(key_node, yaml.ScalarNode) and is_utf8(key_node.value)
    return (key_node.value or "nothing",) if is_text else ()


def _why_no_key(node: yaml.MappingNode, key_node: yaml.Node, value_node: yaml.Node) -> str | None:
    """Why an entry of a mapping is none, with the remedy; None if it is one."""
    if not isinstance(key_node, yaml.ScalarNode):
        return f"the key at line {_line(key_node)} is not text. Write a word."
    key = key_node.value
    if not is_utf8(key):
        return f"the key {key[:40]!a} is not text in UTF-8. Correct it."
    without = value_node.value == "" and value_node.tag == NULL
    if node.flow_style and without and (found := TOGETHER.fullmatch(key)):
        right = repr(f"{found[1]}: {found[2][:40]}")[1:-1]
        return f"{key[:40]!r} is one word. Write a space after the colon: {right}."
    if node.flow_style and without and not key.isidentifier():
        return (
            f"{key[:40]!r} has no value: in {{...}} a comma ends the one before. Write a list as "
            "[0.9, 0.95], a fraction with a point, text with a comma in quotes."
        )
    if key_node.tag == TEXT or EXPONENT.fullmatch(key):
        return None
    kind = {NULL: "nothing", BOOLEAN: "true or false", INT: "a number", FLOAT: "a number"}
    if key_node.tag not in kind:
        return f"the key {key[:40]!r} is not text. Write a word, without a tag."
    return f"the key {key[:40] or '~'} is {kind[key_node.tag]}, not text. Put it in quotes."
