#!/bin/sh
# fetch.sh ROOT <TAR >TAR   All outputs of leaves, large ones included. The tar has "tokens" and, last, "complete".
set -u
umask 077
root=$1
cd "$root" || exit 70
# shellcheck source=executors/protocol/common.sh
. "${0%/*}/common.sh"

take_in
while read -r token; do
    directory=${token%-*}/attempt.${token##*-}
    while IFS= read -r line; do
        [ ! -e "$directory/$line" ] || printf '%s\n' "$directory/$line"
    done <"$directory/outputs.list"
done <"$in/tokens" >"$in/list"
echo "=dflow-hpc 1="
pack_up "$in/list"
echo end
rm -rf "$in"
