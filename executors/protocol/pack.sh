#!/bin/sh
# pack.sh ROOT BATCH INDEX SIZE   Run SIZE leaves inside one job, one after the other: those of a batch from INDEX*SIZE on.
#
# Each is run by member.sh as if it were alone, with its own directory, claim, log and marker; a requeue of the job goes
# on with the first that has none. A signal goes to the leaf that runs, and ends the pack; USR2 only warns the leaf.
set -u
ended='' child='' interrupted=''
# shellcheck disable=SC2317  # called by traps
forward() {
    interrupted=1
    [ "$1" = USR2 ] || ended=1
    [ -z "$child" ] || kill -"$1" "$child" 2>/dev/null
}
# A background process of sh ignores INT.
trap 'forward TERM' TERM INT
trap 'forward XCPU' XCPU
trap 'forward USR2' USR2

number=$(($3 * $4)) after=$(($3 * $4 + $4))
total=$(wc -l <"$1/.batch/$2/members") || exit 1
[ "$after" -le "$total" ] || after=$total
while [ "$number" -lt "$after" ] && [ -z "$ended" ]; do
    /bin/sh "${0%/*}/member.sh" "$1" "$2" "$number" </dev/null &
    child=$!
    [ -z "$ended" ] || kill -TERM "$child" 2>/dev/null  # it came before there was a child to forward it to
    # A trap ends "wait" before the child has ended.
    while :; do
        interrupted=''
        wait "$child"
        [ -n "$interrupted" ] || break
    done
    child='' number=$((number + 1))
done
