#!/usr/bin/env bash
# Make .venv beside this folder and install the emulator into it; a second call returns at once.
#   launch/install.sh            for running it
#   launch/install.sh dev        with what tests and checks need
# PYTHON names another interpreter (3.11 or newer).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extra=${1:-run}
if [ "$extra" != run ] && [ "$extra" != dev ]; then
  echo "error: launch/install.sh: got $extra, wanted dev or no argument" >&2
  exit 2
fi
python=${PYTHON:-python3}
stamp=.venv/installed-$extra
wanted=$(cat pyproject.toml launch/constraints.txt | sha256sum)

for done in "$stamp" .venv/installed-dev; do  # dev holds all that running needs
  [ -f "$done" ] && [ "$(cat "$done")" = "$wanted" ] && exit 0
done
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "error: got $("$python" --version 2>&1 || true), wanted Python 3.11 or newer (set PYTHON)" >&2
  exit 2
fi
echo "Installing into .venv (once; a few minutes) ..." >&2
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
groups=()
[ "$extra" = dev ] && groups=(--group dev)
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
  --constraint launch/constraints.txt --editable . "${groups[@]}"
echo "$wanted" > "$stamp"
