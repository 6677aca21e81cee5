#!/bin/bash
# Lints the workflows. Uses an installed actionlint, else builds the pinned one with Go (hosted runners have Go).
set -euo pipefail
cd "$(dirname "$0")/../.."
if command -v actionlint >/dev/null; then exec actionlint; fi
exec go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
