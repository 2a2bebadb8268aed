#!/bin/sh
# Makes an image of a small Debian with systemd and the peers, and prints its path.
#
# mmdebstrap takes a minute, so it is kept: its name is a hash of this script and of the
# versions of the packages named here.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kept=$(cd "$here/../.." && pwd)/target/vm
packages='systemd systemd-sysv libpam-systemd dbus dbus-user-session kmod udev iproute2 procps busybox-static
    uidmap strace runc crun'

versions=$(apt-cache policy $packages 2>/dev/null | awk '/^[^ ]/ { name = $1 } $1 == "Candidate:" { print name, $2 }')
hash=$({ cat "$0"; echo "$versions"; } | sha256sum | cut -c1-12)
image=$kept/debian-systemd-$hash.erofs
if [ -f "$image" ]; then
    echo "$image"
    exit
fi

mkdir -p "$kept"
work=$(mktemp -d "$kept/unfinished.XXXXXX")
trap 'rm -rf "$work"' EXIT
# The host's own sources of the suite; without any, mmdebstrap takes Debian's mirror.
sources=$(grep -lE '^(deb |Suites:).*bookworm' /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
    /etc/apt/sources.list.d/*.sources 2>/dev/null || true)
# In a mount namespace of its own: nothing stays mounted when it is interrupted.
unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    mmdebstrap --variant=minbase --include="$(echo $packages | tr ' ' ,)" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$work/root" $sources >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; exit 1; }
# Without an answer to who this machine is, the first boot asks on the console.
echo vm >"$work/root/etc/hostname"
: >"$work/root/etc/machine-id"
mkdir -p "$work/root/vm"
cp "$here"/units/* "$work/root/etc/systemd/system/"
rm -rf "$work/root/var/cache/apt" "$work/root/var/lib/apt/lists"
mkfs.erofs --quiet -zlz4hc "$work/image" "$work/root" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
mv "$work/image" "$image"
echo "$image"
