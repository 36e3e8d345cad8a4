#!/usr/bin/env bash
# A container engine for a Debian machine that has none (CI, a bare container, a rented box):
#   docker/engine.sh start|stop|status [docker|podman]     docker unless podman is named
# Docker keeps to its own folder, so that removing that folder removes every trace of it. Podman has
# no daemon: to start it is to install it, with the settings that this machine needs; to stop it is
# to take these settings away. Its images stay where podman keeps them.
set -euo pipefail

ROOT=$(realpath -m "${BENCH_ENGINE_ROOT:-/var/lib/bench-engine}") # dockerd takes no relative paths
PIDFILE=$ROOT/dockerd.pid
LOG=$ROOT/dockerd.log
START_TIMEOUT_S=60
STOP_TIMEOUT_S=60 # dockerd gives running containers 10 s, then ends them itself
SETTINGS=/etc/containers/containers.conf.d/bench.conf # of podman; ours alone

fail() {
    echo "engine: $*" >&2
    exit 1
}

server_version() {
    docker version --format '{{.Server.Version}}' 2>/dev/null
}

podman_version() {
    podman version --format '{{.Client.Version}}' 2>/dev/null
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

docker_packages() {
    command -v dockerd >/dev/null || echo docker.io
    command -v iptables >/dev/null || echo iptables
    command -v debootstrap >/dev/null || echo debootstrap
    # Where AppArmor is on, dockerd refuses containers without its parser, which apt only recommends.
    if grep -qs Y /sys/module/apparmor/parameters/enabled; then
        command -v apparmor_parser >/dev/null || echo apparmor
    fi
}

podman_packages() {
    command -v podman >/dev/null || echo podman
    command -v runc >/dev/null || echo runc
    command -v debootstrap >/dev/null || echo debootstrap
}

install_missing() {
    local packages
    mapfile -t packages < <("$1_packages")
    [[ ${#packages[@]} -gt 0 ]] || return 0

    if ! grep -qsE '^ID(_LIKE)?=.*debian' /etc/os-release || ! command -v apt-get >/dev/null; then
        fail "missing: ${packages[*]}; this is not Debian, so install and start $1 by hand"
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

start_docker() {
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
    install_missing docker
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

stop_docker() {
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

status_docker() {
    local version pid
    version=$(server_version) || fail "no engine answers; run: docker/engine.sh start"
    if pid=$(our_pid); then
        echo "engine: $version answers (ours, pid $pid, data and log in $ROOT)"
    else
        echo "engine: $version answers (not started by this script)"
    fi
}

# What podman must be told on this machine; empty if nothing.
podman_settings() {
    local limits=() files processes pids
    # Podman gives root's containers a million of each; above our own hard limit the kernel refuses it.
    files=$(ulimit -Hn) processes=$(ulimit -Hu)
    (ulimit -Hn 1048576) 2>/dev/null || limits+=("\"nofile=$files:$files\"")
    if ! (ulimit -Hu 1048576) 2>/dev/null; then
        pids=$(</proc/sys/kernel/pid_max) # podman takes no more for itself than the kernel has numbers
        ((processes < pids)) || processes=$pids
        limits+=("\"nproc=$processes:$processes\"")
    fi
    if [[ ${#limits[@]} -gt 0 ]]; then
        printf '[containers]\ndefault_ulimits = [%s]\n' "$(IFS=, && echo "${limits[*]}")"
    fi
    # crun, podman's first choice, refuses control groups of version 2 beside those of version 1.
    if grep -q '^cgroup ' /proc/mounts && grep -q '^cgroup2 ' /proc/mounts; then
        printf '[engine]\nruntime = "runc"\n'
    fi
}

start_podman() {
    local version settings
    if version=$(status_podman 2>/dev/null); then
        echo "$version; nothing to do"
        return
    fi
    require_root start
    mkdir -p "$ROOT"
    install_missing podman
    settings=$(podman_settings)
    if [[ -n $settings ]]; then
        mkdir -p "$(dirname "$SETTINGS")"
        printf '# Made by docker/engine.sh, whose stop removes it.\n%s\n' "$settings" >"$SETTINGS"
    fi
    status_podman
}

stop_podman() {
    if [[ ! -e $SETTINGS ]]; then
        echo "engine: podman has no settings of ours; nothing to do"
        return
    fi
    require_root stop
    rm "$SETTINGS"
    echo "engine: removed podman's settings $SETTINGS"
}

status_podman() {
    local version
    version=$(podman_version) || fail "no podman answers; run: docker/engine.sh start podman"
    if [[ -n $(podman_settings) && ! -e $SETTINGS ]]; then
        fail "podman $version lacks settings for this machine; run: docker/engine.sh start podman"
    fi
    echo "engine: podman $version answers"
}

case "${1:-} ${2:-docker}" in
"start docker" | "start podman" | "stop docker" | "stop podman" | "status docker" | "status podman") "$1_${2:-docker}" ;;
*) fail "usage: docker/engine.sh start|stop|status [docker|podman]" ;;
esac
