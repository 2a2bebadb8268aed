#!/bin/sh
# Fetches one of Debian's kernels and prints the directory it is in.
#
#     kernel.sh 6.1|6.12
#
# The package is unpacked, not installed: vmlinuz, and modules/ with the modules that a VM
# loads and `order`, their names in the order of loading. The directory's name is the
# package's version and the hash of this script: another version, or other modules, are
# another directory, and one that is there is whole.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kept=$(cd "$here/../.." && pwd)/target/vm

# The packages that depend on the newest kernel of a series.
case ${1-} in
6.1) newest=linux-image-cloud-amd64 ;;
6.12) newest=linux-image-6.12-cloud-amd64 ;;
*) echo "kernel.sh: a kernel is 6.1 or 6.12, not ${1-}" >&2; exit 2 ;;
esac
# Some are built into one kernel and modules of another. bfq makes io.bfq.weight, zram swap, by lzo-rle on 6.1.
wanted='virtio_pci virtio_blk virtio_console erofs overlay loop veth bfq zram lzo-rle'

package_of() { apt-cache depends "$newest" 2>/dev/null | awk '/Depends: linux-image-/ { print $2; exit }'; }
package=$(package_of)
if [ -z "$package" ]; then
    apt-get update -q >&2
    package=$(package_of)
fi
[ -n "$package" ] || { echo "kernel.sh: apt knows no package $newest" >&2; exit 1; }
version=$(apt-cache show --no-all-versions "$package" | awk '$1 == "Version:" { print $2; exit }')
directory=$kept/$package-$version-$(sha256sum "$0" | cut -c1-12)
if [ -d "$directory" ]; then
    echo "$directory"
    exit
fi

mkdir -p "$kept"
work=$(mktemp -d "$kept/unfinished.XXXXXX")
trap 'rm -rf "$work"' EXIT
(
    cd "$work"
    # The lists may name a version that the archive has replaced since.
    fetch() { apt-get -q -o APT::Sandbox::User=root download "$package=$version"; }
    fetch || { apt-get update -q && fetch; }
    dpkg -x ./*.deb unpacked
    release=$(ls unpacked/lib/modules)
    depmod -b unpacked "$release"
    mkdir -p kernel/modules
    cp "unpacked/boot/vmlinuz-$release" kernel/vmlinuz
    for module in $wanted; do
        modprobe -d "$PWD/unpacked" -S "$release" --show-depends "$module"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >modules
    while read -r path; do
        name=$(basename "${path%.xz}")
        case $path in
        *.xz) xz -dc "$path" >"kernel/modules/$name" ;;
        *) cp "$path" "kernel/modules/$name" ;;
        esac
        echo "$name" >>kernel/modules/order
    done <modules
) >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
# Two at once fetch the same: the second finds it there.
mv -T "$work/kernel" "$directory" 2>/dev/null || [ -d "$directory" ]
echo "$directory"
