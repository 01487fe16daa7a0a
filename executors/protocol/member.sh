#!/bin/sh
# member.sh ROOT BATCH INDEX   Run one leaf inside a job and leave its marker. The body of each job "exec"s it.
#
# Fencing: it does nothing when another attempt counts, when it was revoked, or when another job has claimed the attempt;
# a requeue of the same job goes on, and of several starts of it the last one counts: a node that was given up may still
# be at work. It looks again before it publishes.
# The marker, exit.json, is complete or absent, and .done/<token> comes after it. A job that was killed leaves neither.
# A thousand of these may run on one machine: what a shell can do itself needs no process.
# shellcheck disable=SC2317  # much here is called by traps
set -u
umask 077
read -r began _ </proc/uptime
read -r host </proc/sys/kernel/hostname
root=$1
cd "$root" || exit 1
bin=${0%/*}
token=$(sed -n "$(($3 + 1))p" ".batch/$2/members")
key=${token%-*} attempt=${token##*-}
job=${DFH_JOB_ID:-$host.$$}
leaf=$root/$key/attempt.$attempt
cd "$leaf" || exit 1

newline='
'
counts() {
    [ ! -e "../revoked.$attempt" ] || return 1
    { read -r current <../current; } 2>/dev/null && [ "$current" = "$attempt" ]
}
counts || { echo "dflow-hpc: $token does not count any more; nothing is run" >&2; exit 0; }
# A link carries its owner in one call. Over NFS it may have been made although the answer says that it exists.
if ! ln -s "$job" "../claim.$attempt" 2>/dev/null; then
    [ "$(readlink "../claim.$attempt")" = "$job" ] || {
        echo "dflow-hpc: $token was claimed by job $(readlink "../claim.$attempt"); nothing is run" >&2
        exit 0
    }
    # It was killed between its marker and the sign of it; or somebody requeued what had ended: that is not run again.
    if [ -e exit.json ]; then
        rm -rf env.sh urls private
        [ -e "$root/.old/$token" ] || echo 1 >"$root/.done/$token"
        exit 0
    fi
    rm -rf .main runtime pack trouble changed pushed unsent outputs workdir result log.txt log.tail
fi

run=$host.$$.$began
echo "$run" >.run

rc=0 stage=in signal=0 child='' interrupted='' sent=true oom=false
: >log.txt
# forward SIGNAL NUMBER: USR2 is a warning that the program may use; any other means the end.
forward() {
    interrupted=1 signal=$2
    [ -z "$child" ] || kill -"$1" "$child" 2>/dev/null
}
trap 'forward TERM 15' TERM
trap 'forward TERM 2' INT
trap 'forward TERM 24' XCPU
trap 'forward USR2 "$signal"' USR2

# The control group of this job, if it has one for memory, and what its files are called.
group=''
[ ! -r "${DFH_CGROUPS-}/proc/self/cgroup" ] || while read -r line; do
    case $line in
    *:memory:/?*)
        group=${DFH_CGROUPS-}/sys/fs/cgroup/memory${line#*:memory:} most=memory.max_usage_in_bytes ends=memory.oom_control
        ;;
    0::/?*) [ -n "$group" ] || group=${DFH_CGROUPS-}/sys/fs/cgroup${line#0::} most=memory.peak ends=memory.events ;;
    esac
done <"${DFH_CGROUPS-}/proc/self/cgroup"

# Peak memory of this job, in bytes; null where nobody knows.
memory() {
    peak=null
    [ -z "$group" ] || { read -r peak <"$group/$most"; } 2>/dev/null || peak=null
}

# How often the kernel has killed a process of this job for memory.
kills() {
    killed=0
    [ -z "$group" ] || while read -r word more; do
        [ "$word" != oom_kill ] || killed=$more
    done <"$group/$ends"
} 2>/dev/null

# keep_end FILE BYTES TARGET   Count the bytes that travel; what is too long is cut to its end, in TARGET.
keep_end() {
    size=$(wc -c <"$1")
    if [ "$size" -gt "$2" ]; then
        tail -c "$2" "$1" >end.tmp && mv end.tmp "$3"
        size=$2
    fi
    kilobytes=$((kilobytes + size / 1024))
}

# List in "pack" what a round brings along: all outputs if they are small, else only what says how it ended.
pack() {
    complete=true kilobytes=0 log=log.txt logged=0
    set --
    [ ! -e outputs.list ] || while IFS= read -r line; do
        [ ! -e "$line" ] || set -- "$@" "$line"
    done <outputs.list
    if [ $# -gt 0 ]; then
        kilobytes=$(du -skcL "$@" 2>/dev/null)
        kilobytes=${kilobytes##*"$newline"}
        kilobytes=${kilobytes%%[!0-9]*}
        kilobytes=${kilobytes:-0}
    fi
    if [ "$kilobytes" -gt "${DFH_SMALL:-1024}" ]; then
        complete=false kilobytes=0
        set --
    fi
    [ "$sent" = true ] || complete=false
    if [ -s result ]; then
        keep_end result 262144 result
        set -- "$@" result
    fi
    if [ -s log.txt ]; then
        logged=$(wc -c <log.txt)
        keep_end log.txt 65536 log.tail
        [ ! -e log.tail ] || log=log.tail
        set -- "$@" "$log"
    fi
    for file in termination-log changed pushed; do
        [ ! -s "$file" ] || set -- "$@" "$file"
    done
    [ ! -s pushed ] || kilobytes=$((kilobytes + $(wc -c <pushed) / 1024))
    kilobytes=$((kilobytes + 1))
    { echo exit.json; [ $# -eq 0 ] || printf '%s\n' "$@"; } >pack
}

# Add up what ".bytes" counts.
totals() {
    pulled=0 pushed=0 spared=0
    [ ! -e .bytes ] || while read -r word more; do
        case $word in
        pulled) pulled=$((pulled + more)) ;;
        pushed) pushed=$((pushed + more)) ;;
        spared) spared=$((spared + more)) ;;
        esac
    done <.bytes
}

text() { head -c 1000 trouble 2>/dev/null | tr '\n\t' '  ' | tr -d '"\\\000-\037'; }

# "sync FILE" is of coreutils 8.24; what is older syncs everything.
publish() {
    trap '' TERM INT USR2 XCPU
    { read -r last <.run; } 2>/dev/null || last=''
    [ "$last" = "$run" ] || {
        echo "dflow-hpc: $token was started again meanwhile; this outcome is not published" >&2
        exit 0
    }
    pack
    memory
    kills
    [ "$killed" -le "$before" ] || oom=true
    totals
    now=$(date +%s)
    read -r up _ </proc/uptime
    said=''
    [ ! -s trouble ] || said=$(text)
    printf '{"token": "%s", "attempt": %s, "job": "%s", "rc": %s, "stage": "%s", "signal": %s, "host": "%s", "start": %s, "end": %s, "memory": %s, "oom": %s, "complete": %s, "sent": %s, "pulled": %s, "pushed": %s, "spared": %s, "log": %s, "text": "%s"}\n' \
        "$token" "$attempt" "$job" "$rc" "$stage" "$signal" "$host" "$((now - ${up%.*} + ${began%.*}))" "$now" "$peak" "$oom" \
        "$complete" "$sent" "$pulled" "$pushed" "$spared" "$((logged))" "$said" >exit.json.tmp || exit 1
    sync exit.json.tmp 2>/dev/null || sync
    counts || {
        rm -rf env.sh urls private
        echo "dflow-hpc: $token does not count any more; its outcome is not published" >&2
        exit 0
    }
    # Secrets go when nothing can need them any more: a requeue that finds no marker does.
    mv exit.json.tmp exit.json && rm -rf env.sh urls private && echo "$kilobytes" >"$root/.done/$token"
}
kills
before=$killed
trap publish EXIT

# attend COMMAND...: run it in the leaf's directory and wait; signals reach it. Its exit code is in rc.
attend() {
    "$@" </dev/null >>log.txt 2>&1 &
    child=$!
    [ "$signal" -eq 0 ] || kill -TERM "$child" 2>/dev/null  # it came before there was a child to forward it to
    # A trap ends "wait" before the child has ended.
    while :; do
        interrupted=''
        wait "$child"
        rc=$?
        [ -n "$interrupted" ] || break
    done
    child=''
}

# A container runtime that could not start the program ends with a code of its own, and its last words say so.
runtime_trouble() {
    { read -r codes && read -r words && read -r what; } <runtime
    last=$(tail -n 1 log.txt)
    case " $codes " in *" $rc "*)
        case $last in "$words"*) rm -f .main ;; esac
        ;;
    esac
    # Nothing started: an OP says itself that it did.
    [ -e .main ] || printf '%s\n' "$what (rc $rc): $last" >trouble
}

[ -d workdir ] || mkdir workdir || exit
shell='sh'
if [ -e setup ] && command -v bash >/dev/null; then shell='bash -l'; fi  # "module" is a function of login shells
# Shared by the attempts of a leaf: what one has saved, the next one finds.
DFLOW_CHECKPOINT_DIR=$root/$key/checkpoint
export DFLOW_CHECKPOINT_DIR DFH_ROOT="$root" DFH_BIN="$bin" DFH_LEAF="$leaf" DFH_TOKEN="$token"
[ ! -s inputs.list ] || attend sh "$bin/stage.sh" in
if [ "$rc" -eq 0 ] && [ "$signal" -eq 0 ]; then
    # shellcheck disable=SC2086
    attend $shell ./leaf.sh
    if [ -e runtime ] && [ ! -s trouble ] && [ "$signal" -eq 0 ]; then runtime_trouble; fi
    [ ! -s .shared ] || sh "$bin/stage.sh" check
elif [ "$signal" -ne 0 ]; then
    rc=$((128 + signal))
fi
# Outputs that do not get away now, such as those of a job that is ended, are stored later (fetch.sh): rc is what counts.
if [ -s puts.list ] && [ -e .main ] && [ ! -s trouble ]; then
    sent=false code=$rc
    if [ "$signal" -eq 0 ]; then
        attend sh "$bin/stage.sh" out
        [ "$rc" -ne 0 ] || sent=true
    fi
    rc=$code
fi
if [ "$rc" -gt 128 ] && [ "$rc" -le 192 ] && [ "$signal" -eq 0 ]; then signal=$((rc - 128)); fi
if [ -e .main ] && [ ! -s trouble ]; then
    stage=main
elif [ ! -s trouble ] && [ "$signal" -eq 0 ]; then
    echo "a setup line of the machine's profile failed (rc $rc)" >trouble
fi
if [ -s result ]; then cat result >>log.txt; fi
exit "$rc"
