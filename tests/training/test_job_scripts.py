"""The job scripts, with a gcloud, an srun and a main.py that only pretend."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = sorted([*ROOT.glob("scripts/jobs/*.sh"), *ROOT.glob("scripts/jobs/*.sbatch")])

# State and plans are files in $FAKE: `state` of the VM (absent where there is none), `creations`
# and `jobs` with a word a line for each to come, `calls` with what was asked.
GCLOUD = """#!/usr/bin/env bash
set -eu
cd "$FAKE"
echo "$*" | tr '\\n' ' ' >> calls; echo >> calls
take() { word="$(head -n 1 "$1")"; sed -i 1d "$1"; }
case "$*" in
  *" describe "*)
    [ -e state ] || { echo "ERROR: NOT_FOUND: no such node" >&2; exit 1; }
    cat state ;;
  *" delete "*) rm state ;;
  *" create "*)
    take creations
    case "$word" in
      ok) echo READY > state ;;
      full) echo "There is no more capacity in the zone" >&2; exit 1 ;;
      quota) echo "Quota exceeded" >&2; exit 1 ;;
    esac ;;
  *worker.sh*)
    take jobs
    case "$word" in
      done) ;;
      stopped) exit 143 ;;
      stopped-preempted) echo PREEMPTED > state; exit 143 ;;
      preempted) echo PREEMPTED > state; exit 255 ;;
      failed) exit 7 ;;
    esac ;;
