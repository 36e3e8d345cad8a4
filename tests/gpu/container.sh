#!/usr/bin/env bash
# The same four cells in three places, then side by side: tests/gpu/container.sh INTO
#   local   processes of this machine
#   podman  a container each, as `make bench-gpu` runs them
#   image   one container that holds the program as well, as docs/image.md has it
# Needs root, and a podman on the path: the machine's own (4.3 or later), or the one that pack.sh carried
# (start.sh puts it there). Containers see this machine's own Python (host_image.py), so that no image is
# needed. All of it happens in a mount namespace that ends with this script. Where a place refuses, its
# words are told, the others go on, and the exit code is 1. DEVICE (cuda) may be cpu, to rehearse.
set -euo pipefail
trap 'exit 1' TERM # and so wait for what runs: run.sh then ends all

export PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda}
INTO=$(realpath "${1:?usage: tests/gpu/container.sh INTO}")
STATE=${2:-} # a folder, once it runs in the namespace
HOST=localhost/bench-host
NOBODY=65532
cd "$(dirname "$0")/../.."

if [[ -z $STATE ]]; then
    command -v podman >/dev/null || { echo "container: no podman is here, and pack.sh carried none" >&2; exit 1; }
    made=()
    [[ $DEVICE != cuda || -d /etc/cdi ]] || { mkdir /etc/cdi && made+=(/etc/cdi); }
    made+=("$(mktemp -d)")
    failed=0
    unshare --mount tests/gpu/container.sh "$INTO" "${made[-1]}" || failed=1
    rmdir "${made[@]}"
    exit "$failed"
fi

# Podman's settings and its image, in memory.
mount -t tmpfs -o mode=755 none "$STATE"
grep -q ' cgroup2\? ' /proc/mounts || mount -t cgroup2 none /sys/fs/cgroup
"$PYTHON" -m tests.gpu.host_image "$STATE"
export CONTAINERS_CONF=$STATE/containers.conf CONTAINERS_STORAGE_CONF=$STATE/storage.conf HOME=$STATE/home
podman import --quiet --change "ENV PATH=$(dirname "$(command -v "$PYTHON")"):/usr/bin:/bin" \
    "$STATE/root.tar" "$HOST"
gpu=()
if [[ $DEVICE == cuda ]]; then
    gpu=(--device nvidia.com/gpu=all)
    if [[ -z $(ls /etc/cdi) ]]; then
        [[ -f $STATE/nvidia.json ]] || { echo "container: NVML lists no GPU here" >&2; exit 1; }
        mkdir "$STATE/cdi" && cp "$STATE/nvidia.json" "$STATE/cdi" && mount --bind "$STATE/cdi" /etc/cdi
    fi
    tail -n +1 /etc/cdi/*
fi

# What the container that holds the program is given: the program, and a folder of its own.
program=$STATE/program work=$INTO/work
mkdir "$program" "$work"
cp -r bench "$program"
echo '{"cell_image": "bench-host", "git_commit": null, "git_dirty": null}' >"$program/packed.json"
sed "s|\[cuda\]|[$DEVICE]|" tests/gpu/container.yaml >"$INTO/container.yaml"
cp "$INTO/container.yaml" "$work"
[[ ! -f input.txt ]] || cp -L input.txt "$work"
chown -R "$NOBODY:$NOBODY" "$work"

failed=0
cells=("$PYTHON" -m bench run "$INTO/container.yaml")
"${cells[@]}" --runtime local --worker-python "$(command -v "$PYTHON")" --out "$INTO/local" || failed=1
"${cells[@]}" --runtime podman --image "$HOST" --out "$INTO/podman" || failed=1
podman run --rm "${gpu[@]}" --pull never --network none --read-only --tmpfs /tmp:exec,mode=1777 \
    --cap-drop ALL --security-opt no-new-privileges --user "$NOBODY:$NOBODY" --workdir /work \
    --volume "$work:/work" --volume "$program:/opt/bench:ro" --env BENCH_CACHE=/work/cache \
    --env "PYTHONPATH=/opt/bench:${PYTHONPATH:-}" \
    "$HOST" python3 -P -m bench run container.yaml --out /work/image || failed=1
[[ ! -d $work/image ]] || mv "$work/image" "$INTO/image"
rm -r "$work"
"$PYTHON" -m tests.gpu.places "$INTO/places.csv" "$INTO"/{local,podman,image} || failed=1
exit "$failed"
