#!/usr/bin/env bash
# A smoke test: two rounds of the quickstart by four processes under torchrun, for both methods, and in one
# process; all files must be the same bytes. Installs what it needs on the first call; then about a minute.
# Exit code 0: they are; otherwise what differs or failed is named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

launch/install.sh
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
small=(devices=4 rounds=2 local.steps=3 local.batch_size=8 tasks.test_samples=10 --quiet)

for method in lora sparse_orthogonal; do
  section="{kind: $method}"
  [ "$method" = lora ] || section="{kind: $method, density: 0.10}"  # as in the quickstart
  order=(configs/quickstart.yaml "${small[@]}" --set "method=$section" --out)
  .venv/bin/emulator run "${order[@]}" "$place/$method-one" --driver one_process
  launch/torchrun.sh "${order[@]}" "$place/$method-four"
  printf '%s: four processes under torchrun against one process: ' "$method"
  .venv/bin/python tests/support/written.py "$place/$method-four" "$place/$method-one"
done
echo "smoke test passed"
