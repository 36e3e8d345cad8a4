#!/usr/bin/env bash
# Makes the base image bench-base:bookworm from Debian packages, for machines that reach no image
# registry, in every engine that answers: docker, podman, or both. FORCE=1 makes it again.
set -euo pipefail

IMAGE=bench-base:bookworm
SUITE=bookworm # its Python is 3.11, as in the default base image

fail() {
    echo "base-offline: $*" >&2
    exit 1
}

# The mirror is the one that apt uses here. Other vendors also call their suites
# "bookworm", hence the check of the origin, which only fetched lists can tell.
find_mirror() {
    # shellcheck disable=SC2016  # apt-get expands these, not the shell
    apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        awk -v suite="$SUITE" '$1 == "Debian" && $2 == suite && $3 == "main" && !found { found = 1; print $4 }'
}

cleanup() {
    # Killed half-way, debootstrap leaves these mounted.
    for mount in "$WORK/root/proc" "$WORK/root/sys"; do
        ! mountpoint -q "$mount" || umount "$mount"
    done
    rm -rf --one-file-system "$WORK"
}

strip_root() {
    rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/log/* "$1"/tmp/* \
        "$1"/usr/share/{man,info,locale,lintian}/*
    # The copyright files stay: their licences ask for it.
    find "$1/usr/share/doc" ! -type d ! -name copyright -delete
    find "$1/usr/share/doc" -type d -empty -delete
}

has_image() {
    "$1" image inspect "$IMAGE" >/dev/null 2>&1
}

engines=() lacking=() source=
for engine in docker podman; do
    "$engine" version >/dev/null 2>&1 || continue
    engines+=("$engine")
    if [[ ${FORCE:-} != 1 ]] && has_image "$engine"; then source=$engine; else lacking+=("$engine"); fi
done
[[ ${#engines[@]} -gt 0 ]] || fail "no container engine answers; run: docker/engine.sh start"
if [[ ${#lacking[@]} -eq 0 ]]; then
    echo "base-offline: $IMAGE exists in ${engines[*]}; FORCE=1 makes it again"
    exit
fi
if [[ -n $source ]]; then # there are two engines: one has it, the other lacks it
    "$source" save "$IMAGE" | "${lacking[0]}" load >/dev/null
    echo "base-offline: copied $IMAGE from $source to ${lacking[0]}"
    exit
fi
[[ $EUID -eq 0 ]] || fail "debootstrap needs root; run it again as root"
grep -qsx 'ID=debian' /etc/os-release || fail "needs Debian, whose packages it takes; elsewhere use BASE_IMAGE from a registry"
command -v debootstrap >/dev/null || fail "debootstrap is missing; run: apt-get install debootstrap"

mirror=$(find_mirror)
if [[ -z $mirror ]]; then
    apt-get update -q >&2
    mirror=$(find_mirror)
fi
[[ -n $mirror ]] || fail "apt knows no mirror with Debian $SUITE main; add one to its sources"

WORK=$(mktemp -d)
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# apt may have its proxy in its configuration alone, where debootstrap's wget does not look.
eval "$(apt-config shell apt_proxy Acquire::http::Proxy)"
[[ -z ${apt_proxy:-} ]] || export http_proxy=${http_proxy:-$apt_proxy}

echo "base-offline: debootstrap of $SUITE, a few minutes" >&2
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    "$SUITE" "$WORK/root" "$mirror" >"$WORK/log" 2>&1 || {
    tail -n 15 "$WORK/log" >&2
    fail "debootstrap failed; the end of its log is above"
}
strip_root "$WORK/root"
tar --numeric-owner --one-file-system --directory "$WORK/root" --create --file "$WORK/root.tar" .
for engine in "${engines[@]}"; do
    "$engine" import \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'ENV LANG=C.UTF-8' \
        --change 'CMD ["python3"]' \
        "$WORK/root.tar" "$IMAGE" >/dev/null
    size=$("$engine" image inspect --format '{{.Size}}' "$IMAGE" | awk '{ printf "%.0f MB", $1 / 1e6 }')
    echo "base-offline: made $IMAGE in $engine ($size)"
done
