"""Chromium, for pages as a person sees them.

A pytest plugin: a test module says `pytest_plugins = "tests.builders.browser"` and takes `browser`.
"""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.builders.shared import without


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        without("playwright is not installed")
    if path is None:
        without("no Chromium is installed")
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()
