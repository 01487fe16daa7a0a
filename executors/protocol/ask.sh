#!/bin/sh
# ask.sh ROOT <TAR   Many questions in one command: a round, a look-up, a cancellation.
#
# The tar has the file "questions", files run.<name> with shell commands, and, last, "complete". A line of "questions":
#   run NAME       run run.NAME; answers its exit code and outputs (the scheduler's queue, history, look-up, cancel)
#   seal BATCH     make sure that no submission of the batch begins any more; answers its state (common.sh)
#   revoke TOKEN   a job of this token that starts from now on does nothing
#   forget TOKEN   its outcome is safe: clean.sh may remove it; its secrets go at once, if a killed job left them
#   settle TOKEN   its job is gone: a marker without the sign of it (it was killed in between) gets the sign
#   renew TOKEN    urls.TOKEN, in the tar, has addresses that are valid for longer; for as long as its job did not end
#   await TOKEN    if it has ended, its marker and small outputs come along
# Tokens that ended are in the frame "ended": their names, a line each, and a tar of what each listed in "pack".
set -u
umask 077
root=$1
cd "$root" || exit 70
# shellcheck source=executors/protocol/common.sh
. "${0%/*}/common.sh"

# Kilobytes of small outputs, and tokens, in one answer; what is left comes in the next round.
most=${DFH_MOST:-16384}
room=1000

# PBS's commands wait for ever on a server that hangs; markers are to come along all the same.
run() {
    timeout -k 10 $((bound * 2)) sh "$in/run.$1" </dev/null >"$in/out" 2>"$in/err"
    frame "$1" ran $? "$in/out" "$in/err"
}

seal() {
    mkdir -p ".batch/$1" && ln -s sealed ".batch/$1/submit.lock" 2>/dev/null
    state "$1"
}

# The marker says how many kilobytes there are to bring: one that is being written says nothing yet.
await() {
    [ "$most" -gt 0 ] && [ "$room" -gt 0 ] || return 0
    { read -r kilobytes <".done/$1"; } 2>/dev/null || return 0
    directory=${1%-*}/attempt.${1##*-}
    echo "$1" >>"$in/ended"
    while IFS= read -r line; do
        printf '%s\n' "$directory/$line"
    done <"$directory/pack" >>"$in/pack"
    most=$((most - kilobytes)) room=$((room - 1))
}

# A later attempt may wait in the queue already, and needs its own.
forget() {
    for dfh_file in "${1%-*}"/attempt.*/env.sh "${1%-*}"/attempt.*/urls "${1%-*}"/attempt.*/private; do
        dfh_number=${dfh_file%/*}
        [ ! -e "$dfh_file" ] || [ "${dfh_number##*.}" -gt "${1##*-}" ] || rm -rf "$dfh_file"
    done
}

settle() {
    [ -e ".done/$1" ] || [ -e ".old/$1" ] || [ ! -e "${1%-*}/attempt.${1##*-}/exit.json" ] || echo 1 >".done/$1"
}

# An address that no new one replaces stays: what the job pulls may lie at the client by now, which then signs none.
# A job that ends just now removes its addresses after its marker is there.
renew() {
    directory=${1%-*}/attempt.${1##*-}
    if [ -e "$directory/urls" ]; then
        sed 's/ .*/ /' "$in/urls.$1" >"$in/renewed"
        grep -vFf "$in/renewed" "$directory/urls" >>"$in/urls.$1"
        mv "$in/urls.$1" "$directory/urls"
    fi
    [ ! -e "$directory/exit.json" ] || rm -f "$directory/urls"
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
    forget)
        forget "$name"
        [ ! -e ".done/$name" ] || set -- "$@" ".done/$name"
        ;;
    settle) settle "$name" ;;
    renew) renew "$name" ;;
    await) await "$name" ;;
    esac
done <"$in/questions"
[ $# -eq 0 ] || mv "$@" .old/
[ ! -s "$in/ended" ] || pack_up "$in/pack" | gzip -1 >"$in/tar"
frame ended ended 0 "$in/ended" "$in/tar"
echo end
rm -rf "$in"
