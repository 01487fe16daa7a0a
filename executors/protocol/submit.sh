#!/bin/sh
# submit.sh ROOT <TAR   Bring leaves, code and batches, and submit each batch once.
#
# The tar has leaves/<key>/{current,attempt.<n>/...}, cas/<sha256>/..., batches/<id>/{job.sh,submit.sh,members} and, last,
# "complete"; "needs" names what its leaves take from the cache, .cas. The same tar may come again: what is there stays, and a batch whose submission began is not begun again.
#
# The work is done by a process in a session of its own, so that a dropped link cannot cut between a submission and the
# record of its answer. The order is what the promise hangs on: the lock (with its owner, in one call) comes before the
# submit command, the answer after it, and nothing ever takes a lock away.
set -u
umask 077
root=$1
cd "$root" || exit 70
# shellcheck source=executors/protocol/common.sh
. "${0%/*}/common.sh"

# Two may bring the same at once, so that something exists is looked at after a move has failed, too.
move() {
    [ -e "$2/${1##*/}" ] || mv "$1" "$2/" || [ -e "$2/${1##*/}" ]
}

# What exists already stays; a higher "current" counts.
place_leaf() {
    dfh_key=${1##*/}
    mkdir -p "$dfh_key" || return 1
    for dfh_attempt in "$1"/attempt.*; do
        [ ! -e "$dfh_attempt" ] || move "$dfh_attempt" "$dfh_key" || return 1
    done
    read -r dfh_new <"$1/current" || return 1
    { read -r dfh_old <"$dfh_key/current"; } 2>/dev/null || dfh_old=0
    [ "$dfh_new" -le "$dfh_old" ] || mv "$1/current" "$dfh_key/current"
}

# What leaves take from the cache is marked as used; where "clean" was faster, the answer names it and nothing begins.
look_into_cache() {
    dfh_gone=''
    set --
    while read -r dfh_name; do
        if [ -e ".cas/$dfh_name" ]; then set -- "$@" ".cas/$dfh_name"; else dfh_gone="$dfh_gone $dfh_name"; fi
        [ $# -lt 500 ] || { touch -c "$@"; set --; }
    done <"$in/needs"
    [ $# -eq 0 ] || touch -c "$@"
    [ -z "$dfh_gone" ] || { echo "missing$dfh_gone" >&2; exit 71; }
}

# New leaves are moved in lots: a process for each of thousands would take seconds.
place() {
    for dfh_code in "$in"/cas/*; do
        [ ! -e "$dfh_code" ] || move "$dfh_code" .cas || return 1
    done
    look_into_cache
    set --
    for dfh_leaf in "$in"/leaves/*; do
        [ ! -e "$dfh_leaf" ] || [ -e "${dfh_leaf##*/}" ] || set -- "$@" "$dfh_leaf"
        [ $# -lt 500 ] || { mv "$@" .; set --; }
    done
    [ $# -eq 0 ] || mv "$@" .
    for dfh_leaf in "$in"/leaves/*; do
        [ ! -e "$dfh_leaf" ] || place_leaf "$dfh_leaf" || return 1
    done
}

submit() {
    dfh_batch=.batch/${1##*/}
    mkdir -p "$dfh_batch" || return
    # A link is made with its content in one call: a lock without an owner cannot be seen.
    ln -s "$$:$(uname -n):$(date +%s)" "$dfh_batch/submit.lock" 2>/dev/null || return
    mv "$1"/* "$dfh_batch/" || return
    (
        cd "$dfh_batch" || exit
        timeout -k 10 "$bound" sh ./submit.sh </dev/null >submit.out 2>submit.err
        echo $? >submit.rc.tmp && mv submit.rc.tmp submit.rc
    )
}

if [ "${2-}" != worker ]; then
    take_in
    setsid sh "$0" "$root" worker "$in" </dev/null >"$in/answer" 2>"$in/trouble" &
    wait $!
    rc=$?
    cat "$in/answer"
    cat "$in/trouble" >&2
    rm -rf "$in"
    exit "$rc"
fi
in=$3
place || give_up "what was sent could not be put in its place in $PWD"
echo "=dflow-hpc 1="
for batch in "$in"/batches/*; do
    [ -e "$batch" ] || continue
    submit "$batch"
    state "${batch##*/}"
done
echo end
