"""Results for readers elsewhere: a site of bundles."""

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.common import err, needing_extra, out


def site(
    folder: Annotated[Path, typer.Argument(help="the site's folder", metavar="OUT")],
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(help="files that `bundle` has written, to be put in", metavar="[BUNDLE...]"),
    ] = None,
    previous: Annotated[
        str | None,
        typer.Option(help="the site as it is published: its bundles stay", metavar="URL|DIR"),
    ] = None,
    repository: Annotated[
        str, typer.Option(help="where commits are: URL/commit/HASH", metavar="URL")
    ] = "",
) -> None:
    """Make a site of bundles: an index, each one's report, and what changed between them."""
    with needing_extra("the site"):
        from bench.report.site.build import build_site
    made = build_site(folder, bundles or [], previous, repository, err.print)
    out.print("\n".join([made.lead, *made.changes]), soft_wrap=True)
    out.print(f"site: {made.page}")
