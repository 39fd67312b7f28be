#!/usr/bin/env bash
# cluster_down.sh DIR: ends the cluster that cluster_up.sh made in DIR, and all that ran on it.
#
# DIR itself stays, for its logs. Safe to call twice, and after a start that failed halfway.
set -u
dir=$(realpath -m "$1")
prefix=mth bridge=mtbridge

stop() { # stop SIGNAL: every daemon by its pid file, and whatever runs in the hosts' namespaces
    local file pid name
    for file in "$dir"/run/*.pid; do
        [ -s "$file" ] && pid=$(cat "$file") && kill "-$1" "$pid" 2>/dev/null
    done
    for name in $(hosts_up); do
        for pid in $(ip netns pids "$name" 2>/dev/null); do
            kill "-$1" "$pid" 2>/dev/null
        done
    done
}
hosts_up() { ip netns list 2>/dev/null | awk '{print $1}' | grep -E "^${prefix}[0-9]+\$"; }
alive() { # whether any of it still runs
    local file name
    for file in "$dir"/run/*.pid; do
        [ -s "$file" ] && kill -0 "$(cat "$file")" 2>/dev/null && return 0
    done
    for name in $(hosts_up); do
        [ -z "$(ip netns pids "$name" 2>/dev/null)" ] || return 0
    done
    return 1
}

[ -d "$dir/run" ] || exit 0
stop TERM
for _ in $(seq 20); do
    alive || break
    sleep 0.1
done
for _ in $(seq 20); do
    alive || break
    stop KILL
    sleep 0.1
done
rm -f "$dir"/run/*.pid
for i in $(seq "$(cat "$dir/hosts_count")"); do
    ip netns del "$prefix$i" 2>/dev/null
    ip link del "v$prefix$i" 2>/dev/null
done
ip link del "$bridge" 2>/dev/null
exit 0
