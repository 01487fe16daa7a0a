#!/bin/sh
# pod.sh POLICY GRACE   Run the containers of a pod in one job. leaf.sh "exec"s it in the leaf's directory.
#
# pod.list has a line a container: KIND NAME TRIES PAUSE NEEDS (names with commas between, or "-"). KIND is
#   init      one after the other, before all that is neither init nor helper
#   helper    an init container that runs on: the next one does not wait for its end
#   main      starts when those that it needs have ended with 0; the pod ends when all mains have ended
#   sidecar   starts with the mains, and is told to end, as a helper is, when they have ended
# Its program is private/containers/NAME/leaf.sh. In pod/NAME are: "state", a line START END CODE for each run; "began",
# the time of the last start; "termination-log", what it says of its end; "log.txt", but of the first main, whose log is
# the leaf's.
# POLICY is the pod's restartPolicy, for mains and, but for Always, inits; helpers are always started again. That is done
# at once, then after 10 s, and then each time twice as long, up to 300 s, as a kubelet does it; after a run of ten minutes
# from the start. With a policy Never there are TRIES, PAUSE seconds apart.
# What is told to end gets TERM, and KILL after GRACE seconds. What a container leaves behind ends with the job.
# A signal that meets a shell which has just been forked may be lost, or end it unheard. So each that is told to end has a
# file "over" too, which it looks for when it can hear; before that ("up") no keeper gets a signal.
set -u
policy=$1 grace=$2 over=''
first=$(sed -n 's/^main \([^ ]*\) .*/\1/p' pod.list | head -n 1)

# A keeper: run a container for as long as it is to run. In a process of its own.
keep() {
    kind=$1 name=$2 tries=$3 pause=$4 over='' child='' timer='' back=0 code=0
    home=private/containers/$name log=pod/$name/log.txt
    [ "$name" != "$first" ] || log=log.txt
    [ "$kind" != helper ] || policy=Always
    [ "$kind" != sidecar ] || policy=Never
    if [ "$kind,$policy" = init,Always ]; then policy=OnFailure; fi
    trap 'tell_to_end' TERM
    : >"$home/up"
    if [ -e private/containers/.over ]; then
        over=1 code=143
        echo "$(date +%s) $(date +%s) 143" >"pod/$name/state"
    fi
    while [ "$tries" -gt 0 ] && [ -z "$over" ]; do
        run
        case $policy,$code in
        Always,* | OnFailure,[!0]*) pause=$back ;;
        Never,[!0]*) tries=$((tries - 1)) ;;
        *) break ;;
        esac
        back=$((back < 10 ? 10 : back < 150 ? back * 2 : 300))
        [ $((ended - began)) -lt 600 ] || back=0
        if [ "$tries" -gt 0 ] && [ "$pause" -gt 0 ] && [ -z "$over" ]; then rest "$pause"; fi
    done
    echo "$name $code" >&3
}

run() {
    : >"pod/$name/termination-log"
    began=$(date +%s)
    echo "$began" >"pod/$name/began"
    (cd "$home" && if [ -e over ]; then exit 143; fi && exec sh ./leaf.sh) </dev/null >>"$log" 2>&1 3>&- &
    attend $!
    code=$status
    [ -z "$timer" ] || kill "$timer" 2>/dev/null
    ended=$(date +%s)
    echo "$began $ended $code" >>"pod/$name/state"
    trouble
}

# attend PID   Wait for a child to which TERM is handed on; its exit code is then in $status.
attend() {
    child=$1
    [ -z "$over" ] || tell_to_end
    while :; do
        hit=''
        wait "$child"
        status=$?
        [ -n "$hit" ] || break # else a trap has ended "wait", not the child
    done
    child=''
}

rest() {
    ([ -e "$home/over" ] || exec sleep "$1") 3>&- &
    attend $!
}

tell_to_end() {
    hit=1 over=1
    : >"$home/over"
    [ -n "$child" ] || return 0
    kill -TERM "$child" 2>/dev/null
    [ -z "$timer" ] || return 0
    kill_later "$child" 3>&- >/dev/null 2>&1 &
    timer=$!
}

# It is ended itself when it is not needed, and takes its "sleep" along.
kill_later() {
    trap 'kill "$!"; exit 0' TERM
    sleep "$grace" &
    wait $!
    kill -KILL "$1"
    [ ! -e "$home/remove.sh" ] || sh "$home/remove.sh"
}

