#!/usr/bin/env bash
# Trains on one TPU VM or on all workers of a pod slice until the run is finished.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() {
  cat <<'TEXT'
NAME=… ZONE=… TYPE=… VERSION=… WORKDIR=gs://… scripts/jobs/tpu.sh --config=… [flags of main.py]

Creates the TPU VM unless it is there, copies the project at the commit checked out here, installs
it, and on all workers runs SETUP, the preflight, then main.py --multihost. When the VM is preempted or a
command fails, it waits and begins again with the same WORKDIR, where the run goes on; it ends when
the run is finished, or when it failed RETRIES times in a row soon after its start.

required
  NAME      of the TPU VM; one that is there and READY is used as it is
  ZONE      such as us-central2-b
  TYPE      accelerator type: v5litepod-8 is one machine, v5litepod-16 a slice of four
  VERSION   of the TPU software, such as v2-alpha-tpuv5-lite
  WORKDIR   run folder on gs://, since the disks go with the machines
optional
  PROJECT   of Google Cloud [gcloud's own]
  SPOT=1    take spot capacity
  SETUP     shell command for every worker before the preflight, such as mounting the data
  DELETE=1  the VM may be deleted: to begin anew after a failure, and at the end
  RETRIES   failures in a row, each within SOON seconds of its start, that end the loop [3]
  SOON      [600]; take it longer than the way from one checkpoint to the next, so that a run that
            always fails at the same step ends, too
  WAIT      seconds before the next attempt [60]
  DRY=1     print the commands and do nothing
TEXT
}

fail() { echo "error: $*" >&2; exit 2; }
say() { echo "[$(date +%H:%M:%S)] $*"; }

case "${1:-}" in -h | --help | "") usage; [ $# -gt 0 ] && exit 0 || exit 2 ;; esac
for name in NAME ZONE TYPE VERSION WORKDIR; do
  [ -n "${!name:-}" ] || fail "$name must be set; scripts/jobs/tpu.sh --help tells to what"
done
[[ "$WORKDIR" == gs://* ]] || fail "WORKDIR must be on gs://, found $WORKDIR"
[[ " $*" == *" --config="* ]] || fail "--config=… must be among the flags, found: $*"
[[ " $*" != *" --workdir"* ]] || fail "the run folder is given as WORKDIR, not --workdir"
RETRIES="${RETRIES:-3}" SOON="${SOON:-600}" WAIT="${WAIT:-60}" DRY="${DRY:-}" DELETE="${DELETE:-}"
for name in RETRIES SOON WAIT; do
  [[ "${!name}" =~ ^[0-9]+$ ]] || fail "$name must be a whole number, found ${!name}"
done
where=(--zone="$ZONE" --quiet ${PROJECT:+--project="$PROJECT"})

# Every command of the job, as it is typed on a worker.
flags="$(printf ' %q' --multihost --workdir="$WORKDIR" "$@")"
# What a lost connection left running still holds the TPU: it is asked to save, then ended.
# shellcheck disable=SC2016  # expanded by the worker
clear_old='old="$(cat ~/vl.pid 2>/dev/null || true)"
if [ -n "$old" ] && grep -Eqs "main.py|preflight" "/proc/$old/cmdline"; then
  kill "$old"; timeout 90 tail --pid="$old" -f /dev/null || kill -9 "$old"
fi'
install='rm -rf ~/vl.new
git clone --quiet ~/vl.bundle ~/vl.new
[ ! -d ~/vl/.venv ] || mv ~/vl/.venv ~/vl.new/.venv
rm -rf ~/vl
mv ~/vl.new ~/vl
~/vl/scripts/jobs/install.sh tpu'
job="\$HOME/vl/scripts/jobs/worker.sh$flags"

run() {
  if [ -n "$DRY" ]; then printf '%q ' "$@"; echo; else "$@"; fi
}
tpu() { run gcloud compute tpus tpu-vm "$@" "${where[@]}"; }
workers() { tpu ssh "$NAME" --worker=all --command="set -e; $1"; }

# READY, PREEMPTED, ...; ABSENT where there is none; UNKNOWN where gcloud does not say.
state() {
  local answer
  if answer="$(gcloud compute tpus tpu-vm describe "$NAME" "${where[@]}" \
    --format="value(state)" 2>&1)"; then
    echo "${answer##*$'\n'}"
  elif [[ "$answer" == *NOT_FOUND* || "$answer" == *"not found"* ]]; then
    echo ABSENT
  else
    echo "$answer" >&2
    echo UNKNOWN
  fi
}

# Makes the VM READY. Returns 0; 3: it must be waited for; else the error.
bring_up() {
  local found code=0
  found="$(state)"
  case "$found" in
    READY) return 0 ;;
    UNKNOWN) return 1 ;;
    CREATING | STARTING | RESTARTING | REPAIRING | DELETING)
      say "$NAME is $found"
      return 3 ;;
    ABSENT) ;;
    *) say "$NAME is $found: deleting it"; tpu delete "$NAME" || return 3 ;;
  esac
  say "creating $NAME"
  tpu create "$NAME" --accelerator-type="$TYPE" --version="$VERSION" ${SPOT:+--spot} \
    2>&1 | tee "$scratch/create" || code=$?
  if [ "$code" -ne 0 ] && grep -qi "no more capacity\|not enough resources\|stockout" \
    "$scratch/create"; then
    return 3
  fi
  return "$code"
}

