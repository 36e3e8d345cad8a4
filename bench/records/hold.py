"""Who may write into a results folder: two runners never both commit, whatever hosts they are on.

A lock (flock) tells exactly who holds a folder on one host, and is gone with its process. On many
network file systems it holds for that host alone. So a holder has a folder of its own there too,
in which it gives signs of life. A newcomer of another host watches them. If they end, it removes
that folder, and holds the results from then on.

What is committed is written whole in the holder's own folder, and moved out of it. Where that was
removed there is nothing to move: however late its holder wakes up, it commits nothing any more. So
nothing depends on the moment at which it looked. mkdir, rename and rmdir are enough for that: they
are atomic on network file systems as well, also on those without locks and hard links. No times of
two hosts are compared, and none of files.

    .holder/now/ID/     the holder's own; it goes as the holder ends, or is taken over from
        who             in words
        beat            a number that grows
    .holder/rows/       rows that are committed, until they are in runs.csv
    .holder/taken/ID    in words, who took over from that holder
"""

import contextlib
import errno
import fcntl
import itertools
import os
import platform
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.border.atomic import fsync_folder, replacing
from bench.errors import FolderError, StoppedError

BEAT_S = 5.0  # between two signs of life
POLL_S = 1.0  # between two looks for one
# So long without one, and a holder counts as gone. NFS may show a file's old content for a minute
# (acregmax), and its servers take away the locks of a client that is silent for 90 s (their lease).
SILENT_S = 90.0
REMOVALS = 100  # of a folder into which somebody still writes; each takes a moment

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what a file system without them says
GONE = (errno.ENOENT, errno.ESTALE)  # ESTALE: by NFS, of what another client removed
OTHERS = (errno.EEXIST, errno.ENOTEMPTY)  # of a rename onto a folder that holds something


def boot_id() -> str:
    """The kernel that runs here, by a number drawn as it started; containers share it."""
    return BOOT_ID.read_text(encoding="utf-8").strip()


def lock_file(folder: Path) -> Path:
    return folder / ".lock"


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True


@dataclass(frozen=True)
class Newcomer:
    """What somebody does while another holds the folder that he wants."""

    waits: bool = False  # for as long as the other lives; else that is an error
    say: Callable[[str], object] = lambda line: None
    pause: Callable[[float], bool] = _sleep  # for so many seconds; False: he gives up


