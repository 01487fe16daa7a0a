#!/bin/sh
# stage.sh in       Put inputs into a leaf's directory, in which this runs. "trouble" says what fails.
# stage.sh check    After the program: note in "changed" which inputs it changed although others share them.
# stage.sh out      Put outputs into the object storage. "unsent" says what fails; again does what is left.
#
# inputs.list has lines KIND/NAME/MODE/PATH: "link" or "copy" .cas/NAME/data to PATH, "untar" it there (one top entry
# becomes PATH; of it only what a line "sub" before it says), or make the directory ("dir"). What the cache has not is
# pulled from the address "get.NAME". What many jobs share is read-only; a program may lift that, so that sizes and times
# are compared at the end, and what was changed leaves the cache.
# puts.list has lines N/KIND/PATH: "tar" goes packed to the address "put.N", "none" as it is: a file to "put.N", the files
# of a directory by the form "post.N", their keys below that of a line N/key/KEY. "pushed" lists what is there, in lines
# N/FORM/BYTES/SHA256/PATH. "urls" has lines "ID OPTION", options of curl for an address.
# ".bytes" counts: "pulled", "pushed", "spared" (pulled by an earlier job), each with a number.
set -u
umask 077
cas=$DFH_ROOT/.cas

fail() {
    printf '%s' "$1" >trouble
    exit 64
}

# transfer ID CURL'S-ARGUMENTS...: from or to an address; what went wrong is then in $words. Addresses come by a pipe: they
# are secrets, and arguments are for everybody to see. Repeated, because a network fails now and then.
transfer() {
    id=$1 try=0 words=''
    shift
    command -v curl >/dev/null || { words="there is no curl on $(uname -n)"; return 1; }
    while [ "$try" -lt 4 ]; do
        [ "$try" -eq 0 ] || sleep $((try * ${DFH_PAUSE:-2}))
        try=$((try + 1))
        code=$(sed -n "s/^$id //p" urls |
            curl -K - -sS --connect-timeout 30 --speed-limit 1 --speed-time 120 -w '%{http_code}' "$@" 2>.words)
        rc=$?
        case $rc/$code in 0/2??) return 0 ;; esac
        if [ "$rc" -ne 0 ]; then
            words=$(head -c 300 .words)
        else
            words="HTTP $code $(sed -n 's/.*<Code>\([^<]*\)<.*<Message>\([^<]*\)<.*/\1: \2/p' .answer 2>/dev/null | head -n 1)"
        fi
    done
    return 1
}

count() { printf '%s %s\n' "$1" "$2" >>.bytes; }
size() { echo $(($(wc -c <"$1"))); }
sha256() { sha256sum "$1" | sed 's/^\\*\([0-9a-f]*\).*/\1/'; }

# Bring NAME into the cache, once for all jobs that want it now; where locks do not work, some of them bring it in vain.
pull() {
    mkdir -p "$DFH_ROOT/.in/pull.$1" || fail "nothing can be written in $DFH_ROOT/.in"
    (
        flock 9 2>/dev/null
        [ ! -e "$cas/$1/data" ] || { count spared "$(size "$cas/$1/data")"; exit 0; }
        new=$DFH_ROOT/.in/pull.$1/$DFH_TOKEN
        rm -rf "$new" && mkdir -p "$new/$1" || exit 1
        : >"$new/$1/data"
        rm -f .answer
        ln -s "$new/$1/data" .answer  # an error's text comes in its place
        transfer "get.${1%x}" -o "$new/$1/data" || fail "an input could not be pulled: $words"
        found=$(sha256 "$new/$1/data")
        [ "$found" = "${1%x}" ] || fail "an input was pulled, and it is not what it should be: its SHA-256 is $found, not ${1%x}"
        count pulled "$(size "$new/$1/data")"
        case $1 in *x) chmod 500 "$new/$1/data" ;; *) chmod 400 "$new/$1/data" ;; esac
        [ -e "$cas/$1" ] || mv "$new/$1" "$cas/" || [ -e "$cas/$1" ] || fail "$cas cannot be written"
        rm -rf "$new"
    ) 9>"$DFH_ROOT/.in/pull.$1/lock" || { [ -s trouble ] || fail "an input could not be pulled into $cas"; exit 64; }
}

# A link where that works (not beyond 65,000 links on ext4), else a copy; .shared has what must not change.
link() {
    if ln "$cas/$1/data" "$2" 2>/dev/null; then
        printf '%s/%s/%s\n' "$(stat -c %s:%Y "$cas/$1/data")" "$1" "$2" >>.shared
    else
        copy "$1" "$2" 400
    fi
}