# What kept a container from being started at all is not its own failure: the leaf's then, and the pod ends.
trouble() {
    if [ -e "$home/runtime" ] && [ ! -s "$home/trouble" ] && [ -z "$over" ]; then
        { read -r codes && read -r words && read -r what; } <"$home/runtime"
        last=$(tail -n 1 "$log")
        case " $codes " in *" $code "*)
            case $last in "$words"*) printf '%s\n' "$what (rc $code): $last" >"$home/trouble" ;; esac
            ;;
        esac
    fi
    [ -s "$home/trouble" ] || return 0
    cp "$home/trouble" trouble
    rm -f .main
    policy=Never tries=0
    echo "- -" >&3
}

# begin KIND NAME TRIES PAUSE
begin() {
    mkdir -p "pod/$2"
    begun="$begun$2 " alive=$((alive + 1))
    if [ "$1" = main ]; then mains=$((mains + 1)) began_mains="$began_mains$2 "; fi
    keep "$@" 2>/dev/null & # a shell says there how a child has died
    keepers="$keepers $2=$!"
}

# Wait until a container has ended for good: $ended has " NAME=CODE" of each. A signal may come instead.
hear() {
    read -r name code <&3 || return 0
    if [ "$name" = - ]; then
        finish
        return 0
    fi
    ended="$ended$name=$code " alive=$((alive - 1))
    case $began_mains in *" $name "*) mains=$((mains - 1)) ;; esac
}

finish() {
    over=1
    : >private/containers/.over
    for keeper in $keepers; do
        [ ! -e "private/containers/${keeper%=*}/up" ] || kill -TERM "${keeper#*=}" 2>/dev/null
    done
}

# The code with which a container has ended, or nothing.
code_of() {
    case $ended in *" $1="*)
        found=${ended##*" $1="}
        echo "${found%% *}"
        ;;
    esac
}

# Start what can start; what needs something that has failed ends as Argo lets it end.
launch() {
    while read -r kind name tries pause needs <&4; do
        case $kind,$begun in init,* | helper,* | *,*" $name "*) continue ;; esac
        ready=1
        for need in $(echo "${needs#-}" | tr , ' '); do
            found=$(code_of "$need")
            [ "$found" = 0 ] || ready=''
            case $found in '' | 0) ;; *)
                mkdir -p "pod/$name"
                begun="$begun$name " ended="$ended$name=64 " again=1
                echo "$(date +%s) $(date +%s) 64" >"pod/$name/state"
                printf 'dependency "%s" exited with non-zero code: %s' "$need" "$found" >"pod/$name/termination-log"
                break
                ;;
            esac
        done
        [ -z "$ready" ] || begin "$kind" "$name" "$tries" "$pause"
    done 4<pod.list
}

begun=' ' began_mains=' ' ended=' ' keepers='' alive=0 mains=0 rc=0
rm -f private/containers/.over private/containers/*/over private/containers/*/up # of a job that was begun again
trap finish TERM
mkdir -p pod
mkfifo pod/.events && exec 3<>pod/.events && rm -f pod/.events || exit 64
while read -r kind name tries pause needs <&4; do
    case $kind in
    init)
        begin "$kind" "$name" "$tries" "$pause"
        init=$name
        while [ -z "$(code_of "$init")" ]; do hear; done
        rc=$(code_of "$init")
        ;;
    helper) begin "$kind" "$name" "$tries" "$pause" ;;
    esac
    if [ "$rc" -ne 0 ] || [ -n "$over" ]; then break; fi
done 4<pod.list
while [ "$rc" -eq 0 ] && [ -z "$over" ]; do
    again=''
    launch
    if [ -n "$again" ]; then continue; fi
    [ "$mains" -gt 0 ] || break
    hear
done
finish
while [ "$alive" -gt 0 ]; do hear; done
if [ "$rc" -eq 0 ]; then
    while read -r kind name tries pause needs <&4 && [ "$rc" -eq 0 ]; do
        [ "$kind" != main ] || rc=$(code_of "$name")
        rc=${rc:-143} # it was told to end before it began
    done 4<pod.list
fi
exit "$rc"
