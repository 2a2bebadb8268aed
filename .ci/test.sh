#!/bin/sh
# Runs the named parts of the tests and closes with one line of totals over all of them.
#
# A part that fails without having counted a failure, or that ran and counted nothing,
# counts as one failure: silence is never a pass. Every part runs, whatever failed before.
set -eu
cd "$(dirname "$0")/.."
sh .ci/deps.sh build release test
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# Each part prints what it does; .ci/totals.awk finds the counts in that.
part_lint() {
    cargo fmt --all --check &&
        cargo clippy --workspace --all-targets --locked -- -D warnings &&
        cargo clippy --manifest-path integration/fuzz/Cargo.toml --target-dir target/fuzz --lib --bins --locked -- -D warnings &&
        echo '1 passed, 0 failed'
}
part_unit() { cargo test --workspace --no-fail-fast --locked; }
integration() {
    sh .ci/release.sh && cargo build --quiet --locked -p xebec-integration &&
        target/debug/xebec-integration "$@" --runtime target/dist/xebec
}
# The mode of a runtime follows it.
conformance_with() {
    sh .ci/release.sh && cargo build --quiet --locked -p xebec-integration &&
        target/debug/xebec-integration --runtime target/dist/xebec "$1"
}
# Below a private mount of cgroup v2, as on most hosts.
part_conformance() { integration; }
# Every container with a user namespace; and an ordinary user as the caller.
part_conformance_userns() { conformance_with --userns; }
part_conformance_user() { conformance_with --as-user; }
# With the cgroups of this host as they are, which may be v1, v2 or both.
part_conformance_host() { integration --cgroup-view host; }
# In VMs of two kernels, for the controllers that this host lacks; `make test-vm` asks more of them.
part_vm() {
    sh .ci/deps.sh vm && sh .ci/release.sh && cargo build --quiet --locked -p xebec-integration &&
        sh integration/vm/run.sh --small
}
# Real servers from Debian, asked over a network; the root file system is built once (a minute).
part_servers() { integration servers; }
# Engines from Debian with xebec, and with runc and crun for the table.
part_engines() {
    sh .ci/deps.sh engines && sh .ci/release.sh && cargo build --quiet --locked -p xebec-integration &&
        target/debug/xebec-integration engines --table target/engines.md \
            --runtime target/dist/xebec --runtime runc --runtime crun
}
# Thousands of runs, and kills at random moments; a taste of it for every day.
part_stress() { integration stress; }
# Counts of calls, faults and instructions against bench/limits.json; no times.
part_gate() {
    sh .ci/release.sh && cargo build --quiet --locked -p xebec-bench &&
        target/debug/xebec-bench --runtime xebec=target/dist/xebec --gate bench/limits.json
}
part_stress_small() {
    integration stress --runs 200 --parallel 10 --execs 400 --kills 10 --alive 200 --overlaps 20 --clash 10
}
# A fault at every system call of every verb, and kernels without one feature; the small one meets each call with
# one fault, not with all.
part_faults() { integration faults; }
part_faults_small() { integration faults --each 1 --jobs 2; }
# The unit tests with AddressSanitizer, which the stable compiler has behind RUSTC_BOOTSTRAP. Not those of what
# shares memory with this thread: its own bookkeeping is thread-local, and would be done by two at a time.
part_asan() {
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --no-fail-fast --locked --lib --bins -p xebec -p xebec-seccomp \
        --target "$(rustc -vV | sed -n 's/^host: //p')" --target-dir target/asan -- \
        --skip sys::shared:: --skip sys::network:: --skip sys::helper:: --skip sys::vfork::
}
# The program type-checked for aarch64, by Debian's compiler and sources of std; nothing of it is linked or run.
part_aarch64() {
    sh .ci/deps.sh build musl-std
    RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc /usr/bin/cargo check --locked --bin xebec --target aarch64-unknown-linux-musl \
        --target-dir target/aarch64 -Zbuild-std=std,panic_abort -Zbuild-std-features= && echo '1 passed, 0 failed'
}
# What the release is linked like; and that the check would find what it looks for.
part_binary() { sh .ci/release.sh && sh .ci/hardening.sh --self-test; }
# Licences, duplicates, sources and known holes of the dependencies.
part_audit() { sh .ci/audit.sh; }
# Generated hostile root file systems and races; seeds are printed.
part_hostile() { integration hostile; }
part_hostile_small() { integration hostile --cases 150 --races 40; }
# Every reader of foreign bytes under libFuzzer; `make fuzz` takes longer.
part_fuzz_small() { sh .ci/fuzz.sh 10; }
part_demo() { sh .ci/release.sh && sh .ci/demo.sh target/dist/xebec && echo '1 passed, 0 failed'; }

total_passed=0 total_failed=0 total_skipped=0
summary=
for part; do
    echo "== $part"
    begun=$(date +%s)
    # The pipe's exit status would be tee's: the part writes its own to a file.
    { status=0; "part_$part" || status=$?; echo "$status" >"$logs/status"; } 2>&1 </dev/null | tee "$logs/$part"
    counts=$(awk -v status="$(cat "$logs/status")" -f .ci/totals.awk "$logs/$part")
    read -r passed failed skipped <<EOC
$counts
EOC
    total_passed=$((total_passed + passed))
    total_failed=$((total_failed + failed))
    total_skipped=$((total_skipped + skipped))
    summary="$summary
$(printf '%-16s %5d passed %5d failed %5d skipped %5d s' "$part" "$passed" "$failed" "$skipped" $(($(date +%s) - begun)))"
done
echo "== totals$summary"
echo "$total_passed passed, $total_failed failed, $total_skipped skipped"
[ "$total_failed" = 0 ] && [ "$total_passed" != 0 ]
