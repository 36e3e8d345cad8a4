#!/usr/bin/env bash
# Podman of this machine, for one that has no engine: tests/gpu/pack-engine.sh FOLDER
# FOLDER receives podman, conmon and runc with the libraries that they load, except the C library's own
# (the machine there needs one as new as this one's), and the seccomp profile. Needs patchelf.
set -euo pipefail

PROGRAMS=(podman conmon runc)
PROFILE=/usr/share/containers/seccomp.json
INTO=${1:?usage: tests/gpu/pack-engine.sh FOLDER}

libraries() { # that a program loads; those of the C library are the machine's own
    ldd "$1" | awk '$3 ~ /^\// { print $3 }' | grep -vE '/lib(c|m|dl|rt|pthread|resolv)\.so'
}

mkdir -p "$INTO/lib"
for name in "${PROGRAMS[@]}"; do
    program=$(command -v "$name")
    cp -L "$program" "$INTO/$name"
    libraries "$program" | xargs -r cp -Lut "$INTO/lib"
    # An RPATH, which serves libraries of libraries as well, and needs no variable that runc's own children would lose.
    patchelf --force-rpath --set-rpath "\$ORIGIN/lib" "$INTO/$name"
done
cp "$PROFILE" "$INTO/seccomp.json"
