#!/usr/bin/env bash
# One process per device under torchrun, on this host:
#   launch/torchrun.sh SCENARIO [emulator run arguments]
# As many processes as the scenario has devices (say devices=4 for another number).
# MASTER_PORT: a fixed port (default: a free one).
# MAX_RESTARTS: if a process fails, torchrun starts all again, at most so often (default 0); they go on from
# their last checkpoint.
# On several hosts: launch/torchrun_hosts.sh.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

"$root/launch/install.sh"
if [ $# -lt 1 ]; then
  echo "usage: launch/torchrun.sh SCENARIO [KEY.PATH=VALUE]... [--out DIR] [--force]" >&2
  exit 2
fi
python="$root/.venv/bin/python"

# Whatever is wrong with the input is said here, once: torchrun would wrap it in fifty lines.
devices=$("$python" -m emulator run "$@" --dry-run --quiet)

rendezvous=(--standalone)
if [ -n "${MASTER_PORT:-}" ]; then
  "$python" - "$MASTER_PORT" <<'PYTHON' || exit 2
import socket, sys
try:
    socket.create_server(("127.0.0.1", int(sys.argv[1]))).close()
except (OSError, OverflowError, ValueError) as error:
    sys.exit(f"error: MASTER_PORT: got {sys.argv[1]}, wanted a free port ({error})")
PYTHON
  rendezvous=(--master-addr 127.0.0.1 --master-port "$MASTER_PORT")
fi
export OMP_NUM_THREADS=1 TORCH_CPP_LOG_LEVEL=${TORCH_CPP_LOG_LEVEL:-ERROR}  # else torch tells of every goodbye
exec "$python" "$root/launch/torchrun.py" "${rendezvous[@]}" --nproc-per-node "$devices" \
  --max-restarts "${MAX_RESTARTS:-0}" -m emulator run "$@"
