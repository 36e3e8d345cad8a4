"""train.py runs it in its own namespace: `FILE.py` holds settings, `--key=value` is one."""

import sys
from ast import literal_eval
from pathlib import Path

for arg in sys.argv[1:]:
    if not arg.startswith("--"):
        print(f"Overriding config with {arg}:")
        exec(Path(arg).read_text())
        continue
    key, _, value = arg[2:].partition("=")
    if key not in globals():
        raise ValueError(f"Unknown config key: {key}")
    try:
        attempt = literal_eval(value)
    except (SyntaxError, ValueError):
        attempt = value
    assert type(attempt) is type(globals()[key]), f"{key}={value!r}"
    print(f"Overriding: {key} = {attempt}")
    globals()[key] = attempt
