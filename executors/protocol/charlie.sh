#!/bin/sh
# charlie.sh IMAGE NAMES [--bind SOURCE:TARGET]... [--cd DIRECTORY] [OPTION]... ./.image -- WORD...
#   Run words in an image, a directory, by Charliecloud's ch-run; in the leaf's directory.
#
# ch-run mounts only where the image has something already, and the image must stay as it is. So the image is shown
# again, entry by entry and read-only, in a root in memory, in which mount points can be made. That root is seen by this
# process only and gone with it. NAMES are the variables that env.sh sets: the program sees them and the image's own.
set -u

refuse() {
    printf '%s\n' "$1" | tr '\n' ' ' >trouble
    exit 64
}

if [ "$1" != inside ]; then
    [ -d "$1" ] || refuse "the image $1 is no directory on $(uname -n); for Charliecloud it must be one: see images in the profile"
    said=$(unshare -rm true 2>&1) ||
        refuse "$(uname -n) gives no user namespaces ($said), which Charliecloud needs: ask the site, or choose another runtime"
    exec unshare -rm sh "$0" inside "$(id -u)" "$(id -g)" "$@"
fi
uid=$2 gid=$3 image=$4 names=$5
shift 5
ch_run=$(command -v ch-run) || refuse "there is no ch-run on $(uname -n)"
root=$PWD/.image
line_end='
'
opened=$line_end # directories of the image in which something must be made, each between line ends
targets=''       # what is mounted so far, each with a line end

# open_for PATH: note where something must be made for it to exist.
open_for() {
    while IFS= read -r target; do
        case $1 in "${target:-//}"/*) return ;; esac # it will be made in what is mounted there
    done <<TARGETS
$targets
TARGETS
    at='' passed='' rest=${1#/}
    while [ -n "$rest" ]; do
        part=${rest%%/*}
        [ ! -h "$image$at/$part" ] || refuse "$1 leads through a link of the image $image; choose another path"
        [ -e "$image$at/$part" ] || break
        at=$at/$part
        passed=$passed$at$line_end
        case $rest in */*) rest=${rest#*/} ;; *) return ;; esac
    done
    opened=$opened$passed
}

# make SOURCE TARGET: a mount point, and the mount. Without a source: a directory.
make() {
    if [ -z "$1" ] || [ -d "$1" ]; then
        mkdir -p "$root$2"
    else
        target=$root$2
        mkdir -p "${target%/*}" && { [ -e "$target" ] || : >"$target"; }
    fi || refuse "$2 cannot be made in the image $image"
    [ -z "$1" ] || mount -o rbind "$1" "$root$2" || refuse "$1 could not be mounted at $2"
}

# show DIRECTORY: what is in it. What the file system forbids (nosuid, nodev) cannot be allowed by a new mount.
show() {
    for entry in "$image$1"/* "$image$1"/.[!.]*; do
        name=${entry##*/}
        if [ -h "$entry" ]; then
            cp -P "$entry" "$root$1/$name"
            continue
        elif [ -d "$entry" ]; then
            mkdir "$root$1/$name"
            case $opened in *"$line_end$1/$name$line_end"*)
                show "$1/$name"
                continue
                ;;
            esac
        elif [ -e "$entry" ]; then
            : >"$root$1/$name"
        else
            continue
        fi
        mount -o rbind "$entry" "$root$1/$name" || refuse "$entry of the image could not be mounted"
        mount -o remount,bind,ro "$root$1/$name" 2>/dev/null ||
            mount -o remount,bind,ro,nosuid,nodev "$root$1/$name" 2>/dev/null
    done
}

# each FUNCTION ARGUMENT...: call it with the source and the target of each mount, in order.
each() {
    call=$1
    shift
    while [ "$1" != -- ]; do
        case $1 in
        --bind) "$call" "${2%%:*}" "${2#*:}" && shift ;;
        --cd) "$call" '' "$2" && shift ;;
        esac
        shift
    done
}
note() {
    open_for "$2"
    [ -z "$1" ] || targets=$targets$2$line_end
}

each note "$@"
{ mkdir -p "$root" && mount -t tmpfs -o mode=755,size=64m image "$root"; } || refuse "no root for the image could be made"
show ''
mkdir -p "$root/dev" "$root/proc" "$root/sys" "$root/tmp"
each make "$@"

hosts=$(export -p | sed -n -e 's/^export \([A-Za-z_][A-Za-z0-9_]*\).*/\1/p' -e 's/^declare -x \([A-Za-z_][A-Za-z0-9_]*\).*/\1/p')
: >image.env
[ ! -f "$image/ch/environment" ] || while IFS= read -r line; do
    case " $names " in *" ${line%%=*} "*) ;; *) printf '%s\n' "$line" ;; esac
done <"$image/ch/environment" >image.env
set -- --set-env=image.env "$@"
case " $names " in *" HOME "*) ;; *) set -- --set-env=HOME=/tmp "$@" ;; esac
case " $names " in *" PATH "*) ;; *)
    set -- --set-env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
    ;;
esac
for name in $hosts; do
    case " $names " in *" $name "*) ;; *) set -- "--unset-env=$name" "$@" ;; esac
done
user=${USER:-$uid} # ch-run wants it
# shellcheck source=/dev/null
. ./env.sh
case " $names " in *" USER "*) ;; *) set -- --unset-env=USER "$@" ;; esac
export USER="${USER:-$user}"
exec "$ch_run" --write --uid="$uid" --gid="$gid" "$@"
