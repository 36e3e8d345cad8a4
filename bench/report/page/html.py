"""index.html: one file with everything in it, which opens from disk without a network."""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from importlib import resources

import jinja2
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from bench.report.page.content import Page

# Of all pictures on one page, in bytes as they stand in it. With what else a page has, this keeps
# it below 5 MB; the pictures of further sections are linked instead.
MOST_PICTURES = 2_500_000

SCRIPTS = ("tables.js", "cells.js", "curves.js")
STYLE = "page.css"

# What of JSON could end the script element that holds it, or be taken for a comment.
JSON_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def html(page: Page) -> str:
    """The page as HTML; every text from a matrix or a CSV is escaped."""
    has_curves = any(section.curves for section in page.sections)
    scripts = [own(name) for name in SCRIPTS]
    template = environment().from_string(own("page.html"))
    return template.render(
        page=page,
        inlined=dict(inlined(page)),
        json=as_json,
        style=own(STYLE),
        scripts=scripts,
        library=_packed_plotly() if has_curves else "",
        policy=_policy([*scripts, get_plotlyjs()] if has_curves else scripts),
    )


def environment() -> jinja2.Environment:
    """For templates that escape every text."""
    return jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def as_json(data: object) -> str:
    """JSON that a script element can hold as it is, whatever names are in it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(JSON_ESCAPES)


def inlined(page: Page) -> Iterator[tuple[str, str]]:
    """File -> data URI of the pictures that the page holds: the first ones, as far as they fit."""
    room = MOST_PICTURES
    for picture in (picture for section in page.sections for picture in section.pictures):
        uri = "data:image/png;base64," + base64.b64encode(picture.files.png).decode()
        room -= len(uri)
        if room < 0:
            return
        yield picture.file, uri


@cache
def own(name: str) -> str:
    """A template, a style or a script of this room, as text."""
    return resources.files("bench.report.page").joinpath(name).read_text(encoding="utf-8")


@cache
def _packed_plotly() -> str:
    """Its script as text of 2 MB instead of 5, the same whenever it is packed."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _policy(scripts: list[str]) -> str:
    """Nothing is loaded from anywhere, and no script runs but these.

    Plotly sets style attributes as it draws.
    """
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src 'unsafe-inline'; script-src {hashes}"
    )


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
