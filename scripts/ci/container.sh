#!/bin/sh
# container.sh IMAGE COMMAND…: runs a command of this repository in a container that has a C linker, Rust and Node
# NODE_VERSION. Docker's default profile applies, because the tests must pass under it.
set -eu
image=$1
shift
cd "$(dirname "$0")/../.."
exec docker run --rm --volume "$PWD:/ringbell" --workdir /ringbell \
  --env CI=true --env "NODE_VERSION=${NODE_VERSION:-22}" --env "RINGBELL_RELEASE=${RINGBELL_RELEASE:-}" \
  "$image" scripts/ci/provision.sh "$@"
