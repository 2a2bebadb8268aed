#!/bin/sh
# Runs conformance tests in VMs under qemu's own emulation: pure cgroup v2 with every
# controller, on Debian 12's two kernels. One boot a kernel; closes with totals.
#
#     run.sh [--kernel 6.1|6.12]... [--runtime PROGRAM [--userns|--as-user]]... [--small | --all | --filter TEXT...]
#            [--systemd] [--limit SECONDS] [--verbose] [--command LINE | --shell]
#
# --kernel   both, if not given          --small    what `make test` runs: the tests of small.KERNEL
# --runtime  target/dist/xebec           --all      the whole suite
# --filter   tests whose names contain TEXT
# --userns, --as-user  how the runtime before it is called; without any, root and, in part, a user call xebec
# --systemd  a small Debian with systemd as PID 1, instead of busybox
# --limit    of one VM, in seconds (--small: 600, or what comes after it; otherwise 1200)  --verbose  every line that the VM wrote
# --command  this instead of tests       --shell    a shell on the VM's console
#
# What the VM wrote stays in target/vm/out.KERNEL, its console in target/vm/console.KERNEL.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
kept=$repository/target/vm

usage() { awk 'NR > 1 && /^#/ { sub(/^# ?/, ""); print; next } NR > 1 { exit }' "$0" >&2; exit 2; }

# What each kernel is asked without any of these: the groups that need controllers. Of an ordinary user those where
# the cgroups are delegated.
sample='cgroups. cgroup_refusals. resources. update. events. devices. systemd.'
sample_of_user='cgroup_refusals. resources. rootless. systemd.'

kernels= runtimes= programs= filters= limit=1200 verbose= command= shell= systemd= small=
while [ $# -gt 0 ]; do
    case $1 in
    --kernel) kernels="$kernels ${2?}"; shift ;;
    --runtime)
        program=$(readlink -f "$(command -v "${2?}")")
        runtimes="$runtimes --runtime $(basename "$program")"
        case " $programs " in *" $program "*) ;; *) programs="$programs $program" ;; esac
        shift
        ;;
    --userns | --as-user) runtimes="$runtimes $1" ;;
    --filter) filters="$filters --filter ${2?}"; shift ;;
    --small) small=1 limit=600 ;;
    --all) filters='--filter .' ;;
    --limit) limit=${2?}; shift ;;
    --command) command=${2?}; shift ;;
    --systemd) systemd=1 ;;
    --verbose) verbose=1 ;;
    --shell) shell=1 ;;
    *) usage ;;
    esac
    shift
done
kernels=${kernels:-6.12 6.1}
programs=${programs:-$repository/target/dist/xebec}
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
    cp -r "$work/vm" "$work/initramfs/vm"
    (cd "$work/initramfs" && find . | cpio --quiet -o -H newc) >"$work/initramfs.cpio"
}

# What tests call by its path: a service manager and a bus of their own, what maps ids for a user, and what can more than
# busybox's.
called='/lib/systemd/systemd /lib/systemd/systemd-shutdown /usr/bin/systemctl /usr/bin/dbus-daemon
    /usr/share/dbus-1/system.conf /usr/share/dbus-1/session.conf /usr/share/dbus-1/system.d/org.freedesktop.systemd1.conf
    /usr/bin/newuidmap /usr/bin/newgidmap /usr/sbin/ip /bin/bash /usr/bin/setpriv /usr/bin/unshare /sbin/mkfs.ext4'

make_image() {
    # shellcheck disable=SC2086
    sh "$here/image.sh" "$work/image" "$runner" $programs -- $called
    image=$work/image.erofs
    mkfs.erofs --quiet --all-root "$image" "$work/image" >/dev/null
}

only() { printf ' --filter %s' "$@"; }
listed() { sed '/^#/d; s/^/ --filter /' "$here/$1" | tr -d '\n'; }
tests() { echo "xebec-integration --jobs 2 --time-scale 4 --progress $1 $2 || failed=1"; }

