#!/bin/bash
# Checks licences, sources and advisories of the crates (deny.toml). Builds cargo-deny if it is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! cargo deny --version >/dev/null 2>&1; then cargo install --locked cargo-deny; fi
exec cargo deny check
