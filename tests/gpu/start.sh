#!/usr/bin/env bash
# Runs a command where pack.sh's file was unpacked, with this program and its packages on the path:
#   bench-gpu/start.sh COMMAND...
# PYTHON (python3) has torch with CUDA, numpy, and for reports pandas, pyarrow, scipy and matplotlib.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
export PYTHON=${PYTHON:-python3}

fail() {
    echo "start: $*" >&2
    exit 2
}

(($#)) || fail "usage: $0 COMMAND..., for example $0 $HERE/code/tests/gpu/run.sh OUT"
packed=$(cat "$HERE/python.txt")
found=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "$PYTHON does not start"
[[ $found == "$packed" ]] || fail "$PYTHON is Python $found, and the wheels here are for $packed." \
    "Set PYTHON to one that is, or pack anew with PYTHON_VERSION=$found"

if [[ ! -d $HERE/packages ]]; then # a wheel is a zip file: no pip is needed
    rm -rf "$HERE/packages.new" && mkdir "$HERE/packages.new"
    for wheel in "$HERE"/wheels/*.whl; do
        "$PYTHON" -m zipfile -e "$wheel" "$HERE/packages.new"
    done
    mv "$HERE/packages.new" "$HERE/packages" # whole, or not there
fi

# A podman of the machine's own comes first.
[[ ! -d $HERE/engine ]] || export PATH=$PATH:$HERE/engine
export PYTHONPATH=$HERE/code:$HERE/packages${PYTHONPATH:+:$PYTHONPATH}
exec "$@"
