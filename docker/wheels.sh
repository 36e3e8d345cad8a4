#!/usr/bin/env bash
# Fills docker/wheels/ with what the CPU images install, so that they build without an index: what
# cells need, and in docker/wheels/bench what the image with the program in it needs besides.
# TORCH_INDEX: an index to take torch from (e.g. PyTorch's CPU builds). PYTHON: whose pip to use.
set -euo pipefail

cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
TORCH_INDEX=${TORCH_INDEX:-}
WHEELS=docker/wheels

fail() {
    echo "wheels: $*" >&2
    exit 1
}

# The wheels are for the image, whatever Python, libc or system this machine has.
# pip takes each platform literally; bookworm's glibc 2.36 runs all of these.
arch=$(uname -m)
arch=${arch/arm64/aarch64} # as macOS calls it
TARGET=(--python-version 3.11 --implementation cp --only-binary=:all:)
for glibc in 2_28 2_27 2_26 2_24 2_17; do
    TARGET+=(--platform "manylinux_${glibc}_$arch")
done
TARGET+=(--platform "manylinux2014_$arch")

# Torch from TORCH_INDEX alone: pip ranks all its sources as one, so a build
# from another of them could win. The rest comes from the usual sources.
fetch_torch() {
    env -u PIP_EXTRA_INDEX_URL -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null \
        "$PYTHON" -m pip download -q -c docker/constraints.txt "${TARGET[@]}" --no-deps \
        --index-url "$TORCH_INDEX" --dest "$NEW" torch
    TORCH=$(echo "$NEW"/torch-*.whl)
}

# Resolves without fetching first: torch's CUDA build brings gigabytes of libraries.
refuse_cuda() {
    "$PYTHON" -m pip install -q -c docker/constraints.txt "${TARGET[@]}" --target "$NEW/none" \
        --ignore-installed --dry-run --report "$NEW/report.json" "$TORCH" numpy
    local cuda
    cuda=$("$PYTHON" - "$NEW/report.json" <<'END'
import json, sys
names = [item["metadata"]["name"] for item in json.load(open(sys.argv[1]))["install"]]
print(*[name for name in names if name.startswith(("nvidia-", "cuda-"))])
END
    )
    rm -rf "$NEW/report.json" "$NEW/none"
    [[ -z $cuda ]] || fail "this torch is a CUDA build (it wants ${cuda%% *} and more);" \
        "set TORCH_INDEX to PyTorch's CPU index. The CUDA image needs no $WHEELS"
}

"$PYTHON" -m pip --version >/dev/null || fail "$PYTHON has no pip; set PYTHON to one that has"
NEW=$(mktemp -d "$WHEELS.XXXXXX")
trap 'rm -rf "$NEW"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 755 "$NEW"
echo '*' >"$NEW/.gitignore" # it ignores itself too: no wheel is ever committed

TORCH=torch
[[ -z $TORCH_INDEX ]] || fetch_torch
refuse_cuda
"$PYTHON" -m pip download -q -c docker/constraints.txt "${TARGET[@]}" --dest "$NEW" "$TORCH" numpy
"$PYTHON" - >"$NEW/wanted" <<'END'
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print(*project["dependencies"], *project["optional-dependencies"]["report"], sep="\n")
END
"$PYTHON" -m pip download -q -c constraints.txt "${TARGET[@]}" --dest "$NEW/bench" -r "$NEW/wanted"
rm "$NEW/wanted"
for wheel in "$NEW"/bench/*.whl; do
    [[ ! -e $NEW/${wheel##*/} ]] || rm "$wheel" # the cells' own
done

# A whole new folder, so that no wheel of an older set stays behind.
rm -rf "$WHEELS.old"
[[ ! -e $WHEELS ]] || mv "$WHEELS" "$WHEELS.old"
mv "$NEW" "$WHEELS"
rm -rf "$WHEELS.old"
echo "wheels: $(find "$WHEELS" -name '*.whl' | wc -l) in $WHEELS, $(du -sm "$WHEELS" | cut -f1) MiB, $(basename "$WHEELS"/torch-*.whl)"
