#!/bin/sh
# ask.sh ROOT <TAR   Many questions in one command: a round, a look-up, a cancellation.
#
# The tar has the file "questions", files run.<name> with shell commands, and, last, "complete". A line of "questions":
#   run NAME       run run.NAME; answers its exit code and outputs (the scheduler's queue, history, look-up, cancel)
#   seal BATCH     make sure that no submission of the batch begins any more; answers its state (common.sh)
#   revoke TOKEN   a job of this token that starts from now on does nothing
#   forget TOKEN   its outcome is safe: clean.sh may remove it
#   await TOKEN    if it has ended, its marker and small outputs come along
# Tokens that ended are in the frame "ended": their names, a line each, and a tar of what each listed in "pack".
set -u
umask 077
root=$1
cd "$root" || exit 70
# shellcheck source=executors/protocol/common.sh
. "${0%/*}/common.sh"

# Kilobytes of small outputs in one answer, about; what is left comes in the next round.
most=${DFH_MOST:-16384}

run() {
    sh "$in/run.$1" </dev/null >"$in/out" 2>"$in/err"
    frame "$1" ran $? "$in/out" "$in/err"
}

seal() {
    mkdir -p ".batch/$1" && ln -s sealed ".batch/$1/submit.lock" 2>/dev/null
    state "$1"
}

# The marker says how many kilobytes there are to bring: one that is being written says nothing yet.
await() {
    [ "$most" -gt 0 ] || return 0
    { read -r kilobytes <".done/$1"; } 2>/dev/null || return 0
    directory=${1%-*}/attempt.${1##*-}
    echo "$1" >>"$in/ended"
    while read -r line; do
        echo "$directory/$line"
    done <"$directory/pack" >>"$in/pack"
    most=$((most - kilobytes - 1))
}

take_in
: >"$in/ended"
: >"$in/pack"
echo "=dflow-hpc 1="
set --
while read -r word name; do
    case $word in
    run) run "$name" ;;
    seal) seal "$name" ;;
    revoke) mkdir -p "${name%-*}" && : >"${name%-*}/revoked.${name##*-}" ;;
    forget) [ ! -e ".done/$name" ] || set -- "$@" ".done/$name" ;;
    await) await "$name" ;;
    esac
done <"$in/questions"
[ $# -eq 0 ] || mv "$@" .old/
# -h: an output may be a link to where the program left it. A link to nothing is left out, and counts as missing.
[ ! -s "$in/ended" ] || tar -chzf "$in/tar" -T "$in/pack" 2>/dev/null
frame ended ended 0 "$in/ended" "$in/tar"
echo end
rm -rf "$in"
