#!/bin/sh
# Builds the static xebec into target/dist/, and prints what came out.
#
# CARGO_PROFILE_RELEASE_STRIP=none keeps the symbols. XEBEC_RELOCATION=static|pic picks non-PIE or
# static-PIE; the reasons for the default are in docs/decisions/static-binary.md.
set -eu
cd "$(dirname "$0")/.."
target=$(uname -m)-unknown-linux-musl
out=target/dist
relocation=${XEBEC_RELOCATION:-pic}
# The same binary whatever directory it was built in, and no builder's paths in its messages.
flags="-C target-feature=+crt-static -C relocation-model=$relocation --remap-path-prefix=$PWD=xebec"
flags="$flags --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=crates"
# What a start needs lies side by side; the list is of this mangling.
flags="$flags -C symbol-mangling-version=v0 -C link-arg=-Wl,-T,$PWD/.ci/order.ld"
# src/sys/door.rs, where there is one.
if [ "$(uname -m)" = x86_64 ]; then flags="$flags -C link-arg=-Wl,-e,xebec_entry"; fi

# Named by --version; a source tree without git is of an unknown commit.
if commit=$(git rev-parse --short=12 HEAD 2>/dev/null); then
    git diff --quiet HEAD 2>/dev/null || commit=$commit-dirty
    export XEBEC_COMMIT="$commit"
fi

if rustup target list --installed 2>/dev/null | grep -qx "$target"; then
    sh .ci/deps.sh build release
    build=target/musl-rustup-$relocation
    RUSTFLAGS="$flags" cargo build --release --locked --bin xebec --target "$target" --target-dir "$build"
else
    # Debian has no std for musl, but its sources and a compiler of the same version.
    # Both are kept in a target directory of their own: two compilers sharing one
    # would rebuild everything in turn.
    sh .ci/deps.sh build release musl-std
    build=target/musl-debian-$relocation
    mkdir -p "$build/native"
    # std asks for libunwind; gcc's libgcc_eh has the same interface.
    ln -sf "$(gcc -print-file-name=libgcc_eh.a)" "$build/native/libunwind.a"
    linker=musl-gcc
    if [ "$relocation" = pic ]; then
        # musl-gcc does not know -static-pie: its specs, with the start file that relocates
        # itself (rcrt1.o) and without the dynamic linker.
        sed -e 's,/Scrt1\.o,/rcrt1.o,' -e 's,^-dynamic-linker [^ ]*,-static -pie --no-dynamic-linker -z text,' \
            "/usr/lib/$(uname -m)-linux-musl/musl-gcc.specs" >"$build/native/static-pie.specs"
        printf '#!/bin/sh\nexec gcc "$@" -specs "%s"\n' "$PWD/$build/native/static-pie.specs" >"$build/native/gcc"
        chmod +x "$build/native/gcc"
        linker=$PWD/$build/native/gcc
    fi
    flags="$flags -C link-self-contained=no -C linker=$linker -L native=$PWD/$build/native"
    # RUSTC_BOOTSTRAP lets a stable compiler build std from its sources (-Zbuild-std).
    RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc RUSTFLAGS="$flags" /usr/bin/cargo build --release --locked --bin xebec \
        --target "$target" --target-dir "$build" -Zbuild-std=std,panic_abort -Zbuild-std-features=
fi
mkdir -p "$out"
install -m 0755 "$build/$target/release/xebec" "$out/xebec"
exec sh .ci/inspect.sh "$out/xebec"
