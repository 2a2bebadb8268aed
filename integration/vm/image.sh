#!/bin/sh
# Makes a root file system of host programs: image.sh DIRECTORY PROGRAM... [-- FILE...]
#
# Programs go to /usr/local/bin, files (programs, too, that others call by their path) to where they
# are here, and with them the libraries they are linked to; busybox's applets are what scripts, tests
# and runtimes call by name.
set -eu
root=$1
shift
mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/dev" "$root/proc" "$root/sys" \
    "$root/run" "$root/tmp" "$root/root" "$root/etc" "$root/var/tmp"
# As Debian has it: a library is found by either name.
for directory in bin sbin lib lib64; do
    ln -s "usr/$directory" "$root/$directory"
done
{
    echo root:x:0:0:root:/root:/bin/sh
    echo messagebus:x:100:102::/nonexistent:/bin/false
    echo nobody:x:65534:65534:nobody:/:/bin/sh
} >"$root/etc/passwd"
printf 'root:x:0:\nmessagebus:x:102:\nnogroup:x:65534:\n' >"$root/etc/group"
touch "$root/etc/subuid" "$root/etc/subgid"

install -m 0755 /bin/busybox "$root/bin/busybox"
for applet in $("$root/bin/busybox" --list); do
    [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
done

add() { # FILE PLACE
    # One that stands for an applet takes its place.
    [ ! -L "$root$2" ] || rm "$root$2"
    # With its mode: newuidmap is set-user-ID.
    install -D -m "$(stat -L -c %a "$1")" "$1" "$root$2"
    # A static program has none, and neither has a text; ldd says so with a failure.
    for library in $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*' || true); do
        [ -e "$root$library" ] || install -D -m 0755 "$library" "$root$library"
    done
}
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    place=/usr/local/bin/$(basename "$1")
    [ ! -e "$root$place" ] || { echo "image.sh: two programs are called $(basename "$1")" >&2; exit 2; }
    add "$1" "$place"
    shift
done
[ $# = 0 ] || shift
for file; do
    add "$file" "$file"
done