esac
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def project(tmp_path):
    """A clean git checkout with the scripts, and the fakes' folder on PATH."""
    folder = tmp_path / "project"
    for path in SCRIPTS:
        write(folder / "scripts/jobs" / path.name, path.read_text())
    write(folder / "main.py", "")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def environment(tmp_path, **more):
    given = dict(NAME="vm", ZONE="z", TYPE="v5litepod-16", VERSION="v", WORKDIR="gs://b/run")
    given |= dict(WAIT="0", FAKE=str(tmp_path), HOME=str(tmp_path))
    given["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return {k: v for k, v in (os.environ | given | more).items() if v is not None}


def tpu(project, creations="", jobs="", state=None, flags=("--config=c.py:a=1,b=2",), **more):
    """Runs tpu.sh; its exit code, output, and the calls of gcloud."""
    folder = project.parent
    write(folder / "bin/gcloud", GCLOUD)
    for name, words in (("creations", creations), ("jobs", jobs)):
        (folder / name).write_text("".join(word + "\n" for word in words.split()))
    if state:
        (folder / "state").write_text(state + "\n")
    done = subprocess.run(
        ["bash", "scripts/jobs/tpu.sh", *flags],
        cwd=project,
        env=environment(folder, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    calls = folder / "calls"
    asked = calls.read_text().splitlines() if calls.exists() else []
    calls.unlink(missing_ok=True)
    return (
        done.returncode,
        done.stdout,
        [call.removeprefix("compute tpus tpu-vm ") for call in asked],
    )


def verbs(calls):
    """What was asked, one word each; "job" for the job itself."""
    return [
        "job" if "worker.sh" in call else call.split()[0]
        for call in calls
        if not call.startswith("describe") and ("ssh" not in call or "worker.sh" in call)
    ]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash(path):
    assert os.access(path, os.X_OK) or path.suffix == ".sbatch"
    assert "set -euo pipefail" in path.read_text()
    subprocess.run(["bash", "-n", path], check=True)


def test_a_finished_run_ends_the_loop_and_every_worker_gets_the_same(project):
    code, out, calls = tpu(project, "ok", "done", SPOT="1", PROJECT="p", SETUP="mount it")
    assert code == 0, out
    assert "finished: gs://b/run" in out
    assert "delete vm --zone=z" in out  # how to stop paying
    assert verbs(calls) == ["create", "scp", "job"]
    assert all("--zone=z" in call and "--project=p" in call for call in calls)
    created = next(call for call in calls if call.startswith("create"))
    assert "create vm --accelerator-type=v5litepod-16 --version=v --spot" in created
    sent = [call for call in calls if call.startswith(("ssh", "scp"))]
    assert all("--worker=all" in call for call in sent)
    order = ["vl.pid", "vl.bundle vm:", "git clone", "mount it", "worker.sh"]
    assert [word for word, call in zip(order, sent, strict=True) if word in call] == order
    assert "worker.sh --multihost --workdir=gs://b/run --config=c.py:a=1\\,b=2" in sent[-1]


def test_a_preempted_machine_is_made_anew_however_often(project):
    code, out, calls = tpu(
        project,
        "ok ok ok ok ok",
        "preempted preempted stopped-preempted preempted done",
        DELETE="1",
    )
    assert code == 0, out
    again = ["delete", "create", "scp", "job"]
    assert verbs(calls) == again[1:] + again * 4 + ["delete"]


def test_failures_soon_after_the_start_end_the_loop(project):
    code, out, calls = tpu(project, "", "failed failed failed", state="READY")
    assert code == 7
    assert "failed 3 times in a row" in out
    assert "costs money" in out
    assert verbs(calls) == ["scp", "job"] * 3  # a machine that was there is never deleted unasked

    code, out, calls = tpu(project, "ok", "failed failed", state="READY", DELETE="1", RETRIES="2")
    assert (code, verbs(calls)) == (7, ["scp", "job", "delete", "create", "scp", "job"])


def test_failures_after_a_long_time_do_not_add_up(project):
    code, out, calls = tpu(project, "", "failed " * 5 + "done", state="READY", SOON="0")
    assert code == 0, out
    assert verbs(calls).count("job") == 6


def test_a_run_that_was_told_to_stop_goes_on(project):
    code, out, calls = tpu(project, "", "stopped done", state="READY")
    assert code == 0, out
    assert verbs(calls).count("job") == 2


def test_capacity_is_waited_for_and_other_refusals_are_not(project):
    code, out, calls = tpu(project, "full full full full full ok", "done")
    assert code == 0, out
    assert verbs(calls).count("create") == 6
    (project.parent / "state").unlink()
    code, out, calls = tpu(project, "quota quota quota quota", "")
    assert code == 1
    assert verbs(calls) == ["create"] * 3


def test_a_dry_run_prints_and_does_nothing(project):
    code, out, calls = tpu(project, DRY="1", SPOT="1", DELETE="1")
    assert code == 0, out
    assert calls == []
    lines = [line for line in out.splitlines() if line.startswith("gcloud compute tpus tpu-vm ")]
    assert lines[0].split()[4] == "create"
    assert "worker.sh" in out
    assert lines[-1].split()[4] == "delete"


@pytest.mark.parametrize(
    ("change", "flags", "said"),
    [
        (dict(ZONE=None), ["--config=c"], "ZONE must be set"),
        (dict(WORKDIR="runs/a"), ["--config=c"], "WORKDIR must be on gs://, found runs/a"),
        (dict(RETRIES="few"), ["--config=c"], "RETRIES must be a whole number, found few"),
        ({}, ["--mode=train"], "--config=… must be among the flags"),
        ({}, ["--config=c", "--workdir=gs://x"], "WORKDIR, not --workdir"),
    ],
)
def test_what_is_missing_is_named(project, change, flags, said):
    code, out, calls = tpu(project, flags=flags, **change)
    assert (code, calls) == (2, [])
    assert said in out


def test_changes_without_a_commit_are_refused(project):
    (project / "main.py").write_text("changed")
    code, out, calls = tpu(project, "ok", "done")
    assert (code, calls) == (2, [])
    assert "not committed" in out
    assert "main.py" in out


PYTHON = """#!/usr/bin/env bash
# .venv/bin/python of the fake project: XLA's flags, the preflight, or main.py.
echo "$*" >> "$FAKE/calls"
if [ "$*" = "-m runtime.xla_flags" ]; then echo "${FLAGS:-}"; exit 0; fi
if [ "$1" = -m ]; then exit "${PREFLIGHT:-0}"; fi
trap 'sleep 0.2; echo "stopped by a signal; step 3 is saved"; exit 0' TERM
echo running ${XLA_FLAGS:-}; touch "$FAKE/running"
for _ in $(seq "${TENTHS:-0}"); do sleep 0.1; done
echo ended
exit "${CODE:-0}"
"""


def worker(project, *command, **more):
    write(project / ".venv/bin/python", PYTHON)
    more.setdefault("XLA_FLAGS", None)
    return subprocess.Popen(
        command or ["bash", "scripts/jobs/worker.sh", "--workdir=w", "--config=c"],
        cwd=project,
        env=environment(project.parent, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def when_running(project):
    until = time.monotonic() + 20
    while not (project.parent / "running").exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_worker_runs_the_preflight_and_then_the_same_flags(project):
    process = worker(project)
    assert "running\nended\n" in process.communicate(timeout=20)[0]
    assert process.returncode == 0
    calls = (project.parent / "calls").read_text().splitlines()
    assert calls == [
        "-m runtime.xla_flags",
        "-m training.planning.preflight --workdir=w --config=c",
        "main.py --workdir=w --config=c",
    ]

    (project.parent / "calls").unlink()
    process = worker(project, PREFLIGHT="1")
    process.communicate(timeout=20)
    assert process.returncode == 1
    assert "main.py" not in (project.parent / "calls").read_text()

    process = worker(project, FLAGS="XLA_FLAGS=--one=1 --two=2")
    assert "running --one=1 --two=2\n" in process.communicate(timeout=20)[0]

    process = worker(project, CODE="9")
    process.communicate(timeout=20)
    assert process.returncode == 9


@pytest.mark.parametrize("everyone", [False, True], ids=["the script", "its whole session"])
def test_a_worker_passes_sigterm_on_and_does_not_pass_for_finished(project, everyone):
    process = worker(project, TENTHS="100")
    when_running(project)
    (os.killpg if everyone else os.kill)(process.pid, signal.SIGTERM)
    out = process.communicate(timeout=20)[0]
    assert process.returncode == 143
    assert "step 3 is saved" in out
    assert "ended" not in out


def test_a_worker_outlives_whoever_reads_its_output(project):
    process = worker(project, TENTHS="5")
    when_running(project)
    process.stdout.close()
    assert process.wait(timeout=20) == 0


def test_the_words_that_tell_a_stopped_run_are_those_that_the_loop_prints():
    said = "stopped by a signal"
    assert said in (ROOT / "scripts/jobs/worker.sh").read_text()
    assert f'say(f"{said}; step' in (ROOT / "training/trainer.py").read_text()


def slurm(project, **more):
    """slurm.sbatch with an srun that starts one task, as SLURM would."""
    folder = project.parent
    write(
        folder / "bin/srun", '#!/usr/bin/env bash\necho "srun $*" >> "$FAKE/calls"\nexec "${@:2}"'
    )
    write(
        folder / "bin/scancel",
        '#!/usr/bin/env bash\necho "scancel $*" >> "$FAKE/calls"\nkill -TERM "$(cat "$FAKE/task")"',
    )
    write(folder / "bin/scontrol", '#!/usr/bin/env bash\necho "scontrol $*" >> "$FAKE/calls"')
    return worker(
        project,
        *["bash", "scripts/jobs/slurm.sbatch", "--workdir=w", "--config=c"],
        SLURM_JOB_ID="12",
        SLURM_SUBMIT_DIR=str(project),
        **more,
    )


def test_slurm_requeues_at_the_time_limit_and_after_late_failures_only(project):
    calls = project.parent / "calls"

    def asked():
        lines = calls.read_text().splitlines()
        calls.unlink()
        return [line for line in lines if line.startswith("sc")]

    process = slurm(project, SLURM_NTASKS="16")
    process.communicate(timeout=20)
    assert process.returncode == 0
    first = calls.read_text().splitlines()[0]
    assert first == (
        "srun --kill-on-bad-exit=1 scripts/jobs/worker.sh --multihost --workdir=w --config=c"
    )
    assert asked() == []

    process = slurm(project, CODE="5")
    process.communicate(timeout=20)
    assert (process.returncode, asked()) == (5, [])

    process = slurm(project, CODE="5", SOON="0")
    process.communicate(timeout=20)
    assert (process.returncode, asked()) == (5, ["scontrol requeue 12"])

    (project.parent / "running").unlink()
    process = slurm(project, TENTHS="100", SOON="0")
    when_running(project)
    task = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    )
    (project.parent / "task").write_text(task.stdout)
    os.kill(process.pid, signal.SIGUSR1)
    out = process.communicate(timeout=20)[0]
    assert process.returncode == 143, out
    assert asked() == ["scancel --signal=TERM 12", "scontrol requeue 12"]


def test_the_jobset_is_yaml_and_its_numbers_agree():
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((ROOT / "scripts/jobs/jobset.yaml").read_text())
    assert (found["kind"], found["apiVersion"]) == ("JobSet", "jobset.x-k8s.io/v1alpha2")
    job = found["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["parallelism"] == job["completions"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    chips = container["resources"]
    assert chips["requests"] == chips["limits"]
    rows, columns = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    assert rows * columns == job["parallelism"] * chips["limits"]["google.com/tpu"]
    (script,) = container["args"]
    words = script.split()
    assert (ROOT / words[1]).exists()
    given = {variable["name"] for variable in container["env"]}
    assert {"WORKDIR", "CONFIG"} == given
    assert all(f'="${name}"' in script for name in given)
