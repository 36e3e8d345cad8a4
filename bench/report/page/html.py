"""index.html."""

from importlib import resources

import jinja2

from bench.report.page.content import Page


def html(page: Page) -> str:
    """The page as HTML; every text from a matrix or a CSV is escaped."""
    source = resources.files("bench.report.page").joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(source).render(page=page)
