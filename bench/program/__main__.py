"""python -m bench.program CELL CODE [NAME=PATH...]: a program, from spec.json to result.json.

CELL is the attempt's folder. CODE holds the files of the program. Data are
found at data/NAME where it runs. Where CELL holds a check.json, {"seconds": S}, the program runs
only until every pattern has read a line, or that long.
"""

import time

STARTED = time.monotonic()  # before anything else is imported

import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from bench.border.identity import program_code_sha256  # noqa: E402
from bench.border.program import read_spec  # noqa: E402
from bench.program.cell import ProgramCell  # noqa: E402
from bench.program.check import check  # noqa: E402
from bench.program.child import Child  # noqa: E402
from bench.program.workspace import Workspace  # noqa: E402
from bench.worker.protocol import Speaker  # noqa: E402


def main() -> int:
    program_code_sha256()  # now, of the files that were just imported; it is remembered
    child = Child()  # from here on SIGTERM is heard
    folder, code = Path(sys.argv[1]), Path(sys.argv[2])
    data = {name: Path(path) for name, _, path in (text.partition("=") for text in sys.argv[3:])}
    workspace = Workspace(folder, code, data)
    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    program = read_spec(spec, str(workspace.out))
    cell = ProgramCell(folder, spec, program, workspace, child, Speaker())
    asked = folder / "check.json"
    if asked.exists():
        return check(cell, json.loads(asked.read_text(encoding="utf-8"))["seconds"])
    return cell.run(STARTED)


if __name__ == "__main__":
    sys.exit(main())
