#!/bin/sh
# The dependencies of the workspace and of the fuzz targets: every licence is one of a few, every package comes
# from crates.io, and none that is linked is there in two versions. Known holes (RustSec's advisories) are looked for
# where cargo-deny is installed and can fetch its database; otherwise that is said aloud.
set -eu
cd "$(dirname "$0")/.."
passed=0 failed=0 skipped=0

# judge WHAT FINDINGS: none is a pass.
judge() {
    if [ -z "$2" ]; then
        echo "ok - $1"
        passed=$((passed + 1))
    else
        echo "not ok - $1:"
        echo "$2" | sed 's/^/  /'
        failed=$((failed + 1))
    fi
}

# Reads `NAME vVERSION | LICENCES` and prints what is not allowed. All that AND joins have to be allowed,
# and one of those that OR, or a slash, joins.
not_allowed() {
    awk -F ' [|] ' -v allowed='^(Apache-2[.]0|MIT|Zlib|BSD-2-Clause|Unlicense|Unicode-3[.]0|NCSA)$' '{
        terms = split($2, all, / AND /)
        fine = terms > 0
        for (i = 1; i <= terms; i++) {
            gsub(/[()]/, "", all[i])
            choices = split(all[i], one, / OR | ?\/ ?/)
            some = 0
            for (k = 1; k <= choices; k++) some += one[k] ~ allowed
            fine = fine && some
        }
        if (!fine) print $1 ": " $2
    }'
}
self_test() {
    printf '%s | %s\n' a 'MIT' b 'GPL-3.0' c '(MIT OR GPL-3.0) AND NCSA' d 'MIT AND GPL-3.0' e '' f 'Apache-2.0 / MIT' |
        not_allowed | cut -d: -f1 | tr -d '\n'
}
[ "$(self_test)" = bde ] || { echo "audit: the look at licences does not find what it should" >&2; exit 1; }

for lock in Cargo.lock integration/fuzz/Cargo.lock; do
    tree() {
        cargo tree --quiet --locked --workspace --manifest-path "$(dirname "$lock")/Cargo.toml" --prefix none "$@"
    }
    # What has a path is our own; a repeated line ends with a star.
    listed=$(tree -e normal,build,dev --target all --format '{p} | {l}' | sed 's/ (\*)$//' | grep -v -e '^$' -e '(/' | sort -u)
    [ "$(echo "$listed" | wc -l)" -gt 20 ] || { echo "audit: cargo tree lists next to nothing" >&2; exit 1; }
    judge "licences of $lock, $(echo "$listed" | wc -l) packages" "$(echo "$listed" | not_allowed)"
    judge "sources of $lock" "$(sed -n 's/^source = //p' "$lock" | sort -u |
        grep -vx '"registry+https://github.com/rust-lang/crates.io-index"' || :)"
    # Macros are run by the compiler and linked into nothing.
    judge "one version of each in $lock" "$(tree -d -e normal,no-proc-macro --depth 0 | grep -v '^$' | sort -u || :)"
done

database=https://github.com/RustSec/advisory-db
if cargo deny --version >/dev/null 2>&1 && timeout 60 git ls-remote --quiet "$database" HEAD >/dev/null 2>&1; then
    for manifest in Cargo.toml integration/fuzz/Cargo.toml; do
        found=$(cargo deny --manifest-path "$manifest" --locked check advisories 2>&1) && found=
        judge "advisories for $manifest" "$found"
    done
else
    echo "skipped - advisories: cargo-deny is not installed, or cannot reach $database"
    skipped=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
