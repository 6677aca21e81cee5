#!/bin/sh
# provision.sh COMMAND…: installs what a clone needs (Node, Rust, a C linker) on a bare Ubuntu, Debian or Alpine, then
# runs the command there. Tools that are already installed stay as they are.
set -eu
if command -v apk >/dev/null; then
  apk add --no-cache bash build-base coreutils curl redis
elif ! command -v cc >/dev/null || ! command -v curl >/dev/null || ! command -v xz >/dev/null; then
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates curl gcc libc6-dev xz-utils
fi
if ! command -v node >/dev/null; then
  # Node publishes no builds for musl: an Alpine image brings its own (node:22-alpine).
  case $(uname -m) in aarch64) machine=arm64 ;; *) machine=x64 ;; esac
  folder=https://nodejs.org/dist/latest-v${NODE_VERSION:-22}.x
  archive=$(curl --fail --silent --show-error "$folder/SHASUMS256.txt" | grep -o "node-v[0-9.]*-linux-$machine\.tar\.xz")
  curl --fail --silent --show-error "$folder/$archive" | tar -xJ -C /usr/local --strip-components=1
fi
if ! command -v cargo >/dev/null; then
  curl --fail --silent --show-error --proto '=https' --tlsv1.2 https://sh.rustup.rs |
    sh -s -- -y --profile minimal --component clippy,rustfmt
  PATH=$HOME/.cargo/bin:$PATH
  export PATH
fi
exec "$@"
