#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, on one machine:
#   CORPUS=input.txt tests/gpu/run.sh OUT [PART...]     PART: tests speed original formats large
# OUT receives logs, CSVs and result folders. PYTHON (python3 by default) has torch with CUDA and this
# program's packages; cells run under it as local processes. A part that fails ends with its log in
# OUT and does not keep the others from running; the exit code is then 1.
set -uo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3}
CORPUS=${CORPUS:-tinyshakespeare}
[ ! -f "$CORPUS" ] || CORPUS=$(realpath "$CORPUS") # the matrices that name it lie in OUT
OUT=$(realpath -m "${1:?usage: CORPUS=input.txt tests/gpu/run.sh OUT [PART...]}")
shift
PARTS=("${@:-}")
[[ -n ${PARTS[0]} ]] || PARTS=(tests speed original formats large)
mkdir -p "$OUT"
failed=0

matrix() { # of tests/gpu, on the corpus asked for
    sed "s|CORPUS|$CORPUS|" "tests/gpu/$1.yaml" >"$OUT/$1.yaml"
    echo "$OUT/$1.yaml"
}

run() { # a matrix with further words, then its report
    "$PYTHON" -m bench run "$1" --runtime local --worker-python "$PYTHON" --out "$2" "${@:3}"
}

part() {
    case $1 in
    tests) REQUIRE_ALL=1 "$PYTHON" -m pytest -m gpu tests/gpu -p no:cacheprovider -W default ;;
    speed) "$PYTHON" -m tests.gpu.speed "$OUT/speed.csv" ;;
    original) run "$(matrix original)" "$OUT/h200-original" ;;
    formats)
        local name
        for name in float32 bfloat16 tf32; do
            run "$(matrix "$name")" "$OUT/$name" || return 1
        done
        ;;
    large)
        run "$(matrix large)" "$OUT/large" && run "$(matrix large-topk)" "$OUT/large-topk" &&
            "$PYTHON" -m tests.gpu.large "$OUT/large.csv" "$OUT/large" "$OUT/large-topk"
        ;;
    *)
        echo "no part is named $1: tests, speed, original, formats, large" >&2
        return 2
        ;;
    esac
}

{
    date -u +%FT%TZ
    git rev-parse HEAD 2>/dev/null
    nvidia-smi
    "$PYTHON" -c 'import sys, torch; print(sys.version, torch.__version__, torch.version.cuda)'
} >"$OUT/environment.txt" 2>&1

for name in "${PARTS[@]}"; do
    begin=$SECONDS
    echo "== $name"
    if part "$name" 2>&1 | tee "$OUT/$name.log"; then
        echo "== $name: ok, $((SECONDS - begin)) s"
    else
        echo "== $name: FAILED, $((SECONDS - begin)) s"
        failed=1
    fi
done
exit $failed
