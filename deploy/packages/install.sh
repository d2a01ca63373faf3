#!/bin/sh
# Installs larder @VERSION@ on Linux (x86_64). The archive must have the checksum below.
#
#   LARDER_FROM   where the archive is; default: @URL@
#   PREFIX        where it goes; default: /usr/local
set -eu

archive=larder-@VERSION@-x86_64-linux.tar.gz
checksum=@SHA256@
from=${LARDER_FROM:-@URL@}
prefix=${PREFIX:-/usr/local}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

# In a function, so that a script that arrived in part does nothing.
main() {
    [ "$(uname -sm)" = "Linux x86_64" ] || fail "this is $(uname -sm), and the archive is for Linux x86_64: build from source"
    for program in curl sha256sum tar install; do
        command -v "$program" >/dev/null || fail "$program is missing: install it first"
    done
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    curl -fsSL -o "$folder/$archive" "$from/$archive" || fail "$from/$archive can't be read"
    found=$(sha256sum "$folder/$archive" | cut -d ' ' -f 1)
    [ "$found" = "$checksum" ] || fail "$archive has the checksum $found instead of $checksum: nothing was installed"
    tar -xzf "$folder/$archive" -C "$folder" --strip-components=2
    mkdir -p "$prefix/bin" "$prefix/share"
    install -m 755 "$folder/bin/larder" "$prefix/bin/larder"
    cp -R "$folder/share/." "$prefix/share/"
    "$prefix/bin/larder" --version
}

main
