#!/usr/bin/env bash
# On several hosts: one torchrun on each, whose one process forks that host's devices. On each of them call
#   HOSTS=4 MASTER_ADDR=10.0.0.1 HOST_RANK=0 launch/torchrun_hosts.sh SCENARIO [emulator run arguments]
# HOSTS        how many hosts
# MASTER_ADDR  where all meet: the address by which the others reach that host
# MASTER_PORT  a free port there (default 29500)
# HOST_RANK    this host's number, 0 on MASTER_ADDR, which gets the results (static rendezvous).
#              Without it hosts number themselves (c10d): the first address, in the order of text, is 0.
# DEVICES_PER_HOST  default: devices by HOSTS, rounded up; the last host may have fewer
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
port=${MASTER_PORT:-29500}

wrong() {
  echo "error: $1" >&2
  exit 2
}
within() { # NUMBER LEAST MOST
  [[ $1 =~ ^(0|[1-9][0-9]{0,5})$ ]] && [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]
}

[ $# -ge 1 ] || wrong "SCENARIO: got none, wanted launch/torchrun_hosts.sh SCENARIO [KEY.PATH=VALUE]... [--out DIR] [--force]"
within "${HOSTS:-}" 1 100000 || wrong "HOSTS: got '${HOSTS:-}', wanted the number of hosts"
[ -n "${MASTER_ADDR:-}" ] || wrong "MASTER_ADDR: got '', wanted the address of the host where all meet"
within "$port" 1 65535 || wrong "MASTER_PORT: got '$port', wanted a port"
if [ -n "${HOST_RANK:-}" ]; then
  within "$HOST_RANK" 0 $((HOSTS - 1)) || wrong "HOST_RANK: got '$HOST_RANK', wanted 0 <= HOST_RANK < HOSTS = $HOSTS"
fi
"$root/launch/install.sh"
python="$root/.venv/bin/python"

# c10d takes names that a host gives itself, which others may not know: tell it addresses.
rendezvous=$("$python" - "$MASTER_ADDR" "$port" "${HOST_RANK:-}" <<'PYTHON'
import socket, sys
host, port, rank = sys.argv[1], int(sys.argv[2]), sys.argv[3]
try:
    family, _, _, _, there = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(there)  # finds the way; nothing is sent
        own = probe.getsockname()[0]
    serves = rank == "0" or (not rank and own == there[0] and not own.startswith("127."))
    if serves:
        socket.create_server(there, family=family).close()
except OSError as error:
    sys.exit(f"error: MASTER_ADDR and MASTER_PORT: got {host} and {port}, wanted a host to be reached and a free port there ({error})")
if rank:
    print(f"--rdzv-backend static --node-rank {rank}")
else:
    print(f"--rdzv-backend c10d --rdzv-id emulator --local-addr {own}", "--rdzv-conf is_host=1" * serves)
PYTHON
) || exit 2

# Whatever is wrong with the input is said here, before anybody waits for the others.
devices=$("$python" -m emulator run "$@" --dry-run --quiet)
here=${DEVICES_PER_HOST:-$(((devices + HOSTS - 1) / HOSTS))}
within "$here" 1 100000 || wrong "DEVICES_PER_HOST: got '$here', wanted a number of devices"
wanted=$(((devices + here - 1) / here))
[ "$HOSTS" -eq "$wanted" ] || wrong "HOSTS: got $HOSTS, wanted $wanted for $devices devices, $here a host"

case " $* " in
  *" --quiet "*) ;;
  *) echo "rendezvous at $MASTER_ADDR:$port, $HOSTS hosts in all" >&2 ;;
esac
export OMP_NUM_THREADS=1 TORCH_CPP_LOG_LEVEL=${TORCH_CPP_LOG_LEVEL:-ERROR}  # else torch tells of every goodbye
# shellcheck disable=SC2086  # several words
exec "$python" "$root/launch/torchrun.py" $rendezvous --rdzv-endpoint "$MASTER_ADDR:$port" \
  --nnodes "$HOSTS" --nproc-per-node 1 -m emulator run "$@" --devices-per-host "$here"
