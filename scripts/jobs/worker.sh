#!/usr/bin/env bash
# On each worker of a job: the preflight, then main.py with the same flags.
#   scripts/jobs/worker.sh --workdir=… --config=… [--multihost] [flags of main.py]
# Exits as they do, but 143 where main.py was told to stop and has steps left: it saves and exits 0
# then, which must not pass for a finished run.
set -euo pipefail
cd "$(dirname "$0")/../.."

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
: > "$scratch/output"
child=""
# Whoever must not find the device taken (scripts/jobs/tpu.sh) looks here for what holds it.
tell() { echo "$1" > "${WORKER_PID:-$HOME/vl.pid}"; }

# Runs a command and copies what it prints; passes SIGTERM on and still waits for the end.
run() {
  local code printer
  mkfifo "$scratch/pipe"
  # Neither a signal to all processes nor a lost connection may end the printer: its end would break
  # the command's output, and the command with it.
  (trap '' TERM HUP; exec tee -p -a "$scratch/output" < "$scratch/pipe") &
  printer=$!
  "$@" > "$scratch/pipe" 2>&1 &
  child=$!
  tell "$child"
  trap 'kill -TERM "$child" 2> /dev/null || true' TERM
  while true; do  # a signal ends `wait` early
    code=0
    wait "$child" || code=$?
    kill -0 "$child" 2> /dev/null || break
  done
  trap - TERM
  wait "$printer" || true
  rm "$scratch/pipe"
  return "$code"
}

# Exchanges beside computation: flags that this XLA knows, before those that are set already.
flags="$(.venv/bin/python -m runtime.xla_flags)"
if [ -n "$flags" ]; then echo "$flags"; export "${flags?}"; fi
run .venv/bin/python -m training.planning.preflight "$@"
run .venv/bin/python main.py "$@"
if grep -q "stopped by a signal" "$scratch/output"; then exit 143; fi
