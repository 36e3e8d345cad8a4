"""Whatever a file holds, it loads or is refused in plain lines; what loads fits the schema."""

import copy
import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bench.errors import BenchError, MatrixError
from bench.matrix.expansion import Matrix, load_matrix
from bench.matrix.schema import json_schema, validated
from bench.matrix.yamlfile import read_yaml
from tests.builders.matrices import SOUND

EDITOR = Draft202012Validator(json_schema())
# What a schema cannot tell: 1.0 is whole to it, and no number is infinite.
BEYOND_A_SCHEMA = re.compile(r"is not a whole number\. Write -?\d+\.$|finite number")


@dataclasses.dataclass(frozen=True)
class Raw:
    """YAML that is put into the file as it stands."""

    text: str


TEXTS = ["nanogpt", "nanokimi", "nanogtp", "adamw", "cpu", "base", "seed", "pydoc", "3e-4", "a.b"]
TEXTS += ["", " ", "[key]", "[/red]", "a'; touch x", "../../x", "a\nb", "x" * 300, "=cmd()", "$(x)"]
TEXTS += [
    "\0",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202e",
    "\ufeff",
    "é",
    "日本",
    "😀",
    "\ud800",
]
TAGS = ["!!python/object/apply:os.system [touch x]", "!!python/name:os.system", "!x a", "!!set {a}"]
TAGS += [
    "!!binary aGk=",
    "!!int ''",
    "!!int 1_",
    "!!float x",
    "!!bool maybe",
    "!!null x",
    "!!str 1",
]
TAGS += ["!!timestamp 2001-99-99", "2001-01-01", "2001-99-99", "!!map []", "!!seq {}", "!!omap [1]"]
MARKS = [".nan", ".inf", "-.inf", "1e999", "0x_", "0b", "08", "1:60:60", "1_000", "9" * 5_000, "~"]
MARKS += [
    "&a [*a]",
    "&a x",
    "*a",
    "{<<: {a: 1}}",
    "{<<: 1}",
    "=",
    "{? [a] : b}",
    "{1: 2}",
    "{null: 1}",
    "{base: nanogpt, <<: {n_embd: 8}}",
    "{<<: [{a: 1}, {a: 2}], <<: {}}",
    "&m {<<: *m}",
    "010",
    "0o17",
    "1e3",
    "1e-3",
    "(1, 2)",
    "1,5",
    "1:30",
]
MARKS += [
    "[" * 60 + "]" * 60,
    "{a: " * 60 + "1" + "}" * 60,
    "[" * 200,
    "'",
    '"',
    "@",
    "`",
    "%",
    "|",
]
SCALARS = st.one_of(
    st.integers(0, 9),
    st.integers() | st.sampled_from([-1, 2**63 - 1, 2**63, 2**64, 10**400]),
    st.floats(0, 1) | st.floats(),
    st.sampled_from([None, True, False]),
    st.sampled_from(TEXTS),
    st.text(max_size=8),
    st.sampled_from([*TAGS, *MARKS]).map(Raw),
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(SCALARS, SCALARS, max_size=2)
PARTS = [
    "!!int ",
    "!!str ",
    "!!float '' #",
    "!x ",
    "&a ",
    "*a",
    "<<: ",
    "? ",
    "%",
    "---\n",
    "...\n",
]
PARTS += [
    "{",
    "]",
    "}",
    '"',
    "'",
    ":",
    "\n",
    "\r",
    "\t",
    " ",
    "- ",
    "|",
    ">",
    "#",
    ",",
    "\\",
    "\\x00",
]
PARTS += [
    "\0",
    "\x1b",
    "\x85",
    "\u2028",
    "\ufeff",
    "😀",
    "~",
    ".inf",
    "=",
    "0x",
    "1:2",
    "%YAML 9.9\n---\n",
]


def flow(value: Any) -> str:
    """A value in YAML's flow style. Much faster than a dump by PyYAML, and it can be broken."""
    match value:
        case Raw(text):
            return text
        case list():
            return f"[{', '.join(map(flow, value))}]"
        case dict():
            return f"{{{', '.join(f'{flow(key)}: {flow(inner)}' for key, inner in value.items())}}}"
        case float():
            return str(value).replace("nan", ".nan").replace("inf", ".inf")
    return json.dumps(value, ensure_ascii=isinstance(value, str) and value.isascii())


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (holder, key or index) in a structure."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


INDICES = st.integers(
    0, 2**16
)  # made once: hypothesis takes longer to make a strategy than to draw


def pick(draw: st.DrawFn, options: Sequence[Any]) -> Any:
    return options[draw(INDICES) % len(options)]


def mutate(draw: st.DrawFn, content: dict[str, Any]) -> None:
    """One key or value changed, dropped, doubled, misspelt or added, wherever it is."""
    holder, key = pick(draw, list(places(content)) or [(content, "name")])
    action = pick(draw, ["change", "change", "drop", "double", "misspell", "add"])
    if action == "change":
        holder[key] = draw(VALUES)
    elif action == "drop":
        holder.pop(key, None) if isinstance(holder, dict) else holder.pop(key)
    elif isinstance(holder, list):
        holder.append(holder[key] if action == "double" else draw(VALUES))
    elif action == "double":
        holder[Raw(flow(key))] = holder.get(key)
    elif action == "misspell":
        holder[draw(SCALARS)] = holder.pop(key, None)
    else:
        holder[draw(SCALARS)] = draw(VALUES)


SECTIONS = yaml.safe_load(SOUND)
OPTIONAL = [key for key in SECTIONS if key not in ("name", "matrix", "models")]
SCRIBBLES = st.sampled_from(PARTS) | st.text(max_size=5)


@st.composite
def matrices(draw: st.DrawFn) -> bytes:
    """A part of the sound matrix with up to three mutations and up to two scribbles."""
    left_out = {pick(draw, OPTIONAL) for _ in range(12)}
    content = copy.deepcopy({key: SECTIONS[key] for key in SECTIONS if key not in left_out})
    for _ in range(pick(draw, [0, 1, 2, 3])):
        mutate(draw, content)
    end = pick(draw, ["\n", "\n", "\n", "\r\n", "\r"])
    text = "".join(f"{flow(key)}: {flow(value)}{end}" for key, value in content.items())
    for _ in range(pick(draw, [0, 0, 0, 1, 2])):
        at, cut = draw(INDICES) % (len(text) + 1), pick(draw, [0, 0, 1, 5])
        text = text[:at] + draw(SCRIBBLES) + text[at + cut :]
    text = pick(draw, ["", "", "", "\ufeff", "---\n"]) + text
    return text.encode("utf-8", "surrogatepass")


RAW_TEXT = st.lists(st.sampled_from([*PARTS, *MARKS, *TAGS]) | st.text(max_size=20), max_size=9)
RAW_FILES = RAW_TEXT.map(lambda parts: "".join(parts).encode()) | st.binary(max_size=40)
FILES = st.integers(0, 9).flatmap(lambda tenth: matrices() if tenth else RAW_FILES)


def load_any(file: Path) -> str:
    """Load one file; how it went. Whatever else than a BenchError it raises is a defect."""
    try:
        matrix = load_matrix(file)
    except BenchError as error:
        check_refusal(error)
        return "refused"
    check_matrix(matrix, file)
    return "accepted"


def check_refusal(error: BenchError) -> None:
    """A line a mistake, and nothing that commands a terminal."""
    lines = str(error).split("\n")
    assert isinstance(error, MatrixError)
    assert len(lines) == 1 + len(error.mistakes)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", "".join(lines))


def check_matrix(matrix: Matrix, file: Path) -> None:
    """Distinct cells, bounded in time, with harmless names, from a file that fits the schema."""
    specs = [cell.spec for cell in matrix.cells]
    assert 0 < len({spec.run_id for spec in specs}) == len(specs)
    assert all(math.isfinite(cell.limits.timeout_s) for cell in matrix.cells)
    names = {matrix.name, *(name for s in specs for name in (s.model.name, s.optimizer.name))}
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) for name in names)


def check_schema(file: Path) -> None:
    """The forms and the schema accept the same, but for what a schema cannot tell."""
    try:
        document = read_yaml(file)
    except MatrixError:
        return
    wrong = [what for _, what in validated(document.data)[1]]
    if not list(EDITOR.iter_errors(document.data)):
        assert all(BEYOND_A_SCHEMA.search(what) for what in wrong), wrong
    else:
        assert wrong


@pytest.mark.parametrize("examples", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_any_file_loads_or_is_refused_and_what_loads_fits_the_schema(tmp_path, examples):
    file, seen = tmp_path / "any.yaml", Counter()

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(content=FILES)
    def check(content: bytes) -> None:
        file.unlink(missing_ok=True)  # quicker: ext4 flushes a file that is truncated and rewritten
        file.write_bytes(content)
        seen[load_any(file)] += 1
        check_schema(file)

    check()
    assert seen.total() >= examples
    assert min(seen["accepted"], seen["refused"]) >= examples / 10
