#!/usr/bin/env bash
# The same four cells in three places, then side by side: tests/gpu/container.sh INTO
#   local   processes of this machine
#   podman  a container each, as `make bench-gpu` runs them
#   image   one container that holds the program as well, as docs/image.md has it
# Needs root, and podman: this machine's own, or the one that pack.sh carried. Containers see this
# machine's own Python (host_image.py), so that no image is needed. All of it happens in a mount
# namespace that ends with this script. Where the machine refuses a container, the exit code is 1,
# after the engine's own words. DEVICE (cuda) may be cpu, to rehearse.
set -euo pipefail

export PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda}
INTO=$(realpath "${1:?usage: tests/gpu/container.sh INTO}")
HOST=localhost/bench-host
NOBODY=65532
cd "$(dirname "$0")/../.."

if [[ -z ${STATE:-} ]]; then
    command -v podman >/dev/null || { echo "container: no podman is here, and pack.sh carried none" >&2; exit 1; }
    made=()
    [[ $DEVICE != cuda || -d /etc/cdi ]] || { mkdir /etc/cdi && made+=(/etc/cdi); }
    made+=("$(mktemp -d)")
    STATE=${made[-1]} unshare --mount tests/gpu/container.sh "$INTO" && failed=0 || failed=1
    rmdir "${made[@]}"
    exit "$failed"
fi

prepare() { # podman's settings and its image, in memory
    mount -t tmpfs -o mode=755 none "$STATE"
    grep -q ' cgroup2\? ' /proc/mounts || mount -t cgroup2 none /sys/fs/cgroup
    "$PYTHON" -m tests.gpu.host_image "$STATE"
    export CONTAINERS_CONF=$STATE/containers.conf CONTAINERS_STORAGE_CONF=$STATE/storage.conf
    export HOME=$STATE/home
    podman import --quiet --change "ENV PATH=$(dirname "$(command -v "$PYTHON")"):/usr/bin:/bin" \
        "$STATE/root.tar" "$HOST"
    WORDS=()
    [[ $DEVICE == cuda ]] || return 0
    WORDS=(--device nvidia.com/gpu=all)
    if [[ -z $(ls /etc/cdi) ]]; then
        mkdir "$STATE/cdi" && cp "$STATE/nvidia.json" "$STATE/cdi" && mount --bind "$STATE/cdi" /etc/cdi
    fi
    tail -n +1 /etc/cdi/*
}

one_container() { # for the program and its cells
    local program=$STATE/program work=$INTO/work
    mkdir -p "$program" "$work"
    cp -r bench "$program"
    echo '{"cell_image": "bench-host", "git_commit": null, "git_dirty": null}' >"$program/packed.json"
    [[ ! -f input.txt ]] || cp -L input.txt "$work"
    cp "$INTO/container.yaml" "$work"
    chown -R "$NOBODY:$NOBODY" "$work"
    podman run --rm "${WORDS[@]}" --pull never --network none --read-only --tmpfs /tmp:exec,mode=1777 \
        --cap-drop ALL --security-opt no-new-privileges --user "$NOBODY:$NOBODY" --workdir /work \
        --volume "$work:/work" --volume "$program:/opt/bench:ro" --env BENCH_CACHE=/work/cache \
        --env "PYTHONPATH=/opt/bench:${PYTHONPATH:-}" \
        "$HOST" python3 -P -m bench run container.yaml --out /work/image
    mv "$work/image" "$INTO/image"
    rm -r "$work"
}

prepare
sed "s|\[cuda\]|[$DEVICE]|" tests/gpu/container.yaml >"$INTO/container.yaml"
places=()
try() { # what comes after a place that failed is done all the same
    local place=$1
    shift
    "$@" && places+=("$INTO/$place")
}
run=("$PYTHON" -m bench run "$INTO/container.yaml")
try local "${run[@]}" --runtime local --worker-python "$(command -v "$PYTHON")" --out "$INTO/local"
try podman "${run[@]}" --runtime podman --image "$HOST" --out "$INTO/podman"
try image one_container
"$PYTHON" -m tests.gpu.places "$INTO/places.csv" "${places[@]}"
((${#places[@]} == 3))
