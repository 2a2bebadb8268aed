#!/bin/sh
# Installs the packages of the named groups of .ci/packages.txt that are missing.
# With everything there it costs one dpkg-query and touches no network.
set -eu
list=$(dirname "$0")/packages.txt

# Lines `PACKAGE [MINIMUM]`.
wanted=$(for group; do
    awk -v group="$group" '$1 == group { print $2, $3 }' "$list"
done | sort -u)
[ -n "$wanted" ] || { echo "deps: no such group: $*" >&2; exit 2; }
names=$(echo "$wanted" | cut -d ' ' -f 1)

if ! command -v dpkg-query >/dev/null; then
    echo "deps: not a Debian system; install these by hand: $(echo $wanted)" >&2
    exit 0
fi

# What is not installed, or older than wanted.
find_missing() {
    # dpkg-query fails for packages it has never heard of; those are missing too.
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' $names 2>/dev/null || true)
    missing=$(echo "$wanted" | while read -r package minimum; do
        version=$(echo "$installed" | awk -v package="$package" '$1 == "installed" && $2 == package { print $3 }')
        if [ -z "$version" ] || { [ -n "$minimum" ] && dpkg --compare-versions "$version" lt "$minimum"; }; then
            printf ' %s' "$package"
        fi
    done)
}
find_missing
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "deps: as root: apt-get install$missing" >&2
    exit 1
fi
echo "deps: installing$missing"
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y -q --no-install-recommends $missing >"$log" 2>&1; }
log=$(mktemp)
# No package may start its service: the tests start their own, in sandboxes. /usr/sbin/policy-rc.d is how
# Debian asks whether it may (invoke-rc.d(8)); one that is there has the say.
policy=/usr/sbin/policy-rc.d
if [ -e "$policy" ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"; fi
trap 'rm -f "$log" $policy' EXIT
# The package lists of the machine may be old or absent: fetched only when they do not serve.
tries=stale
while ! { install && find_missing && [ -z "$missing" ]; }; do
    if [ "$tries" = fetched ] || ! apt-get update -q >"$log" 2>&1; then
        cat "$log" >&2
        echo "deps: could not install$missing" >&2
        exit 1
    fi
    tries=fetched
done
