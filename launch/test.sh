#!/usr/bin/env bash
# All checks: format, lint, types, import contract, tests. Installs what it needs on the first call.
#   launch/test.sh [pytest arguments]             e.g. launch/test.sh tests/unit/wire -x
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

launch/install.sh dev
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
bin=.venv/bin

"$bin/ruff" format --check --quiet .
"$bin/ruff" check --quiet .
"$bin/mypy"
"$bin/lint-imports" --no-logo
exec "$bin/pytest" -n 2 --dist loadfile "$@"
