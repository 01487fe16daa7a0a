#!/bin/sh
# fetch.sh ROOT <TAR >TAR   All outputs of leaves, large ones included. The tar has "tokens" and, last, "complete".
#
# With a file urls.<token> in it, outputs of that leaf go to the object storage first, as far as the job did not get them
# there; "unsent" in the answer says what fails.
set -u
umask 077
root=$1
cd "$root" || exit 70
bin=${0%/*}
# shellcheck source=executors/protocol/common.sh
. "${0%/*}/common.sh"

take_in
while read -r token; do
    directory=${token%-*}/attempt.${token##*-}
    if [ -e "$in/urls.$token" ]; then
        mv "$in/urls.$token" "$directory/urls"
        (cd "$directory" && DFH_ROOT=$root DFH_TOKEN=$token sh "$bin/stage.sh" out) >/dev/null 2>&1
        rm -f "$directory/urls"
    fi
    for file in pushed unsent; do
        [ ! -e "$directory/$file" ] || printf '%s\n' "$directory/$file"
    done
    while IFS= read -r line; do
        [ ! -e "$directory/$line" ] || printf '%s\n' "$directory/$line"
    done <"$directory/outputs.list"
done <"$in/tokens" >"$in/list"
echo "=dflow-hpc 1="
pack_up "$in/list"
echo end
rm -rf "$in"
