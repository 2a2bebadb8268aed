#!/bin/sh
# Says what the release binary is: size, linkage, hardening, start time.
# Fails when it is not static or has a writable and executable segment.
set -eu
binary=$1
# Program headers, one a line: readelf -W does not wrap them.
headers=$(readelf -lW "$binary")
has() { echo "$headers" | grep -qE "^ *$1 "; }
fail() { echo "inspect: $binary: $1" >&2; exit 1; }

if has INTERP; then fail "has an interpreter: it is dynamically linked"; fi
if readelf -dW "$binary" | grep -q '(NEEDED)'; then fail "needs shared libraries"; fi
if echo "$headers" | grep -E '^ *(LOAD|GNU_STACK) ' | grep -q 'RWE'; then fail "has a segment that is writable and executable"; fi
if ! has GNU_RELRO; then fail "has no RELRO segment"; fi
case $(readelf -hW "$binary" | awk '$1 == "Type:" { print $2 }') in
    EXEC) kind="static, fixed address (non-PIE)" ;;
    DYN) kind="static PIE" ;;
    *) fail "is not an executable" ;;
esac

echo "file:     $binary, $(stat -c %s "$binary") bytes"
echo "linkage:  $kind; no INTERP, no NEEDED, RELRO, no segment writable and executable"
echo "version:  $("$binary" --version | head -n 1)"
timer=target/start-time
if [ ! "$timer" -nt .ci/start-time.rs ]; then rustc -O --edition 2024 -o "$timer" .ci/start-time.rs; fi
echo "start:    $("$timer" 200 "$binary" --version)"
