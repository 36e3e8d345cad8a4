#!/usr/bin/env bash
# What a machine with a GPU and without a network needs, as one file:
#   tests/gpu/pack.sh [FILE]      build/bench-gpu.tar.xz where none is given
# The code of the last commit, wheels for its Python (PYTHON_VERSION, 3.12; Linux on x86_64), the text
# (CORPUS; else input.txt, or tinyshakespeare from the cache; without any, cells there read `pydoc`), this
# machine's podman, if it has one (ENGINE=none leaves it out), and start.sh, which runs a command with
# all of this. The last line says what to type there. That machine has torch with CUDA and numpy, and for
# reports pandas, pyarrow, scipy and matplotlib; PYTHON (python3) is whose pip fetches the rest, at the
# pins of constraints.txt.
set -euo pipefail

PYTHON=${PYTHON:-python3}
PYTHON_VERSION=${PYTHON_VERSION:-3.12}
MOST_MIB=30 # with the repository beside it, what one upload to such a machine takes
TINYSHAKESPEARE=86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed.txt
PACKAGES=(
    # plan and run, with what they need
    annotated-doc annotated-types filelock markdown-it-py mdurl nvidia-ml-py pathspec psutil pydantic
    pydantic-core pygments pyyaml rich shellingham typer typing-extensions typing-inspection
    # of the report what such machines lack
    jinja2 markupsafe narwhals plotly
    # tests
    iniconfig packaging pluggy pytest
)

fail() {
    echo "pack: $*" >&2
    exit 1
}

FILE=$(realpath -m "${1:-build/bench-gpu.tar.xz}")
[[ -z ${CORPUS:-} || -f $CORPUS ]] || fail "there is no file $CORPUS, which CORPUS names"
CORPUS=${CORPUS:-input.txt}
cache=${BENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bench}
[[ -f $CORPUS ]] || CORPUS=$cache/corpora/$TINYSHAKESPEARE
[[ ! -f $CORPUS ]] || CORPUS=$(realpath "$CORPUS")
cd "$(dirname "$0")/../.."

NEW=$(mktemp -d)
trap 'rm -rf "$NEW"' EXIT
TOP=$NEW/bench-gpu
mkdir -p "$TOP/code" "$TOP/wheels" "$(dirname "$FILE")"

git diff --quiet HEAD || echo "pack: what is not committed stays here"
git archive HEAD -- . ':!results' | tar -x -C "$TOP/code"
git rev-parse HEAD >"$TOP/code/commit.txt"
cp tests/gpu/start.sh "$TOP/start.sh"
echo "$PYTHON_VERSION" >"$TOP/python.txt"
if [[ -f $CORPUS ]]; then
    cp "$CORPUS" "$TOP/code/input.txt"
    text=$CORPUS
else
    text="pydoc, for there is no text to take along"
fi

engine="none, for no podman is here"
if [[ ${ENGINE:-} == none ]]; then
    engine="none, as asked"
elif command -v podman >/dev/null; then
    tests/gpu/pack-engine.sh "$TOP/engine"
    engine=$("$TOP/engine/podman" --version)
fi

# pip takes each platform literally.
target=(--python-version "$PYTHON_VERSION" --implementation cp --only-binary=:all: --no-deps)
for glibc in 2_28 2_17; do
    target+=(--platform "manylinux_${glibc}_x86_64")
done
target+=(--platform manylinux2014_x86_64)
"$PYTHON" -m pip download -q --disable-pip-version-check -c constraints.txt "${target[@]}" \
    --dest "$TOP/wheels" "${PACKAGES[@]}"

XZ_OPT=${XZ_OPT:--9} tar -cJf "$NEW/packed" -C "$NEW" bench-gpu
mib=$(($(stat -c %s "$NEW/packed") / 1048576))
((mib < MOST_MIB)) || fail "$mib MiB are more than $MOST_MIB: a shorter CORPUS, or ENGINE=none?"
mv "$NEW/packed" "$FILE"
echo "pack: $FILE, $mib MiB, for Python $PYTHON_VERSION; text: $text; engine: $engine"
echo "python3 -m tarfile -e $(basename "$FILE") && bench-gpu/start.sh bench-gpu/code/tests/gpu/run.sh gpu-results"
