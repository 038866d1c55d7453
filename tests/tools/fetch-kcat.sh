#!/bin/sh
# Unpacks kcat and the libraries it lacks into the given folder, from the Debian archive, without root
# and without installing anything. The tests of tests/broker call it where no kcat is in PATH.
set -eu
target=$1
mkdir -p "$target/lists/partial" "$target/cache/archives/partial" "$target/debs"

# Package lists of our own when the machine's are empty (a fresh container) or too old.
own="-o Dir::State::Lists=$target/lists -o Dir::Cache=$target/cache -o APT::Sandbox::User="

# The packages kcat needs that are not installed. $1: options for apt.
needed() {
    # shellcheck disable=SC2086
    apt-cache $1 depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances kcat 2>/dev/null | grep '^[a-z0-9]' | sort -u |
        while read -r package; do
            name=${package%%:*}
            dpkg -s "$name" >/dev/null 2>&1 || echo "$name"
        done
}

# $1: options for apt.
download() {
    packages=$(needed "$1")
    [ -n "$packages" ] || return 1
    for package in $packages; do
        # A purely virtual package has no file; what provides it is in the list too.
        # shellcheck disable=SC2086
        (cd "$target/debs" && apt-get -qq -o Acquire::Retries=3 -o APT::Sandbox::User= $1 download "$package") ||
            echo "not downloaded: $package" >&2
    done
    ls "$target"/debs/kcat_*.deb >/dev/null 2>&1
}

if ! download ""; then
    # shellcheck disable=SC2086
    apt-get -qq -o Acquire::Retries=3 $own update
    download "$own"
fi
for package in "$target"/debs/*.deb; do
    dpkg -x "$package" "$target/unpacked"
done
test -x "$target/unpacked/usr/bin/kcat"
