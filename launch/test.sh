#!/usr/bin/env bash
# Checks: format, lint, types, import contract, tests. Installs what it needs on the first call.
#   launch/test.sh [pytest arguments]             all but the slow tests; e.g. launch/test.sh tests/unit/network/wire -x
#   launch/test.sh --all [pytest arguments]       all tests
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

chosen=(-m "not slow")
if [ "${1:-}" = --all ]; then
  chosen=()
  shift
fi
launch/install.sh dev
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
bin=.venv/bin

"$bin/ruff" format --check --quiet .
"$bin/ruff" check --quiet .
"$bin/mypy"
"$bin/lint-imports" --no-logo
exec "$bin/pytest" -n 2 --dist loadfile "${chosen[@]}" "$@"
