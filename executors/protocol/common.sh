# shellcheck shell=sh
# Shared by the protocol's scripts: how an answer is framed, and what became of a submission. Sourced, in $ROOT.
#
# An answer is a line "=dflow-hpc 1=" (a login shell may print whatever it likes before it), frames, and a line "end".
# A frame is "frame NAME WORD RC N M", N bytes and M bytes. Without "end" an answer was cut and counts for nothing.

# Seconds that one submit command may take; then it is killed, and what it did is looked up.
bound=${DFH_BOUND:-120}

# Only before anything began: the exit code says so.
give_up() {
    echo "dflow-hpc: $1" >&2
    exit 70
}

# frame NAME WORD RC [FILE [FILE]]
frame() {
    dfh_n=0 dfh_m=0
    [ -s "${4-}" ] && dfh_n=$(wc -c <"$4")
    [ -s "${5-}" ] && dfh_m=$(wc -c <"$5")
    echo "frame $1 $2 $3" $((dfh_n)) $((dfh_m))
    [ "$dfh_n" -eq 0 ] || cat "$4"
    [ "$dfh_m" -eq 0 ] || cat "$5"
}

# Unpack stdin into a new directory, whole or not at all; its name is then in $in.
take_in() {
    mkdir -p .in .done .old .batch .cas || give_up "nothing can be written in $PWD"
    in=.in/$$.$(date +%s)
    mkdir "$in" || give_up "$in exists"
    # A cut stream leaves tar without complaint when it is cut between two members: the last member is the proof.
    if ! tar -xzf - -C "$in" 2>"$in.err" || [ ! -e "$in/complete" ]; then
        dfh_text=$(head -c 500 "$in.err")
        rm -rf "$in" "$in.err"
        give_up "what was sent did not arrive whole in $PWD: $dfh_text"
    fi
    rm -f "$in.err"
}

# pack_up LIST   Write a tar of the files in LIST to stdout. Not "tar -T", which busybox does not have.
# -h: an output may be a link to where the program left it. A link to nothing is left out, and counts as missing.
pack_up() {
    set -f
    IFS='
'
    # shellcheck disable=SC2046
    set -- $(cat "$1")
    unset IFS
    set +f
    tar -chf - "$@" 2>/dev/null
}

# Say whether the submission that "PID:HOST:TIME" began may still be at work: the owner, or what it left behind.
at_work() {
    dfh_pid=${1%%:*} dfh_time=${1##*:} dfh_host=${1#*:}
    [ $(($(date +%s) - dfh_time)) -lt $((bound + 60)) ] || return 1
    [ "${dfh_host%:*}" = "$(uname -n)" ] || return 0
    for dfh_file in /proc/[0-9]*/stat; do
        { read -r dfh_line <"$dfh_file"; } 2>/dev/null || continue
        # After the name: state, parent, group, session.
        # shellcheck disable=SC2086
        set -- ${dfh_line##*) }
        [ "$4" = "$dfh_pid" ] && [ "$1" != Z ] && return 0
    done
    return 1
}

# Frame what is known of a batch:
#   answered  the submit command ended: its exit code and outputs
#   running   a submission is at work: ask again
#   begun     one began, is not at work any more, and left no answer: unclear, look it up
#   sealed    none began, and none ever will
#   absent    none began yet
state() {
    dfh_home=.batch/$1
    answered "$1" && return
    dfh_word=absent
    if dfh_owner=$(readlink "$dfh_home/submit.lock"); then
        case $dfh_owner in
        sealed) dfh_word=sealed ;;
        *) if at_work "$dfh_owner"; then dfh_word=running; else dfh_word=begun; fi ;;
        esac
    fi
    # Again: it may have come while we looked.
    answered "$1" || frame "$1" "$dfh_word" 0
}

answered() {
    { read -r dfh_rc <"$dfh_home/submit.rc"; } 2>/dev/null &&
        frame "$1" answered "$dfh_rc" "$dfh_home/submit.out" "$dfh_home/submit.err"
}
