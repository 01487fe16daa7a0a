#!/bin/sh
# Process 1 of one host of the rig: builds the host's own file system and then only keeps its namespaces alive.
#
# A host sees the machine's /usr (read-only) and a copy of its /etc; all else is its own or its cluster's: nothing of
# the checkout, of the other cluster or of the tests' keys can be found there. A bind mount over single files of the
# machine's /etc would be lost whenever a package replaces one of them by rename; hence the copy.
#
# In the environment: HOST; SITE and RUN, directories of the rig; HOME_THERE; PASSWD, the user's line; CGROUP, a path
# below a cgroup v1 controller, or nothing.
set -eu
root=$RUN/root-$HOST
exec 9> "$RUN/$HOST.ready"
hostname "$HOST"

mkdir -p "$root"
mount -t tmpfs -o mode=755,size=128m "$HOST" "$root"
cd "$root"
mkdir -p usr etc dev proc sys root tmp old scratch quota ".$HOME_THERE" run/munge run/slurm run/mysqld run/sshd run/lock \
  var/log/slurm var/log/munge var/lib/munge var/lib/slurm var/lib/mysql var/spool/slurmd var/tmp
chmod 1777 tmp var/tmp
ln -s ../run var/run
for link in bin sbin lib lib32 lib64 libx32; do
  if [ -L "/$link" ]; then cp -P "/$link" .; fi
done
cp -a /etc/. etc/
rm -rf etc/ssh etc/slurm etc/munge
mkdir etc/ssh etc/slurm etc/munge
cp "$SITE/hosts" etc/hosts
echo "$PASSWD" >> etc/passwd
user=${PASSWD%%:*}
echo "$user:*:19000::::::" >> etc/shadow
echo "$user:x:$(echo "$PASSWD" | cut -d: -f4):" >> etc/group

mount --bind /usr usr
mount -o remount,bind,ro usr
mkdir -p "$SITE/local/$HOST" "$SITE/spool/$HOST"
mount --bind "$SITE/local/$HOST" usr/local/bin
mount --bind "$SITE/slurm" etc/slurm
mount --bind "$SITE/munge" etc/munge
mount --bind "$SITE/ssh" etc/ssh
mount --bind "$SITE/log" var/log/slurm
mount --bind "$SITE/state" var/lib/slurm
mount --bind "$SITE/mysql" var/lib/mysql
mount --bind "$SITE/spool/$HOST" var/spool/slurmd
mount --bind "$SITE/scratch" scratch
mount --bind "$SITE/quota" quota
mount --bind "$SITE/home" ".$HOME_THERE"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=1777,size=64m shm dev/shm
mount --rbind /sys sys
# This host's corner of the two controllers that Slurm uses, as if it were their root.
if [ -n "$CGROUP" ]; then
  for controller in memory freezer; do
    mkdir -p "/sys/fs/cgroup/$controller/$CGROUP/$HOST"
    mount --bind "/sys/fs/cgroup/$controller/$CGROUP/$HOST" "sys/fs/cgroup/$controller"
  done
fi
chown munge:munge etc/munge/munge.key run/munge var/log/munge var/lib/munge
chown slurm:slurm run/slurm
chown mysql:mysql run/mysqld

pivot_root . old
cd /
umount -l /old
rmdir /old
echo ready >&9
exec 9>&-
# Steps of jobs and sessions of sshd become children of process 1; with the signal ignored the kernel reaps them.
exec env --ignore-signal=CHLD sleep infinity
