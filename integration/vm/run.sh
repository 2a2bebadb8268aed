#!/bin/sh
# Runs conformance tests in VMs under qemu's own emulation: pure cgroup v2 with every
# controller, on Debian 12's two kernels. One boot a kernel; closes with totals.
#
#     run.sh [--kernel 6.1|6.12]... [--runtime PROGRAM]... [--all | --filter TEXT...]
#            [--limit SECONDS] [--verbose] [--command LINE | --shell]
#
# --kernel   both, if not given          --all      the whole suite, not what `make test` runs
# --runtime  target/dist/xebec           --filter   tests whose names contain TEXT
# --limit    of one VM, in seconds       --verbose  every line that the VM wrote
# --command  this instead of tests       --shell    a shell on the VM's console
#
# What the VM wrote stays in target/vm/out.KERNEL, its console in target/vm/console.KERNEL.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
kept=$repository/target/vm

usage() { awk 'NR > 1 && /^#/ { sub(/^# ?/, ""); print; next } NR > 1 { exit }' "$0" >&2; exit 2; }

# What each kernel is asked in `make test`: the groups that need controllers, and of the
# others a few that lean on the kernel's version.
sample='cgroups. resources. update. events. devices.'

kernels= runtimes= filters= limit=900 verbose= command= shell=
while [ $# -gt 0 ]; do
    case $1 in
    --kernel) kernels="$kernels ${2?}"; shift ;;
    --runtime) runtimes="$runtimes $(readlink -f "$(command -v "${2?}")")"; shift ;;
    --filter) filters="$filters ${2?}"; shift ;;
    --all) filters=. ;;
    --limit) limit=${2?}; shift ;;
    --command) command=${2?}; shift ;;
    --verbose) verbose=1 ;;
    --shell) shell=1 ;;
    *) usage ;;
    esac
    shift
done
kernels=${kernels:-6.12 6.1}
runtimes=${runtimes:-$repository/target/dist/xebec}
filters=${filters:-$sample}
runner=$repository/target/debug/xebec-integration

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$kept"

# An initramfs of the kernel's modules and what to run; a few megabytes, made for each boot.
make_initramfs() { # KERNEL_DIRECTORY
    rm -rf "$work/initramfs"
    mkdir -p "$work/initramfs/bin" "$work/initramfs/root" "$work/initramfs/lower" "$work/initramfs/upper" \
        "$work/initramfs/proc" "$work/initramfs/sys" "$work/initramfs/dev"
    cp -L /bin/busybox "$work/initramfs/bin/busybox"
    cp -r "$1/modules" "$work/initramfs/modules"
    install -m 0755 "$here/init" "$work/initramfs/init"
    cp "$work/command" "$work/initramfs/command"
    (cd "$work/initramfs" && find . | cpio --quiet -o -H newc) >"$work/initramfs.cpio"
}

make_image() {
    # shellcheck disable=SC2086
    sh "$here/image.sh" "$work/image" "$(command -v ip)" "$runner" $runtimes
    install -m 0755 "$here/boot" "$work/image/sbin/init"
    [ -z "$shell" ] || touch "$work/image/vm/interactive"
    mkfs.erofs --quiet --all-root "$work/image.erofs" "$work/image" >/dev/null
}

make_command() {
    {
        echo '#!/bin/busybox sh'
        if [ -n "$command" ]; then
            echo "$command"
        else
            printf 'exec xebec-integration --jobs 2 --time-scale 4 --progress'
            for runtime in $runtimes; do printf ' --runtime %s' "$(basename "$runtime")"; done
            for filter in $filters; do printf ' --filter %s' "$filter"; done
            echo
        fi
    } >"$work/command"
}

boot() { # KERNEL_DIRECTORY OUT CONSOLE
    truncate -s 64M "$work/scratch"
    if [ -n "$shell" ]; then
        set -- "$1" "$2" mon:stdio
    else
        set -- "$1" "$2" "file:$3"
    fi
    timeout --foreground -s KILL "$limit" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1G \
        -nodefaults -no-user-config -display none -no-reboot -serial "$3" \
        -device virtio-serial-pci -chardev "file,id=out,path=$2" -device virtserialport,chardev=out,name=out \
        -kernel "$1/vmlinuz" -initrd "$work/initramfs.cpio" \
        -append 'console=ttyS0 quiet panic=-1 mitigations=off' \
        -drive "file=$work/image.erofs,format=raw,if=virtio,readonly=on" \
        -drive "file=$work/scratch,format=raw,if=virtio"
}

# A test that failed, with its transcript, and the totals; everything on request.
show() { # OUT
    if [ -n "$verbose$command" ]; then
        cat "$1"
    else
        awk '/^# +[0-9.]+ s / { next } /^ok / { failed = 0 } /^not ok / { failed = 1 }
            failed || /^#/ || / passed, / { print }' "$1"
    fi
}

# One VM; what it left unsaid is one failure.
test_on() { # KERNEL
    out=$kept/out.$1 console=$kept/console.$1 status=0
    directory=$(sh "$here/kernel.sh" "$1")
    echo "== Linux $1: $(basename "$directory")"
    make_initramfs "$directory"
    rm -f "$out" "$console"
    boot "$directory" "$out" "$console" || status=$?
    [ -z "$shell" ] || return 0
    show "$out"
    said=$(sed -n 's/^# vm: exit status //p' "$out")
    if [ -n "$said" ]; then
        return "$said"
    fi
    echo "not ok - the VM ended without a status (qemu's: $status; 137 is its limit of $limit s)."
    echo "  It wrote last:"
    tail -n 10 "$out" | sed 's/^/    /'
    echo '  Its console ends:'
    tail -n 30 "$console" | sed 's/^/    /'
    echo '0 passed, 1 failed, 0 skipped'
    return 1
}

make_image
make_command
failed=0
for kernel in $kernels; do
    test_on "$kernel" || failed=1
done
exit "$failed"
