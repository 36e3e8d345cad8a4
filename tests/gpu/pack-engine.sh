#!/usr/bin/env bash
# Podman of this machine, for one that has no engine: tests/gpu/pack-engine.sh FOLDER
# FOLDER receives podman, conmon and runc with the libraries that they load, except the C library's own
# (the machine there needs one as new as this one's), and the seccomp profile.
set -euo pipefail

PROGRAMS=(podman conmon runc)
PROFILE=/usr/share/containers/seccomp.json
INTO=${1:?usage: tests/gpu/pack-engine.sh FOLDER}

for needed in "${PROGRAMS[@]}" patchelf; do
    command -v "$needed" >/dev/null || { echo "pack-engine: $needed is not installed here" >&2; exit 1; }
done
mkdir -p "$INTO/lib"
for name in "${PROGRAMS[@]}"; do
    cp -L "$(command -v "$name")" "$INTO/$name"
    ldd "$INTO/$name" | awk '$3 ~ /^\// && $3 !~ /\/lib(c|m|dl|rt|pthread|resolv)\.so/ { print $3 }' |
        xargs -r cp -Lut "$INTO/lib"
    # An RPATH serves libraries of libraries as well, and needs no variable that children would lose.
    patchelf --force-rpath --set-rpath "\$ORIGIN/lib" "$INTO/$name"
done
cp "$PROFILE" "$INTO/seccomp.json"
