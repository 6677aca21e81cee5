#!/bin/bash
# Builds this machine's binary as it is published, and refuses it if it would not load on every system that we promise.
set -euo pipefail
cd "$(dirname "$0")/../.."
node scripts/build.mjs --portable
case $(node -p 'process.report.getReport().header.glibcVersionRuntime ?? ""') in
'') ls -l native/*.node ;;
*) node scripts/check-glibc.mjs native/*.node ;;
esac
