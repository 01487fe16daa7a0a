#!/bin/sh
# clean.sh ROOT DAYS   Remove what no live run needs: forgotten leaves at once, the rest after DAYS without a change.
# Answers lines "KIND NUMBER", framed (common.sh). What ended and was not fetched by anybody yet stays for DAYS, too.
set -u
umask 077
cd "$1" || exit 70
days=$2
echo "=dflow-hpc 1="

leaves=0
for file in .old/*; do
    [ -e "$file" ] || continue
    token=${file##*/}
    key=${token%-*}
    rm -rf "$key/attempt.${token##*-}" "$file" && leaves=$((leaves + 1))
    # The numbers stay as long as an attempt does: they are the fence.
    [ -n "$(find "$key" -maxdepth 1 -name 'attempt.*' 2>/dev/null)" ] || rm -rf "$key"
done
echo "leaves $leaves"

# remove KIND DIRECTORY: its old entries. A running job changes its leaf's directory at its end only, so DAYS must be
# longer than the longest job.
remove() {
    count=0
    for entry in "$2"/*; do
        [ -d "$entry" ] || continue
        [ -z "$(find "$entry" -maxdepth 1 -mtime "-$days" 2>/dev/null | head -n 1)" ] || continue
        rm -rf "$entry" && count=$((count + 1))
    done
    echo "$1 $count"
}
remove batches .batch
remove arrivals .in
remove cache .cas
count=0
for key in [a-z2-7]*; do
    [ -e "$key/current" ] || continue
    [ -z "$(find "$key" -maxdepth 2 -mtime "-$days" 2>/dev/null | head -n 1)" ] || continue
    rm -rf "$key" && rm -f .done/"$key"-* && count=$((count + 1))
done
echo "abandoned $count"
echo end
