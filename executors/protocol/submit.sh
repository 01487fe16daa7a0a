#!/bin/sh
# submit.sh ROOT <TAR   Bring leaves, code and batches, and submit each batch once.
#
# The tar has leaves/<key>/{current,attempt.<n>/...}, cas/<sha256>/..., batches/<id>/{job.sh,submit.sh,members} and, last,
# "complete". The same tar may come again: what is there stays, and a batch whose submission began is not begun again.
#
# The work is done by a process in a session of its own, so that a dropped link cannot cut between a submission and the
# record of its answer. The order is what the promise hangs on: the lock (with its owner, in one call) comes before the
# submit command, the answer after it, and nothing ever takes a lock away.
set -u
umask 077
root=$1
cd "$root" || exit 1
# shellcheck source=executors/protocol/common.sh
. "${0%/*}/common.sh"

# What exists already stays; a higher "current" counts.
place_leaf() {
    dfh_key=${1##*/}
    for dfh_attempt in "$1"/attempt.*; do
        [ -e "$dfh_key/${dfh_attempt##*/}" ] || mv "$dfh_attempt" "$dfh_key/" || return 1
    done
    read -r dfh_new <"$1/current" || return 1
    { read -r dfh_old <"$dfh_key/current"; } 2>/dev/null || dfh_old=0
    [ "$dfh_new" -le "$dfh_old" ] || mv "$1/current" "$dfh_key/current"
}

place() {
    for dfh_code in "$in"/cas/*; do
        [ ! -e "$dfh_code" ] || [ -e ".cas/${dfh_code##*/}" ] || mv "$dfh_code" .cas/ || return 1
    done
    set --
    for dfh_leaf in "$in"/leaves/*; do
        [ -e "$dfh_leaf" ] || continue
        if [ -e "${dfh_leaf##*/}" ]; then
            place_leaf "$dfh_leaf" || return 1
        else
            set -- "$@" "$dfh_leaf"
        fi
        [ $# -lt 500 ] || { mv "$@" . && set --; } || return 1
    done
    [ $# -eq 0 ] || mv "$@" .
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
