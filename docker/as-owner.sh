#!/bin/sh
# The command `bench` of the all-in-one image. It runs as the owner of /work, so that results belong
# to whoever started the container, and never with a right of root: no capability, no way to gain one.
set -eu
export PYTHONPATH=/opt/bench

[ -e /work/. ] && mountpoint -q /work || echo "note: no folder of yours is at /work (-v \"\$PWD:/work\"):" \
    "what is written there ends with the container" >&2
# Whom --user names stays who it is. So does a rootless engine's root, who is the caller outside.
if [ "$(id -u)" != 0 ]; then
    exec python3 -P -m bench "$@"
fi
owner=$(stat -c %u /work)
group=$(stat -c %g /work)
exec setpriv --reuid "$owner" --regid "$group" --clear-groups --no-new-privs \
    --inh-caps=-all --bounding-set=-all python3 -P -m bench "$@"
