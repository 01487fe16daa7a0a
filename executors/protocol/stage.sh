#!/bin/sh
# stage.sh in       Put what a leaf shares with others into its directory, in which this runs. "trouble" says what fails.
# stage.sh check    After the program: note in "changed" which of that it changed in place.
#
# inputs.list has lines KIND/NAME/MODE/PATH: "link" or "copy" .cas/NAME/data to PATH. What many jobs share is read-only;
# a program may lift that, so that sizes and times are compared at the end, and what was changed leaves the cache.
set -u
umask 077
cas=$DFH_ROOT/.cas

fail() {
    printf '%s' "$1" >trouble
    exit 64
}

# A link where that works (not beyond 65,000 links on ext4), else a copy; .shared has what must not change.
link() {
    if ln "$cas/$1/data" "$2" 2>/dev/null; then
        printf '%s/%s/%s\n' "$(stat -c %s:%Y "$cas/$1/data")" "$1" "$2" >>.shared
    else
        copy "$@" 400
    fi
}

copy() {
    if ! { cp "$cas/$1/data" "$2" && chmod "$3" "$2"; } 2>trouble; then
        fail "the input $2 could not be put in its place: $(cat trouble)"
    fi
    rm -f trouble
}

case $1 in
in)
    rm -f .shared
    while IFS=/ read -r kind name mode path; do
        [ -e "$cas/$name/data" ] || fail "the input $path is not in the cache of this machine any more; run the step again"
        touch -c "$cas/$name"
        rm -f "$path"
        "$kind" "$name" "$path" "$mode"
    done <inputs.list
    ;;
check)
    [ ! -e .shared ] || while IFS=/ read -r before name path; do
        now=$(stat -c %s:%Y "$cas/$name/data" 2>/dev/null) || continue
        [ "$now" = "$before" ] || {
            printf '%s\n' "$path" >>changed
            rm -rf "${cas:?}/$name"
        }
    done <.shared
    ;;
esac
