#!/usr/bin/env bash
# The main job: Dec-LoRA and sparse-and-orthogonal LoRA on the same 8 devices, data and channel, and a
# table of both. Installs what it needs on the first call.
#   launch/quickstart.sh [KEY.PATH=VALUE]...      e.g. launch/quickstart.sh seed=2
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

launch/install.sh
emulator=.venv/bin/emulator
runs=runs/quickstart

"$emulator" run configs/quickstart.yaml --force --quiet --out "$runs-lora" --set method.kind=lora "$@"
"$emulator" run configs/quickstart.yaml --force --quiet --out "$runs-sparse_orthogonal" "$@"
"$emulator" compare "$runs-lora" "$runs-sparse_orthogonal"