# One attempt on a VM that is READY. Returns 0 only where the run is finished.
work() {
  workers "$clear_old" || return
  tpu scp "$scratch/vl.bundle" "$NAME:vl.bundle" --worker=all || return
  workers "$install" || return
  if [ -n "${SETUP:-}" ]; then workers "$SETUP" || return; fi
  workers "$job" || return
}

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
if [ -n "$DRY" ]; then
  run git bundle create --quiet "$scratch/vl.bundle" HEAD
  tpu create "$NAME" --accelerator-type="$TYPE" --version="$VERSION" ${SPOT:+--spot}
  work
  [ -z "$DELETE" ] || tpu delete "$NAME"
  exit 0
fi
command -v gcloud > /dev/null || fail "gcloud is not installed: https://cloud.google.com/sdk"
[ -z "$(git status --porcelain)" ] || fail "there are changes that are not committed; workers get \
commits only:
$(git status --short)"
git bundle create --quiet "$scratch/vl.bundle" HEAD

failures=0
while true; do
  code=0
  bring_up || code=$?
  if [ "$code" -eq 3 ]; then
    say "no machine yet; again in $WAIT s"
    sleep "$WAIT"
    continue
  fi
  began="$SECONDS" found="not created"
  if [ "$code" -eq 0 ]; then
    work && break || code=$?
    found="$(state)"
    say "exit code $code after $((SECONDS - began)) s; $NAME is $found"
  fi
  # A machine that was taken away says nothing about the job; one that is there, or cannot be
  # had for another reason than capacity, does.
  if [[ "$found" =~ ^(READY|UNKNOWN|not created)$ ]]; then
    if ((SECONDS - began < SOON)); then failures=$((failures + 1)); else failures=0; fi
    if ((failures >= RETRIES)); then
      say "failed $failures times in a row, each within $SOON s; the output above says why"
      [ "$found" != READY ] || say "$NAME is still there and costs money"
      exit "$code"
    fi
    if [ "$found" = READY ] && [ -n "$DELETE" ]; then tpu delete "$NAME" || true; fi
  fi
  say "again in $WAIT s"
  sleep "$WAIT"
done
say "finished: $WORKDIR"
if [ -n "$DELETE" ]; then
  tpu delete "$NAME"
else
  say "$NAME still costs money: gcloud compute tpus tpu-vm delete $NAME ${where[*]}"
fi
