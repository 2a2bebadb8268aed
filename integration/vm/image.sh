#!/bin/sh
# Makes a root file system of host programs: image.sh DIRECTORY PROGRAM...
#
# Programs go to /usr/local/bin, the libraries they are linked to where they are here;
# busybox's applets are what scripts, tests and runtimes call by name.
set -eu
root=$1
shift
mkdir -p "$root/bin" "$root/sbin" "$root/usr/bin" "$root/usr/sbin" "$root/lib" "$root/lib64" \
    "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp" "$root/root" "$root/etc" "$root/var/tmp" "$root/vm"
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"

install -m 0755 /bin/busybox "$root/bin/busybox"
for applet in $("$root/bin/busybox" --list); do
    [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
done
for program; do
    place=$root/usr/local/bin/$(basename "$program")
    [ ! -e "$place" ] || { echo "image.sh: two programs are called $(basename "$program")" >&2; exit 2; }
    install -D -m 0755 "$program" "$place"
    # A static program has none, and ldd says so with a failure.
    for library in $(ldd "$program" 2>/dev/null | grep -o '/[^ ]*' || true); do
        [ -e "$root$library" ] || install -D -m 0755 "$library" "$root$library"
    done
done
