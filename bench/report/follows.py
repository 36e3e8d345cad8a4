"""A published report beside the one that its CSVs give: what differs, and what cannot be compared.

Pictures differ with the fonts and the drawing of a machine, so that their bytes tell nothing.
"""

import base64
import hashlib
import re
import zlib
from itertools import zip_longest
from pathlib import Path

import pyarrow.parquet

PAGE, ROWS = "index.html", "runs.parquet"
PICTURES = (".png", ".svg")

# A picture on the page, embedded or, where the page holds no more of them, linked: which of the two
# depends on the sizes of all. Its alternative text is compared.
FIGURE = re.compile(
    r'<div class="picture"><img src="data:image/png;base64,[A-Za-z0-9+/=]*" alt="([^"]*)"></div>'
    r'|<p><a href="[a-z_]+(?:-\d+)?\.png" title="([^"]*)">[a-z_]+(?:-\d+)?\.png</a> lies beside'
    r" this page, which holds no more pictures\.</p>"
)
# The packed script of the curves: zlib's versions pack the same script into other bytes.
LIBRARY = re.compile(r'<script type="text/plain" id="plotly">([A-Za-z0-9+/=]*)</script>')
MOST_LIBRARY = 64 * 2**20  # bytes, unpacked

AROUND, MOST_SHOWN = 30, 80  # characters before a difference, and of what is shown in all


def compare_reports(published: Path, rebuilt: Path) -> tuple[dict[str, str], list[str]]:
    """(file -> how it differs, files that were not compared), by their names in the folder.

    Not compared are pictures, and what no report has.
    """
    wrong, unchecked = {}, []
    made = sorted(path.name for path in rebuilt.iterdir())
    for name in made:
        if not (published / name).is_file():
            wrong[name] = "is not there"
        elif name.endswith(PICTURES):
            unchecked.append(name)
        elif why := _difference(published / name, rebuilt / name):
            wrong[name] = why
    there = (path for path in sorted(published.rglob("*")) if path.is_file())
    names = (path.relative_to(published).as_posix() for path in there)
    return wrong, unchecked + [name for name in names if name not in made]


def _difference(published: Path, rebuilt: Path) -> str:
    if published.name == ROWS:
        return _compare_rows(published, rebuilt)
    if published.name == PAGE:
        return _in_words(*(_without_pictures(_text(path)) for path in (published, rebuilt)))
    return compare_texts(published, rebuilt.read_bytes())


def compare_texts(published: Path, rebuilt: bytes) -> str:
    """How a text file differs from what the CSVs give; empty if it is the same byte for byte."""
    if not published.is_file():
        return "is not there"
    return _in_words(_text(published), rebuilt.decode("utf-8", "backslashreplace"))


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "backslashreplace")


def _without_pictures(page: str) -> str:
    """A page with words in place of pictures, and a hash in place of the packed script."""
    page = FIGURE.sub(lambda found: f"[picture: {found[1] or found[2] or ''}]", page)
    return LIBRARY.sub(lambda found: f"[script: {_unpacked_sha256(found[1])}]", page)


def _unpacked_sha256(packed: str) -> str:
    try:
        content = zlib.decompressobj(wbits=31).decompress(base64.b64decode(packed), MOST_LIBRARY)
    except (ValueError, zlib.error):
        return "none"
    return hashlib.sha256(content).hexdigest()


def _in_words(published: str, rebuilt: str) -> str:
    """The first line of two texts that differs, and its first field that does."""
    if published == rebuilt:
        return ""
    lines = zip_longest(*(text.split("\n") for text in (published, rebuilt)), fillvalue="")
    number, pair = next((n, pair) for n, pair in enumerate(lines, start=1) if pair[0] != pair[1])
    fields = zip_longest(*(re.split("[,|]", line) for line in pair), fillvalue="")
    was, now = next(pair for pair in fields if pair[0] != pair[1])
    signs = enumerate(zip_longest(was, now))
    alike = next(place for place, (one, other) in signs if one != other)
    start = max(0, alike - AROUND) if max(len(was), len(now)) > MOST_SHOWN else 0
    was, now = (text[start : start + MOST_SHOWN].strip() for text in (was, now))
    return f"does not follow from the CSVs: line {number} says {was!r}, the CSVs {now!r}"


def _compare_rows(published: Path, rebuilt: Path) -> str:
    """By content: another version of pyarrow writes the same rows as other bytes."""
    if published.read_bytes() == rebuilt.read_bytes():
        return ""
    told = "does not follow from the CSVs: "
    expected = pyarrow.parquet.ParquetFile(rebuilt).read()
    try:
        file = pyarrow.parquet.ParquetFile(published)
        shape = (file.metadata.num_rows, file.schema_arrow.names)
        if shape != (expected.num_rows, expected.column_names):
            return f"{told}it has other rows or columns"
        found = file.read()
        for name in expected.column_names:
            pairs = zip(found[name].to_pylist(), expected[name].to_pylist(), strict=True)
            for number, (was, now) in enumerate(pairs, start=1):
                if was != now:
                    return f"{told}row {number}, column {name} says {was!r:.80}, the CSVs {now!r}"
    except Exception as error:  # a stranger's file may break anything: that is a finding on it
        return f"cannot be read ({type(error).__name__})"
    return ""
