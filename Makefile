# The commands of this repository. Each works from a clean clone, as root, on Debian 12
# with a Rust toolchain; what they do is in .ci/.

# `make test-vm VM='--kernel 6.12 --filter cgroups.'`; the options are in integration/vm/run.sh.
VM =

.PHONY: help release deps demo check test test-vm test-engines conformance servers stress faults hostile figures bench gate fuzz audit asan aarch64 order clean

help:
	@echo 'make release      static xebec in target/dist/, with its size, linkage and start time'
	@echo 'make demo         run a container that says what it sees; nothing is left behind'
	@echo 'make check        format, lints, unit tests and conformance on this host (minutes)'
	@echo 'make test         everything, closing with totals'
	@echo 'make conformance  xebec as root, with user namespaces and as a user, runc and crun side by side'
	@echo 'make test-vm      cgroup and systemd tests in VMs, on two kernels, with every controller of cgroup v2'
	@echo 'make servers      nginx, redis and postgresql from Debian in containers, asked from outside'
	@echo 'make test-engines containerd, podman, buildah and docker from Debian run containers with xebec'
	@echo 'make stress       thousands of runs and execs, a thousand at once, races of verbs, kills at random moments'
	@echo 'make faults       an error, and a kill, at every system call of every verb; kernels without one feature'
	@echo 'make audit        licences, duplicates, sources and known holes of the dependencies'
	@echo 'make aarch64      type-checks the program for aarch64; nothing of it is run'
	@echo 'make asan         the unit tests with AddressSanitizer'
	@echo 'make hostile      thousands of hostile root file systems, and races for minutes; nothing of the host changes'
	@echo 'make fuzz         each fuzz target for a minute'
	@echo 'make figures      times of run, create to delete, exec and probes beside crun and runc'
	@echo 'make bench        times beside the floor, crun and runc, as tables and plots in target/bench/'
	@echo 'make gate         system calls, execs, faults, instructions against the limits in bench/limits.json'
	@echo 'make order        lists the functions that verbs reach, for the release to put side by side'
	@echo 'make deps         install the Debian packages of .ci/packages.txt that are missing'
	@echo 'make clean        remove what was built'

release:
	@sh .ci/release.sh

deps:
	@sh .ci/deps.sh build release demo test vm

demo:
	@sh .ci/deps.sh build release demo
	@sh .ci/release.sh
	@sh .ci/demo.sh target/dist/xebec

check:
	@sh .ci/test.sh lint unit conformance

test:
	@sh .ci/test.sh lint unit conformance conformance_userns conformance_user conformance_host vm gate binary audit servers engines stress_small faults_small hostile_small fuzz_small demo

test-vm:
	@sh .ci/deps.sh build release test vm
	@sh .ci/release.sh
	@cargo build --quiet --locked -p xebec-integration
	@sh integration/vm/run.sh $(VM)

conformance:
	@sh .ci/deps.sh build release test
	@sh .ci/release.sh
	@cargo run --quiet --locked -p xebec-integration -- \
		--runtime target/dist/xebec --runtime target/dist/xebec --userns --runtime target/dist/xebec --as-user \
		--runtime runc --runtime crun --format table

test-engines:
	@sh .ci/test.sh engines

servers stress gate faults hostile audit asan aarch64:
	@sh .ci/test.sh $@

# Minutes: every instruction of every verb is a stop. The list is committed.
order:
	@sh .ci/deps.sh build release test
	@CARGO_PROFILE_RELEASE_STRIP=none sh .ci/release.sh
	@cargo run --quiet --locked -p xebec-bench -- --runtime target/dist/xebec --order .ci/order.ld

fuzz:
	@sh .ci/fuzz.sh 60

figures:
	@sh .ci/deps.sh build release test
	@sh .ci/release.sh
	@cargo run --quiet --locked -p xebec-integration -- figures \
		--runtime target/dist/xebec --runtime crun --runtime runc

# BENCH holds further words for bench: `make bench BENCH="--runtime youki=/opt/youki --case exec"`.
bench:
	@sh .ci/deps.sh build release test
	@sh .ci/release.sh
	@cargo run --quiet --locked -p xebec-bench -- --runtime xebec=target/dist/xebec --runtime crun --runtime runc \
		--json target/bench/results.json --svg target/bench --markdown target/bench/results.md $(BENCH)

clean:
	@cargo clean
