"""The program as if on a host of its own, one of several that share a folder on a network.

    python tests/builders/as_host.py HOST SILENT_S run MATRIX ...

in a folder that has `bench`. Its locks hold on that host alone; another host counts as gone after
SILENT_S seconds.
"""

import os
import sys
from types import SimpleNamespace


def main() -> None:
    host, silent_s, *arguments = sys.argv[1:]
    sys.path.insert(0, os.getcwd())
    from bench import cli
    from bench.records import hold

    hold.boot_id = lambda: host
    hold.lock_file = lambda folder: folder / f".lock-{host}"
    hold.platform = SimpleNamespace(node=lambda: host)  # type: ignore[assignment]
    hold.SILENT_S, hold.BEAT_S, hold.POLL_S = float(silent_s), 0.1, 0.1
    sys.argv = ["bench", *arguments]
    cli.main()


if __name__ == "__main__":
    main()
