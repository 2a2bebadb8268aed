#!/bin/sh
# The dependencies of the workspace and of the fuzz targets: licences, duplicates, where they come from (deny.toml),
# and known holes as far as the advisory database can be had.
set -eu
cd "$(dirname "$0")/.."
version=0.20.2
deny=$PWD/target/tools/bin/cargo-deny
case $("$deny" --version 2>/dev/null || :) in
    *" $version") ;;
    *) cargo install --quiet --locked --root target/tools --version "$version" cargo-deny ;;
esac

passed=0 failed=0 skipped=0
for manifest in Cargo.toml integration/fuzz/Cargo.toml; do
    for what in licenses bans sources; do
        if "$deny" --manifest-path "$manifest" --locked check --config deny.toml --hide-inclusion-graph "$what"; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
        fi
    done
done
database=https://github.com/RustSec/advisory-db
if timeout 60 git ls-remote --quiet "$database" HEAD >/dev/null 2>&1; then
    for manifest in Cargo.toml integration/fuzz/Cargo.toml; do
        if "$deny" --manifest-path "$manifest" --locked check --config deny.toml advisories; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
        fi
    done
else
    echo "skipped - advisories: $database cannot be reached from here"
    skipped=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
