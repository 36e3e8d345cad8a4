#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, on one machine:
#   tests/gpu/run.sh OUT [PART...]
# Parts, those most worth knowing first, with the seconds that each takes on an H100, reckoned from
# what cells took on one (docs/gpu.md): a quarter of an hour in all.
#   tests      150   make test-gpu
#   container  130   four cells in containers, four in the all-in-one way and four as local processes
#   original   210   the published comparison's setting, four arms, seeds 1 to 3, in graphs
#   speed      100   a step beside the original's way, also compiled, and the kernels that it consists of
#   formats    155   float32, bfloat16 and TF32, two arms, seeds 1 to 3
#   large      145   tokens a second and utilisation at the shape of GPT-2, and of mixtures as large
# A part that fails or takes more than LIMIT_S seconds (300) keeps no other from running; the exit code
# is then 1. OUT receives few files: environment.txt, summary.txt, and for each part PART.tar.gz with
# its log, CSVs and result folders (publish.sh makes results/ of them). The text of cells is input.txt
# beside the README, else `pydoc`. PYTHON (python3) has torch with CUDA and this program's packages; cells
# run under it, as local processes but for `container`.
set -uo pipefail

export PYTHON=${PYTHON:-python3}
OUT=$(realpath -m "${1:?usage: tests/gpu/run.sh OUT [PART...]}")
LIMIT_S=${LIMIT_S:-300}
shift
ALL=(tests container original speed formats large)
PARTS=("$@")
((${#PARTS[@]})) || PARTS=("${ALL[@]}")
for name in "${PARTS[@]}"; do
    [[ " ${ALL[*]} " == *" $name "* ]] || { echo "no part is named $name: ${ALL[*]}" >&2; exit 2; }
done
cd "$(dirname "$0")/../.." || exit 2
mkdir -p "$OUT" || exit 2

tell() { # also to whoever finds OUT
    echo "$*" | tee -a "$OUT/summary.txt"
}

{
    date -u +%FT%TZ
    cat commit.txt 2>/dev/null || git rev-parse HEAD # the former where pack.sh made this folder
    sha256sum input.txt 2>/dev/null || echo "no input.txt: the text is pydoc"
    nvidia-smi
    "$PYTHON" -c 'import sys, torch; print(sys.version, torch.__version__, torch.version.cuda)'
} >"$OUT/environment.txt" 2>&1

WORK=$(mktemp -d) # outside OUT, which has whole files alone whatever comes
trap 'rm -rf "$WORK"' EXIT
failed=0
for name in "${PARTS[@]}"; do
    mkdir "$WORK/$name"
    cp "$OUT/environment.txt" "$WORK/$name"
    begin=$SECONDS
    echo "== $name"
    timeout --kill-after 20 "$LIMIT_S" tests/gpu/part.sh "$name" "$WORK/$name" 2>&1 | tee "$WORK/$name/log.txt"
    case ${PIPESTATUS[0]} in
    0) how=ok ;;
    124 | 137) how="ENDED after $LIMIT_S s" failed=1 ;;
    *) how=FAILED failed=1 ;;
    esac
    tar -czf "$WORK/packed" -C "$WORK" "$name" && mv "$WORK/packed" "$OUT/$name.tar.gz" || failed=1
    tell "== $name: $how, $((SECONDS - begin)) s"
done
exit "$failed"