class Hold:
    """A results folder, held by this process from `take` until `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = False  # seen to be taken over by another
        home = path / ".holder"
        self._rows, self._now, self._taken = home / "rows", home / "now", home / "taken"
        self._boot_id = boot_id()
        self._own = self._now / f"{self._boot_id}_{uuid.uuid4().hex}"
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        self._who = f"process {os.getpid()} on {platform.node()}, {since}"
        self._numbers = itertools.count(1)  # of rows
        self._lock: int | None = None
        self._told = ""
        self._silent: list[str] = []  # the holders that were taken over from
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)

    def take(self, newcomer: Newcomer) -> None:
        """Hold the folder, which is there.

        Raises:
            FolderError: if somebody else does, who lives, and the newcomer does not wait.
            StoppedError: if he gave up.
            OSError: if it cannot be written.
        """
        for place in (self._rows, self._taken):
            place.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(lock_file(self.path), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            exact = self._locked(newcomer)
            while True:
                if (other := self._other()) is not None:
                    self._pass(other, exact, newcomer)
                elif self._claimed(exact):
                    break
            for name in self._silent:
                self.put(self._taken / name, self._who)
        except BaseException:
            shutil.rmtree(self._own, ignore_errors=True)
            os.close(self._lock)
            raise
        self._beating.start()

    def _locked(self, newcomer: Newcomer) -> bool:
        """Wait for the lock; False: this file system has none, and signs of life alone tell."""
        assert self._lock is not None
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                self._meet(self._other(), newcomer)
                self._pause(POLL_S, newcomer)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                return False

    def _other(self) -> Path | None:
        """Whose own folder is there now."""
        try:
            return next(self._now.iterdir(), None)
        except FileNotFoundError:
            return None

    def _claimed(self, exact: bool) -> bool:
        """Put a folder of one's own there, unless another was faster: onto nothing, or nobody's."""
        home = self._now.parent
        if exact:  # nobody else of this host is at it: these are of killed processes
            for left in home.glob(f"new-{self._boot_id}_*"):
                shutil.rmtree(left)
        new = home / f"new-{self._own.name}"
        place = new / self._own.name
        place.mkdir(parents=True)
        (place / "who").write_text(self._who, encoding="utf-8")
        (place / "beat").write_text("0", encoding="utf-8")
        try:
            new.rename(self._now)
        except OSError as error:
            shutil.rmtree(new)
            if error.errno not in OTHERS:
                raise
            return False
        return True

    def _pass(self, other: Path, exact: bool, newcomer: Newcomer) -> None:
        """Until another holder is gone: one whose process is dead, who ends, or falls silent."""
        # The lock of this host was free, so that a process of this host that held it is dead.
        if not (exact and other.name.startswith(f"{self._boot_id}_")):
            who = _text(other / "who") or "another process"
            newcomer.say(f"{self.path} has a mark of {who}: looking for a sign of life")
            if not self._falls_silent(other, newcomer):
                return
            self._silent.append(other.name)
            newcomer.say(f"none for {SILENT_S:g} s: {self.path} is taken over from it")
        self._remove(other)

    def _falls_silent(self, other: Path, newcomer: Newcomer) -> bool:
        """Watch for signs of life; False: it has ended meanwhile."""
        beat, silent_s, looked = _text(other / "beat"), 0.0, time.monotonic()
        while silent_s < SILENT_S:
            self._pause(POLL_S, newcomer)
            latest = _text(other / "beat")
            if self._other() != other:
                return False
            now = time.monotonic()
            # A file system that hung kept us from the signs, and the other from giving them; so
            # does a suspended host: of such a time no more than a pause counts.
            silent_s += min(now - looked, 2 * POLL_S)
            looked = now
            if latest and latest != beat:
                beat, silent_s = latest, 0.0
                self._meet(other, newcomer)
        return True

    def _meet(self, other: Path | None, newcomer: Newcomer) -> None:
        """Of somebody who lives: tell once, or refuse."""
        who = (_text(other / "who") if other else "") or "another process"
        if not newcomer.waits:
            raise FolderError(
                f"{self.path} is in use by {who}. Wait for it (`run --wait-for-folder`), stop it, "
                "or give another --out."
            )
        if self._told != who:
            self._told = who
            newcomer.say(f"waiting for {who}, who uses {self.path}")

    def _pause(self, seconds: float, newcomer: Newcomer) -> None:
        if not newcomer.pause(seconds):
            raise StoppedError(f"stopped while waiting for {self.path}; nothing was run")

    def _remove(self, place: Path) -> None:
        """A holder's own folder, into which it may still be writing: from then on it cannot."""
        for _ in range(REMOVALS):
            try:
                shutil.rmtree(place)
            except OSError as error:
                if error.errno not in (*GONE, errno.ENOTEMPTY):
                    raise
            if not place.exists():
                with contextlib.suppress(OSError):  # it is another's by now
                    self._now.rmdir()
                return
        raise FolderError(
            f"{place} cannot be removed: somebody keeps writing there. Stop the process that "
            "`who` in it names."
        )

    def _beat(self) -> None:
        for number in itertools.count(1):
            if self._ended.wait(BEAT_S):
                return
            try:
                (self._own / "beat").write_text(str(number), encoding="utf-8")
            except OSError as error:  # a full disk is no end: others may see silence in it
                if error.errno in GONE:
                    self.lost = True
                    return

    def check(self) -> None:
        """Look whether this process still holds the folder.

        Raises:
            FolderError: if another has taken over; who that was.
            OSError: if that cannot be seen.
        """
        try:
            (self._own / "who").open("rb").close()  # not stat: NFS asks its server as files open
        except OSError as error:
            raise self._as_loss(error) from error

    def _as_loss(self, error: OSError) -> OSError | FolderError:
        if error.errno not in GONE:
            return error
        self.lost = True
        return self.loss()

    def loss(self) -> FolderError:
        other = self._other()
        by = _text(self._taken / self._own.name) or (_text(other / "who") if other else "")
        if not by:
            return FolderError(
                f"{self.path} is no longer held by this process: somebody has removed {self._own}. "
                "Nothing more is committed. See what is there, and run again."
            )
        return FolderError(
            f"{self.path} was taken over by {by}, since this process had given no sign of life for "
            f"{SILENT_S:g} s. Nothing more of this one is committed: the other goes on with it."
        )

    def put(self, path: Path, content: str) -> None:
        """Replace a file by content, whole and on the disk on return, if this process holds it.

        Raises:
            FolderError: if another has taken over; the file stays what it is.
            OSError: if the disk does not take it.
        """
        try:
            with replacing(self._own / path.name, lambda: path) as file:
                file.write(content.encode("utf-8"))
            fsync_folder(path.parent)
        except OSError as error:
            raise self._as_loss(error) from error

    def publish(self, content: str) -> Path:
        """Commit rows, as a table of their own: whoever holds the folder next finds them there.

        That takes no fsync: a power cut may leave a part of it, which is no row.

        Raises as `put`; then there is nothing to be found.
        """
        place = self._rows / f"{self._own.name}-{next(self._numbers)}.csv"
        made = self._own / "rows.csv"
        try:
            made.write_text(content, encoding="utf-8")
            made.rename(place)
        except OSError as error:
            raise self._as_loss(error) from error
        return place

    def published(self) -> list[Path]:
        """What is committed and may not be in runs.csv: of holders that ended in between."""
        return sorted(self._rows.glob("*.csv"))

    def release(self) -> None:
        """End well: the next one needs not wait."""
        self._ended.set()
        self._beating.join()
        try:
            self._remove(self._own)
            (self._taken / self._own.name).unlink(missing_ok=True)  # it has been told
        except (OSError, FolderError):  # a disk that is read-only by now
            pass
        finally:
            assert self._lock is not None
            os.close(self._lock)


def _text(path: Path) -> str:
    """What a file says; empty if it is not there, or only just being written."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        if error.errno not in GONE:
            raise
        return ""
