#!/bin/sh
# Builds the libFuzzer targets of integration/fuzz and runs each for so many seconds.
#
# fuzz.sh SECONDS [TARGET...]
#
# rustc's own coverage pass and the libFuzzer that libfuzzer-sys brings: neither a
# nightly compiler nor cargo-fuzz is needed. What is found is kept, and named.
set -eu
cd "$(dirname "$0")/.."
seconds=$1
shift
sh .ci/deps.sh build fuzz

host=$(rustc -vV | sed -n 's/^host: //p')
flags="--cfg fuzzing -C codegen-units=1 -C passes=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags="$flags -C llvm-args=-sanitizer-coverage-$option"
done
# With --target the flags are not for build scripts and macros.
RUSTFLAGS="$flags" cargo build --quiet --release --locked --target "$host" \
    --manifest-path integration/fuzz/Cargo.toml --target-dir target/fuzz

kept=target/fuzz/found
mkdir -p "$kept"
[ $# != 0 ] || set -- $(sed -n 's/^name = "\(.*\)"$/\1/p' integration/fuzz/Cargo.toml | grep -v '^xebec-fuzz$')
passed=0 failed=0
for target; do
    corpus=target/fuzz/corpus/$target
    mkdir -p "$corpus"
    log=$kept/$target.log
    status=0
    # The first directory takes new inputs; the second are the ones in the repository.
    "target/fuzz/$host/release/$target" "$corpus" "integration/fuzz/corpus/$target" -max_total_time="$seconds" \
        -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$kept/$target-" >"$log" 2>&1 || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ "$status" = 0 ] && [ "${runs:-0}" -gt 0 ]; then
        passed=$((passed + 1))
        echo "ok - $target: $runs runs in $seconds s, no finding"
    else
        failed=$((failed + 1))
        echo "not ok - $target: status $status after ${runs:-no} runs"
        grep -E 'panicked at|ERROR|Test unit written|^assertion|left:|right:' -A 1 "$log" | head -20 || :
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
