#!/usr/bin/env bash
# A container engine for a Debian machine that has none (CI, a bare container, a rented box).
# It keeps to its own folder, so that removing that folder removes every trace of it.
set -euo pipefail

ROOT=$(realpath -m "${BENCH_ENGINE_ROOT:-/var/lib/bench-engine}") # dockerd takes no relative paths
PIDFILE=$ROOT/dockerd.pid
LOG=$ROOT/dockerd.log
START_TIMEOUT_S=60
STOP_TIMEOUT_S=60 # dockerd gives running containers 10 s, then ends them itself

fail() {
    echo "engine: $*" >&2
    exit 1
}

server_version() {
    docker version --format '{{.Server.Version}}' 2>/dev/null
}

# The pid in our file, only if it is still our dockerd: after a crash or a reboot
# the number may belong to an unrelated process.
our_pid() {
    local pid
    pid=$(cat "$PIDFILE" 2>/dev/null) && [[ -n $pid ]] || return 1
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -- "--pidfile=$PIDFILE" || return 1
    echo "$pid"
}

require_root() {
    [[ $EUID -eq 0 ]] || fail "needs root; run it again as root (sudo docker/engine.sh $1)"
}

install_missing() {
    local packages=()
    command -v dockerd >/dev/null || packages+=(docker.io)
    command -v iptables >/dev/null || packages+=(iptables)
    command -v debootstrap >/dev/null || packages+=(debootstrap)
    # Where AppArmor is on, dockerd refuses containers without its parser, which apt only recommends.
    if grep -qs Y /sys/module/apparmor/parameters/enabled && ! command -v apparmor_parser >/dev/null; then
        packages+=(apparmor)
    fi
    [[ ${#packages[@]} -gt 0 ]] || return 0

    if ! grep -qsE '^ID(_LIKE)?=.*debian' /etc/os-release || ! command -v apt-get >/dev/null; then
        fail "missing: ${packages[*]}; this is not Debian, so install and start a container engine by hand"
    fi
    echo "engine: installing ${packages[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    {
        apt-get update -q && apt-get install -qy --no-install-recommends "${packages[@]}"
    } >"$ROOT/install.log" 2>&1 || {
        tail -n 5 "$ROOT/install.log" >&2
        fail "could not install ${packages[*]}; see $ROOT/install.log"
    }
}

start() {
    local version pid
    if version=$(server_version); then
        echo "engine: $version answers already; nothing to do"
        return
    fi
    require_root start
    mkdir -p "$ROOT"
    # Two starts at once would fight for the socket. The second waits here and finds the first's engine.
    exec 9>"$ROOT/lock"
    flock 9
    install_missing
    # With systemd the package starts its own service.
    if version=$(server_version); then
        echo "engine: $version answers now (started by the system or by another start)"
        return
    fi
    ! our_pid >/dev/null || fail "dockerd runs but does not answer; see $LOG, then run: docker/engine.sh stop"
    # dockerd will not start over a pid file whose number is in use again by something else.
    rm -f "$PIDFILE"

    # Detached, with files of its own: it must outlive this shell, and hold none of the caller's pipes.
    setsid dockerd --data-root="$ROOT/data" --exec-root="$ROOT/exec" --pidfile="$PIDFILE" \
        </dev/null >>"$LOG" 2>&1 9>&- &
    pid=$!
    for ((second = 0; second < START_TIMEOUT_S; second++)); do
        if version=$(server_version); then
            echo "engine: started dockerd $version (pid $(our_pid), data and log in $ROOT)"
            return
        fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 1
    done
    tail -n 15 "$LOG" >&2
    fail "dockerd did not answer; the log's end is above, the rest in $LOG"
}

stop() {
    local pid
    if ! pid=$(our_pid); then
        echo "engine: none of ours is running; nothing to do"
        return
    fi
    require_root stop
    kill -TERM "$pid"
    for ((tenth = 0; tenth < STOP_TIMEOUT_S * 10; tenth++)); do
        if ! our_pid >/dev/null; then
            echo "engine: stopped dockerd (pid $pid)"
            return
        fi
        sleep 0.1
    done
    fail "dockerd (pid $pid) has not ended after $STOP_TIMEOUT_S s; see $LOG"
}

status() {
    local version pid
    version=$(server_version) || fail "no engine answers; run: docker/engine.sh start"
    if pid=$(our_pid); then
        echo "engine: $version answers (ours, pid $pid, data and log in $ROOT)"
    else
        echo "engine: $version answers (not started by this script)"
    fi
}

case ${1:-} in
    start | stop | status) "$1" ;;
    *) fail "usage: docker/engine.sh start|stop|status" ;;
esac
