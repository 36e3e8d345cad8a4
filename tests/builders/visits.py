"""A page in a real browser: what a reader sees and does, without a network."""

import os
import re
from pathlib import Path

from tests.builders.shared import ROOT

ARTIFACTS = Path(os.environ.get("BENCH_ARTIFACTS", ROOT / "tests" / "artifacts"))
WIDTHS = {1280: 900, 390: 844}  # of a laptop and of a phone: pixels, and how high they are
PATIENCE_MS = 60_000  # a test waits that long only if the page is broken
DRAWN = ".plot .main-svg"

TRACES = """
    document.querySelector('.plot').data.map(
        ({meta, name, visible, x}) => ({arm: meta, name, visible, last: x[x.length - 1]}))
"""


class Visit:
    """An open page, with all that it asked for and complained of."""

    def __init__(self, browser, file: Path, anchor="", width=1280, **options) -> None:
        size = {"width": width, "height": WIDTHS[width]}
        self.context = browser.new_context(viewport=size, **options)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.context.route(re.compile("^(https?|wss?|ftp):"), lambda route: route.abort())
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.uri = file.as_uri()
        self.page.goto(self.uri + anchor)

    def draw(self) -> None:
        """Go to the curves and wait until they are there."""
        self.page.locator(".curves").first.scroll_into_view_if_needed()
        self.page.wait_for_selector(DRAWN)

    def traces(self):
        return self.page.evaluate(TRACES)

    def block(self, caption: str):
        """A table's part of the page."""
        return self.page.locator(".block", has=self.page.get_by_role("heading", name=caption))

    def arm(self, name: str):
        """The switch of an arm."""
        return self.page.get_by_role("checkbox", name=name, exact=True)

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
