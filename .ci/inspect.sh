#!/bin/sh
# Says what the release binary is: size, linkage, start time. Fails when it is not hardened (.ci/hardening.sh).
set -eu
binary=$1
sh "$(dirname "$0")/hardening.sh" "$binary"
case $(readelf -hW "$binary" | awk '$1 == "Type:" { print $2 }') in
    DYN) kind="static PIE" ;;
    *) kind="static, fixed address (non-PIE)" ;;
esac

echo "file:     $binary, $(stat -c %s "$binary") bytes"
echo "linkage:  $kind; no INTERP, no NEEDED, full RELRO, nothing writable and executable, nor the stack"
echo "version:  $("$binary" --version | head -n 1)"
timer=target/start-time
if [ ! "$timer" -nt .ci/start-time.rs ]; then rustc -O --edition 2024 -o "$timer" .ci/start-time.rs; fi
echo "start:    $("$timer" 200 "$binary" --version)"