# /vm of the VM: what to run, and what runs it.
make_vm_directory() { # KERNEL
    rm -rf "$work/vm"
    mkdir "$work/vm"
    install -m 0755 "$here/boot" "$here/service" "$work/vm"
    if [ -n "$systemd" ]; then
        # The programs that this image lacks; its own libraries are the host's.
        mkdir "$work/vm/bin"
        # shellcheck disable=SC2086
        install -m 0755 "$runner" $programs "$work/vm/bin"
        echo /sbin/init
    else
        echo /vm/boot
    fi >"$work/vm/init"
    [ -z "$shell" ] || touch "$work/vm/interactive"
    {
        echo '#!/bin/busybox sh'
        if [ -n "$command" ]; then
            echo "$command"
        elif [ -n "$small" ]; then
            tests "${runtimes:---runtime xebec}" "$(listed "small.$1")"
            for mode in userns as-user; do
                [ ! -f "$here/small.$1.$mode" ] || tests "--runtime xebec --$mode" "$(listed "small.$1.$mode")"
            done
        elif [ -n "$runtimes$filters" ]; then
            tests "${runtimes:---runtime xebec}" "${filters:-$(only $sample)}"
        else
            tests '--runtime xebec' "$(only $sample)"
            tests '--runtime xebec --as-user' "$(only $sample_of_user)"
        fi
        echo 'exit $failed'
    } >"$work/vm/command"
    chmod 0755 "$work/vm/command"
}

# Without them a test takes three times as long. qemu translates a program once for each address that it runs at; and
# waiting for all CPUs to pass by, which unshare, umount and cgroups do, takes milliseconds where they are asked nicely.
quick='norandmaps rcupdate.rcu_expedited=1'

boot() { # KERNEL_DIRECTORY OUT CONSOLE
    truncate -s 64M "$work/scratch"
    if [ -n "$shell" ]; then
        set -- "$1" "$2" mon:stdio
    else
        set -- "$1" "$2" "file:$3"
    fi
    # qemu 7.2 loses flags when an interrupt meets cmpxchg16b, and the kernel dies of it, seldom.
    timeout --foreground -s KILL "$limit" qemu-system-x86_64 -accel tcg,thread=multi -cpu max,-cx16 -smp 2 -m 1G \
        -nodefaults -no-user-config -display none -no-reboot -serial "$3" \
        -device virtio-serial-pci -chardev "file,id=out,path=$2" -device virtserialport,chardev=out,name=out \
        -kernel "$1/vmlinuz" -initrd "$work/initramfs.cpio" \
        -append "console=ttyS0 quiet panic=-1 mitigations=off psi=1 $quick systemd.unit=vm.target systemd.show_status=0 systemd.firstboot=off" \
        -drive "file=$image,format=raw,if=virtio,readonly=on" \
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

# What the VM said of its exit status, in $said; qemu's own in $status.
boot_once() {
    rm -f "$out" "$console"
    status=0
    boot "$directory" "$out" "$console" || status=$?
    said=$(sed -n 's/^# vm: exit status //p' "$out" 2>/dev/null || :)
}

# One VM; what it left unsaid is one failure.
test_on() { # KERNEL
    out=$kept/out.$1 console=$kept/console.$1
    directory=$(sh "$here/kernel.sh" "$1")
    echo "== Linux $1: $(basename "$directory")"
    make_vm_directory "$1"
    make_initramfs "$directory"
    boot_once
    if [ -z "$said" ] && grep -qs 'Kernel panic' "$console"; then
        echo "# The VM's kernel died, which emulation does to it once in a while. Its console ends:"
        tail -n 30 "$console" | sed 's/^/#     /'
        echo '# Once more; a second time is a failure.'
        boot_once
    fi
    [ -z "$shell" ] || return 0
    show "$out"
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

if [ -n "$systemd" ]; then
    image=$(sh "$here/system.sh")
else
    make_image
fi
failed=0
for kernel in $kernels; do
    test_on "$kernel" || failed=1
done
exit "$failed"
