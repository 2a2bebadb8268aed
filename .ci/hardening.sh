#!/bin/sh
# Fails, and says why, unless a program is static, position independent (but for XEBEC_RELOCATION=static), has no
# memory that is writable and executable, its stack included, and no address that stays writable (full RELRO).
#
# hardening.sh PROGRAM; hardening.sh --self-test makes programs that lack one of these, and has to refuse each.
set -eu

check() {
    # Program headers, one a line: readelf -W does not wrap them.
    headers=$(readelf -lW "$1") dynamic=$(readelf -dW "$1")
    fail() { echo "hardening: $program: $1" >&2; exit 1; }
    program=$1
    if echo "$headers" | grep -qE '^ *INTERP '; then fail "has an interpreter: it is dynamically linked"; fi
    if echo "$dynamic" | grep -q '(NEEDED)'; then fail "needs shared libraries"; fi
    if echo "$headers" | grep -E '^ *LOAD ' | grep -q 'RWE'; then fail "has a segment that is writable and executable"; fi
    stack=$(echo "$headers" | grep -E '^ *GNU_STACK ' || :)
    case $stack in
        '') fail "does not say that its stack is not executable" ;;
        *RWE*) fail "has an executable stack" ;;
    esac
    kind=$(readelf -hW "$1" | awk '$1 == "Type:" { print $2 }')
    [ "$kind" = DYN ] || [ "${XEBEC_RELOCATION:-pic}" = static ] || fail "has fixed addresses (not PIE)"
    if ! echo "$headers" | grep -qE '^ *GNU_RELRO '; then fail "has no RELRO segment"; fi
    [ "$kind" != DYN ] || echo "$dynamic" | grep -qE '\(FLAGS_1\).* NOW' || fail "is not linked with -z now"
}

# Makes a program with these flags of gcc; check has to refuse it in these words.
refuses() {
    words=$1
    shift
    echo 'int main(void) { return 0; }' | gcc -x c - -o "$work/program" "$@"
    if said=$(check "$work/program" 2>&1); then said="nothing"; fi
    case $said in
        *"$words"*) echo "ok - a program that $words is refused"; passed=$((passed + 1)) ;;
        *) echo "not ok - a program that $words: $said"; failed=$((failed + 1)) ;;
    esac
}

if [ "$1" != --self-test ]; then
    check "$1"
    exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset XEBEC_RELOCATION
passed=0 failed=0
refuses "has an interpreter" -pie
refuses "has a segment that is writable and executable" -static -nostdlib -Wl,-N,-e,main,--no-warn-rwx-segments
refuses "has an executable stack" -static-pie -z execstack
refuses "has fixed addresses" -static -no-pie
refuses "has no RELRO segment" -static-pie -Wl,-z,norelro
refuses "is not linked with -z now" -static-pie -Wl,-z,lazy
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
