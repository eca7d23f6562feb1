# Becomes an engine: run in new network and mount namespaces.
# Arguments: the engine's files, its state, the machine's temporary folder, then the engine's command.
set -eu
root=$1 state=$2 temporary=$3
shift 3
ip link set lo up
# As on a fresh machine: dockerd turns it on itself, and then drops what it does not know.
echo 0 >/proc/sys/net/ipv4/ip_forward
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
# Of the machine's files the engine sees these two: tests mount what they write to the first.
for shared in "$temporary" "$state"; do
    mkdir -p "$root$shared"
    mount --rbind "$shared" "$root$shared"
done
cd "$root"
mkdir -p machine
# Not chroot: runc enters the mount namespace anew for an exec, and would land in the machine's files.
pivot_root . machine
cd /
PATH=/usr/sbin:/usr/bin
umount -l /machine
# Holds the namespaces for those who enter: a thread of a Go program, even its first, may be left in a
# container's.
sleep infinity &
echo $! >"$state/holder"
exec env -i PATH=$PATH HOME=/root TMPDIR="$state/tmp" "$@"