copy() {
    if ! { cp "$cas/$1/data" "$2" && chmod "$3" "$2"; } 2>.words; then
        fail "the input $2 could not be put in its place: $(cat .words)"
    fi
}

untar() {
    rm -rf .untar "$2"
    mkdir .untar || fail "the input $2 could not be unpacked"
    tar -tzf "$cas/$1/data" >.names 2>.words || fail "the input $2 is no archive: $(cat .words)"
    ! grep -qE '^/|(^|/)\.\.(/|$)' .names || fail "the input $2 is an archive with names that lead out of it"
    tar -xzf "$cas/$1/data" -C .untar 2>.words || fail "the input $2 could not be unpacked: $(head -c 300 .words)"
    for top in .untar/* .untar/.[!.]* .untar/..?*; do
        [ ! -e "$top" ] || mv "$top${sub:+/$sub}" "$2" || fail "the input $2: there is no $sub in it"
    done
    sub=''
    rm -rf .untar .names
}

dir() { mkdir -p "$2"; }

push() { # N FORM FILE PATH ADDRESS CURL'S-ARGUMENTS...
    number=$1 form=$2 file=$3 path=$4 address=$5
    shift 5
    line="$number/$form/$(size "$file")/$(sha256 "$file")/$path"
    ! grep -qxF -- "$line" pushed || return 0
    transfer "$address" -o .answer "$@" || { printf '%s' "${path:-an output} could not be stored: $words" >unsent; exit 65; }
    count pushed "$(size "$file")"
    printf '%s\n' "$line" >>pushed
}

push_tar() { # N PATH
    { tar -chf - -C "$(dirname "./$2")" -- "$(basename "./$2")" 2>.words; echo $? >.rc; } | gzip -1 >.packed
    # A link to nothing is left out; anything else that tar could not read counts.
    if [ "$(cat .rc)" -ne 0 ] && [ -z "$(find -L "$2" -type l 2>/dev/null | head -n 1)" ]; then
        printf '%s' "$2 could not be packed: $(head -c 300 .words)" >unsent
        exit 65
    fi
    push "$1" tgz .packed '' "put.$1" -T .packed
}

push_none() { # N PATH KEY
    if [ ! -d "$2" ]; then
        form='file'
        [ "$(head -c 2 "$2" | od -An -tx1 | tr -d ' ')" != 1f8b ] || form='gzip'
        push "$1" "$form" "$2" '' "put.$1" -T "$2"
        return
    fi
    : >.empty
    (cd "$2" && find -L . -type f && find -L . -type d) >.found 2>/dev/null
    while IFS= read -r path; do
        path=${path#.}
        path=${path#/}
        if [ ! -d "$2/$path" ]; then
            # Under a plain name: curl takes some characters for more than that.
            cp "$2/$path" .packed 2>.words || { printf '%s' "an output could not be read: $(cat .words)" >unsent; exit 65; }
            push "$1" file .packed "$path" "post.$1" --form-string "key=$3/$path" -F "file=@.packed"
        elif [ -z "$(ls -A "$2/$path")" ]; then
            push "$1" dir .empty "$path" "post.$1" --form-string "key=$3/${path:+$path/}.empty_dir" -F "file=@.empty"
        fi
    done <.found
}

case $1 in
in)
    rm -f .shared .bytes
    sub=''
    while IFS=/ read -r kind name mode path; do
        case $kind in sub) sub=$path; continue ;; esac
        mkdir -p "$(dirname "./$path")"
        if [ "$kind" != dir ]; then
            if [ ! -e "$cas/$name/data" ]; then
                grep -q "^get\.${name%x} " urls 2>/dev/null ||
                    fail "the input $path is not in the cache of this machine any more; run the step again"
                pull "$name"
            elif grep -q "^get\.${name%x} " urls 2>/dev/null; then
                count spared "$(size "$cas/$name/data")"
            fi
            touch -c "$cas/$name"
            rm -f "$path" 2>/dev/null
        fi
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
out)
    rm -f unsent .answer
    : >>pushed
    # shellcheck disable=SC2094
    while IFS=/ read -r number kind path; do
        if [ "$kind" = key ] || [ ! -e "$path" ]; then continue; fi
        key=$(sed -n "s/^$number\/key\///p" puts.list)
        "push_$kind" "$number" "$path" "$key"
    done <puts.list
    rm -f .packed
    ;;
esac
