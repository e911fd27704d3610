"""Trains, evaluates, predicts, or tells what training would need.

python main.py --config=FILE [--workdir=DIR] [--mode=train|eval|predict|dry_run]
"""

import sys

from core import interrupts

interrupts.begin()  # before what takes seconds to import

from absl import app, flags, logging
from ml_collections import config_flags

from core.console import say
from core.errors import UserError
from core.flags import parse
from runtime import cluster
from training import loop
from training.planning import topology
from training.run import runfolder

config_flags.DEFINE_config_file("config", None, "config file, with :arguments", lock_config=True)
flags.DEFINE_string("workdir", None, "run folder, gs:// too; default: runs/ named after the config")
flags.DEFINE_enum("mode", "train", loop.MODES, "what to do")
flags.DEFINE_bool(
    "multihost", None, "one of several processes; by itself on TPUs and under scripts/launch.py"
)
flags.mark_flag_as_required("config")


def main(argv):
    """Names the run folder, then hands over to the loop."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; flags start with --")
    values = flags.FLAGS
    if not values["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax tells every rename at INFO
    overrides = config_flags.get_override_values(values["config"])
    workdir = values.workdir or runfolder.name_of(
        config_flags.get_config_filename(values["config"]),
        [f"{name}={value}" for name, value in overrides.items()],
    )
    try:
        planned = values.config.dry_run.topology if values.mode == "dry_run" else ""
        topology.prepare(planned)  # devices that need not be there
        cluster.join(False if planned else values.multihost)
        with cluster.guard():
            workdir = runfolder.opened(workdir)
            say(f"run folder: {workdir}")
            loop.run(values.config, workdir, values.mode)
    except UserError as error:  # the message says it all; a traceback would hide it
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
