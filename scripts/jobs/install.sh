#!/usr/bin/env bash
# Makes .venv in the project's folder: the versions of requirements.lock and JAX for an accelerator.
#   scripts/jobs/install.sh tpu|cuda
set -euo pipefail
cd "$(dirname "$0")/../.."
case "${1:-}" in
  tpu | cuda) ;;
  *) echo "error: the accelerator must be tpu or cuda, found '${1:-}'" >&2; exit 2 ;;
esac
if [ ! -x .venv/bin/python ]; then
  python="$(command -v python3.12 || command -v python3.11 || command -v python3.13 || true)"
  if [ -z "$python" ]; then  # images of TPU VMs bring Python 3.10; uv fetches a newer one
    python3 -m pip install --quiet --user uv
    python3 -m uv venv --seed --python 3.12 .venv
  else
    "$python" -m venv .venv
  fi
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[$1]"
