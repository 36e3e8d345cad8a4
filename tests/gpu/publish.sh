#!/usr/bin/env bash
# From what run.sh left, in one call or several, to published results: tests/gpu/publish.sh FOLDER NAME
#   results/NAME-original  rows, curves and report of the published comparison's setting
#   results/NAME-speed     steps and kernels, cells in containers beside local ones, three formats, large
#                          shapes, and a report of all of their rows
# FOLDER has the parts' tar.gz files of all calls; what is not among them is left out, and said. NAME is
# the GPU's: h100, or another that .gitignore lets in. Beside each part lies the environment that it ran
# in. The page that says what came out, README.md, is written by hand; tests/house/test_results.py holds
# its tables of arms to the rows, and the reports to their CSVs.
set -euo pipefail

FROM=$(realpath "${1:?usage: tests/gpu/publish.sh FOLDER NAME}")
NAME=${2:?usage: tests/gpu/publish.sh FOLDER NAME, for example gpu-results h100}
PYTHON=${PYTHON:-.venv/bin/python}
cd "$(dirname "$0")/../.."
[[ $NAME == h[12]00* ]] || { echo "publish: .gitignore keeps results/$NAME-* out: change both" >&2; exit 2; }

UNPACKED=$(mktemp -d)
trap 'rm -rf "$UNPACKED"' EXIT
for part in "$FROM"/*.tar.gz; do
    tar -xzf "$part" -C "$UNPACKED"
done

place() { # SOURCE FOLDER: a file, or all of a folder but what begins with a dot, and the environment
    local part=${1%%/*}
    if [[ ! -e $UNPACKED/$1 ]]; then
        echo "publish: no $1 in $FROM: left out"
        return
    fi
    mkdir -p "$2"
    if [[ -d $UNPACKED/$1 ]]; then cp -r "$UNPACKED/$1"/* "$2"; else cp "$UNPACKED/$1" "$2"; fi
    cp "$UNPACKED/$part/environment.txt" "$2"
}

original=results/$NAME-original speed=results/$NAME-speed
place original/original-gpu "$original"
for each in speed/speed.csv speed/kernels.txt; do place "$each" "$speed"; done
place container/places.csv "$speed/container"
for name in float32 bfloat16 tf32; do place "formats/$name" "$speed/$name"; done
for name in large large-topk; do place "large/$name" "$speed/$name"; done
place large/large.csv "$speed/large"
for folder in "$original" "$speed"; do
    [[ -d $folder ]] || continue
    mapfile -t rows < <(find "$folder" -maxdepth 2 -name runs.csv -printf '%h\n' | LC_ALL=C sort)
    ((${#rows[@]} == 0)) || "$PYTHON" -m bench report "${rows[@]}" --out "$folder/report"
done
