"""The bundles of a site that is already published, by its index: fetched and checked."""

import hashlib
import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bench.errors import BundleError, RequestError
from bench.report.archive import CHUNK, MOST_BYTES, shown
from bench.report.bundle import SHA256
from bench.report.site.shelf import MOST_SITE_BYTES, NAME
from bench.report.site.trend import MOST_BUNDLES

INDEX, SCHEMA = "index.json", "bench-site/1"
SHELF = "bundles"
MOST_INDEX_BYTES = 64 * 2**20
TIMEOUT_S = 60  # without a byte
MISSING = (404, 410)  # what a server says of a page that is not there


class PreviousSite:
    """A published site, at an address or in a folder."""

    def __init__(self, where: str) -> None:
        """Raises RequestError for an address of another kind."""
        self.where = where.removesuffix(INDEX).removesuffix("index.html").rstrip("/")
        self.folder: Path | None = None
        address = urllib.parse.urlsplit(self.where)
        if "://" not in where:
            self.folder = Path(self.where or "/")
        elif address.scheme == "file" and address.netloc in ("", "localhost"):
            self.folder = Path(urllib.request.url2pathname(address.path))
        elif address.scheme not in ("http", "https") or not address.netloc:
            raise RequestError(
                f"--previous {shown(where)}: no address that can be read. Give https://..., "
                "http://..., file:///... or a folder."
            )

    def stated(self) -> dict[str, str] | None:
        """Name -> SHA-256 of its newest bundles; None: there is no such site yet.

        Raises:
            BundleError: for an index that cannot be read: what it names would be lost.
        """
        try:
            with self._open(INDEX, fresh=True) as source:
                content = source.read(MOST_INDEX_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(content) > MOST_INDEX_BYTES:
            raise BundleError(f"{self.where}/{INDEX} is larger than {MOST_INDEX_BYTES >> 20} MiB.")
        try:
            index = json.loads(content)
            schema = index["schema"]
            stated = {entry["file"]: entry["sha256"] for entry in index["bundles"]}
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise BundleError(f"{self.where}/{INDEX} is no index of a site.") from error
        if schema != SCHEMA:
            raise BundleError(
                f"{self.where}/{INDEX} is of the schema {shown(str(schema))}, and this program "
                f"reads {SCHEMA}. Publish with the version that made it."
            )
        return self._checked(stated)

    def _checked(self, stated: dict[object, object]) -> dict[str, str]:
        """A stranger's texts: a name is no path before it has been looked at."""
        found = {}
        for name, sha256 in stated.items():
            if not (isinstance(name, str) and NAME.fullmatch(name)):
                raise BundleError(
                    f"{self.where}/{INDEX} names {shown(str(name)):.80}, no name of a bundle."
                )
            if not (isinstance(sha256, str) and re.fullmatch(SHA256, sha256)):
                raise BundleError(f"{self.where}/{INDEX} states no SHA-256 of {name}.")
            found[name] = sha256
        return dict(sorted(found.items())[-MOST_BUNDLES:])

    def fetch(self, stated: dict[str, str], place: Path) -> dict[str, Path]:
        """Name -> file, each with the SHA-256 that is stated.

        Raises:
            BundleError: for one that is missing, too large, or another file.
        """
        place.mkdir(parents=True)
        room = MOST_SITE_BYTES + MOST_BYTES  # all but the newest are within the first
        found = {}
        for name, sha256 in stated.items():
            found[name] = place / name
            room -= self._fetch(name, sha256, found[name], room)
        return found

    def _fetch(self, name: str, sha256: str, target: Path, most: int) -> int:
        total, size = hashlib.sha256(), 0
        try:
            with self._open(f"{SHELF}/{name}") as source, target.open("xb") as out:
                while data := source.read(CHUNK):
                    size += len(data)
                    if size > most:
                        raise BundleError(f"{self.where}/{SHELF}/{name} is too large for a site.")
                    total.update(data)
                    out.write(data)
        except FileNotFoundError as error:
            raise BundleError(
                f"{self.where}/{SHELF}/{name} is not there, and {INDEX} names it."
            ) from error
        if total.hexdigest() != sha256:
            raise BundleError(
                f"{self.where}/{SHELF}/{name} is not the file whose SHA-256 {INDEX} states."
            )
        return size

    @contextmanager
    def _open(self, name: str, fresh: bool = False) -> Iterator[IO[bytes]]:
        """A file of the site; `fresh`: not as a cache has it, where bundles of today are missing.

        Raises FileNotFoundError for what is not there, BundleError for what cannot be read.
        """
        try:
            if self.folder:
                with (self.folder / name).open("rb") as source:
                    yield source
            else:
                address = f"{self.where}/{name}" + (f"?{time.time_ns()}" if fresh else "")
                request = urllib.request.Request(address, headers={"Cache-Control": "no-cache"})
                with urllib.request.urlopen(request, timeout=TIMEOUT_S) as source:
                    yield source
        except FileNotFoundError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code in MISSING:
                error.close()
                raise FileNotFoundError(name) from error
            raise BundleError(f"{self.where}/{name} cannot be read: {error}.") from error
