"""Preflight: whether all hosts of a job are alike and can reach what it needs.

python -m training.planning.preflight --config=configs/vlbert_pretrain.py \
    --workdir=gs://… [--multihost]

Takes the command line of main.py and runs on every host at the same time. It prints one line per
host and exits 0, or names the host that differs, what is wrong with it and the fix, and exits 1.
What needs no devices is compared first: a host with another version is found, not waited for.
"""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import os
import socket
import sys
from collections.abc import Sequence

from ml_collections import ConfigDict

from core import remote
from core.console import command, say, warn
from runtime import coordination
from training.planning import host_checks, host_reports
from training.planning.host_checks import attempt


def run(
    config: ConfigDict, workdir: str, *, mode: str, seconds: float, least_gb: float
) -> list[str]:
    """Checks this host, and compares it with the others; the first process prints.

    Args:
      config: of the run.
      workdir: run folder, of this machine or gs://.
      mode: of main.py.
      seconds: to wait for the slowest host, at each of two stages.
      least_gb: disk space that must be free, in GB.

    Returns:
      The problems, the same on every process that hears of the others.
    """
    client, count = coordination.client(), coordination.num_processes()
    report = dict(
        host=socket.gethostname(),
        commit=attempt(host_checks.commit),
        source=attempt(host_checks.source_digest),
        command=f"--workdir={workdir}, --mode={mode}",
        config=attempt(lambda: host_checks.config_digest(config)),
        versions=attempt(host_checks.versions),
        disk=attempt(lambda: host_checks.free_space([workdir, config.data.dir], least_gb)),
        workdir=attempt(lambda: host_checks.probe(workdir)),
    )
    # Left by the first process until all have looked for it: the folder must be the same one.
    token = remote.path(workdir) / ".preflight-first"
    first = client is None or coordination.process_id() == 0
    if first and report["workdir"] == "ok":
        token.write_text(str(os.getpid()))
    try:
        found = host_reports.gather("hosts", report, seconds)
        problems = host_reports.compare(found, count, seconds)
        if not problems:
            more = dict(
                shared=attempt(lambda: host_checks.same_folder(token)),
                devices=attempt(host_checks.devices),
                data=attempt(lambda: host_checks.data(config)),
            )
            added = host_reports.gather("devices", more, seconds)
            problems = host_reports.compare(
                {process: {"host": found[process]["host"]} | new for process, new in added.items()},
                count,
                seconds,
            )
            found = {process: old | added.get(process, {}) for process, old in found.items()}
    finally:
        if first:
            token.unlink(missing_ok=True)
    if first:
        say(host_reports.table(found))
        say(f"versions: {found[0]['versions']}")
        changed = [str(p) for p, one in found.items() if one["commit"].endswith("+")]
        if changed:
            say(f"note: uncommitted changes on process {', '.join(changed)}")
        for problem in problems:
            warn(f"problem: {problem}")
        say(f"preflight: {len(problems)} problems" if problems else f"preflight: {count} ready")
    return problems


@command
def main(argv: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    from absl import app, flags, logging

    from runtime import cluster

    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; flags start with --")
    values = flags.FLAGS
    if not values["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    cluster.join(values.multihost)
    problems = run(
        values.config,
        values.workdir,
        mode=values.mode,
        seconds=values.seconds,
        least_gb=values.free_gb,
    )
    sys.stdout.flush()
    return 1 if problems else 0


if __name__ == "__main__":
    from absl import app, flags

    from training.run.command import CommandLine

    flags.DEFINE_string("workdir", None, "as for main.py")
    flags.DEFINE_string("mode", "train", "as for main.py")
    flags.DEFINE_bool("multihost", None, "as for main.py")
    flags.DEFINE_float("seconds", 600, "to wait for the slowest host", lower_bound=1)
    flags.DEFINE_float("free_gb", 5, "disk space that must be free, in GB", lower_bound=0)
    flags.mark_flag_as_required("workdir")
    app.run(main, flags_parser=CommandLine(lambda: str(__doc__)).parse)
