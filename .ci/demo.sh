#!/bin/sh
# Makes a bundle from busybox, runs one container in it that says what it sees, and
# leaves nothing behind: demo.sh [RUNTIME], RUNTIME being any OCI runtime.
set -eu
runtime=${1:-target/dist/xebec}
case $runtime in */*) runtime=$(realpath "$runtime") ;; esac
[ "$(id -u)" = 0 ] || { echo "demo: needs root" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/xebec-demo.XXXXXX")
id=demo-$$
clean_up() {
    # Fails when the container is gone already, which is what is wanted.
    "$runtime" --root "$work/state" delete --force "$id" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

rootfs=$work/bundle/rootfs
mkdir -p "$rootfs/bin" "$rootfs/proc" "$rootfs/sys" "$rootfs/dev" "$rootfs/tmp" "$rootfs/etc"
cp "$(command -v busybox)" "$rootfs/bin/busybox"
for applet in sh cat cut hostname id ls readlink sed touch; do
    ln -s busybox "$rootfs/bin/$applet"
done
echo 'root:x:0:0:root:/:/bin/sh' >"$rootfs/etc/passwd"

cat >"$rootfs/look" <<'LOOK'
#!/bin/sh
# Runs inside the container. $1 is the host's namespaces, as NAME:[INODE] words.
status() { sed -n "s/^$1:[[:space:]]*//p" /proc/self/status; }
echo "I am pid $$ on host $(hostname), as $(id -un) ($(id -u):$(id -g))"
host_namespaces=$1
set -- /proc/[0-9]*
echo "processes I see: $# (myself; the host's are hidden)"
echo "namespaces:"
for file in /proc/self/ns/*; do
    case $file in *_for_children) continue ;; esac
    own=$(readlink "$file")
    case " $host_namespaces " in *" $own "*) whose="the host's" ;; *) whose="my own" ;; esac
    echo "  $own  $whose"
done
echo "limits:"
sed -n -e 's/^Max open files */  open files (soft, hard): /p' -e 's/^Max core file size */  core file size: /p' /proc/self/limits
echo "capabilities:"
echo "  effective $(status CapEff), bounding $(status CapBnd), ambient $(status CapAmb)"
echo "  no new privileges: $(status NoNewPrivs), seccomp mode: $(status Seccomp)"
echo "cgroup: $(sed -n 's/^0:://p' /proc/self/cgroup)"
echo "mounts: $(cut -d' ' -f2 /proc/self/mounts | sed ':a;N;$!ba;s/\n/ /g')"
echo "devices: $(ls /dev | sed ':a;N;$!ba;s/\n/ /g')"
touch /written 2>/dev/null && { echo "the root is WRITABLE"; exit 1; }
echo "the root is read-only: touch /written was refused"
[ "$$" = 1 ] || { echo "NOT pid 1"; exit 1; }
LOOK
chmod +x "$rootfs/look"

host_namespaces=$(readlink /proc/self/ns/* | sort -u | tr '\n' ' ')
caps='["CAP_KILL", "CAP_NET_BIND_SERVICE"]'
cat >"$work/bundle/config.json" <<CONFIG
{
  "ociVersion": "1.0.2",
  "process": {
    "terminal": false,
    "user": { "uid": 0, "gid": 0 },
    "args": ["/look", "$host_namespaces"],
    "env": ["PATH=/bin"],
    "cwd": "/",
    "capabilities": { "bounding": $caps, "effective": $caps, "permitted": $caps },
    "rlimits": [
      { "type": "RLIMIT_NOFILE", "soft": 256, "hard": 512 },
      { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }
    ],
    "noNewPrivileges": true
  },
  "root": { "path": "rootfs", "readonly": true },
  "hostname": "xebec-demo",
  "mounts": [
    { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
    { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"] },
    { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666"] },
    { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "size=1m"] },
    { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] }
  ],
  "linux": {
    "cgroupsPath": "/$id",
    "namespaces": [
      { "type": "pid" }, { "type": "mount" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "cgroup" }
    ],
    "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
    "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
    "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"]
  }
}
CONFIG

echo "\$ xebec run --bundle $work/bundle $id"
"$runtime" --root "$work/state" run --bundle "$work/bundle" "$id"

# Nothing may be left: no state, no mount, no cgroup.
left=$({ ls -A "$work/state" 2>/dev/null || true; grep "$work" /proc/self/mounts || true
         find /sys/fs/cgroup -type d -name "$id" 2>/dev/null || true; } | sed 's/^/  /')
[ -z "$left" ] || { echo "demo: left behind:"; echo "$left"; exit 1; }
echo "demo: done; nothing is left behind"
