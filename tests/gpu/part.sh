#!/usr/bin/env bash
# One part of run.sh, which knows what PYTHON means: tests/gpu/part.sh PART FOLDER
# What comes after a command that failed is done all the same; the exit code is then 1.
set -uo pipefail
trap 'exit 1' TERM # and so wait for what runs: run.sh then ends all
INTO=$2
failed=0

try() {
    "$@" || failed=1
}

run() { # a matrix of tests/gpu, into a folder of its name
    try "$PYTHON" -m bench run "tests/gpu/$1.yaml" --runtime local --worker-python "$PYTHON" --out "$INTO/$1"
}

case $1 in
tests) REQUIRE_ALL=1 try "$PYTHON" -m pytest -m gpu tests/gpu -p no:cacheprovider -W default --durations 15 ;;
container) try tests/gpu/container.sh "$INTO" ;;
original) run original-gpu ;;
speed)
    try "$PYTHON" -m tests.gpu.speed "$INTO/speed.csv"
    try "$PYTHON" -m tests.gpu.kernels >"$INTO/kernels.txt"
    ;;
formats) for name in float32 bfloat16 tf32; do run "$name"; done ;;
large)
    for name in large large-topk; do run "$name"; done
    try "$PYTHON" -m tests.gpu.large "$INTO/large.csv" "$INTO/large" "$INTO/large-topk"
    ;;
esac
exit "$failed"
