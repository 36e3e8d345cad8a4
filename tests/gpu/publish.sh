#!/usr/bin/env bash
# From what run.sh left, in one call or several, to published results: tests/gpu/publish.sh FOLDER NAME
#   results/NAME-original  rows, curves and report of the published comparison's setting
#   results/NAME-speed     steps and kernels, cells in containers beside local ones, three formats, large
#                          shapes, and a report of all of their rows
# FOLDER has environment.txt and the parts' tar.gz files. What is not among them is left out, and said.
# The page that says what came out, README.md, is written by hand; tests/house/test_results.py holds its
# tables of arms to the rows, and the reports to their CSVs.
set -euo pipefail

FROM=$(realpath "${1:?usage: tests/gpu/publish.sh FOLDER NAME}")
NAME=${2:?usage: tests/gpu/publish.sh FOLDER NAME, for example gpu-results h100}
PYTHON=${PYTHON:-.venv/bin/python}
cd "$(dirname "$0")/../.."

UNPACKED=$(mktemp -d)
trap 'rm -rf "$UNPACKED"' EXIT
for part in "$FROM"/*.tar.gz; do
    tar -xzf "$part" -C "$UNPACKED"
done

place() { # SOURCE FOLDER: a file, or all of a folder but what begins with a dot
    if [[ ! -e $UNPACKED/$1 ]]; then
        echo "publish: no $1 in $FROM: left out"
    elif [[ -d $UNPACKED/$1 ]]; then
        mkdir -p "$2" && cp -r "$UNPACKED/$1"/* "$2"
    else
        cp "$UNPACKED/$1" "$2"
    fi
}

original=results/$NAME-original speed=results/$NAME-speed
mkdir -p "$original" "$speed"
place original/original-gpu "$original"
for file in speed/speed.csv speed/kernels.txt container/places.csv large/large.csv; do
    place "$file" "$speed"
done
for cells in formats/float32 formats/bfloat16 formats/tf32 large/large large/large-topk; do
    place "$cells" "$speed/${cells##*/}"
done
for folder in "$original" "$speed"; do
    cp "$FROM/environment.txt" "$folder"
    mapfile -t rows < <(find "$folder" -maxdepth 2 -name runs.csv -printf '%h\n' | LC_ALL=C sort)
    ((${#rows[@]} == 0)) || "$PYTHON" -m bench report "${rows[@]}" --out "$folder/report"
done
