"""Trains, evaluates, predicts, or tells what training would need.

python main.py --config=FILE[:ARGUMENTS] [--config.FIELD=VALUE ...] [--workdir=DIR] [--mode=MODE]
python main.py --workdir=DIR --mode=predict       # a run's folder knows its config
python main.py --config=FILE --mode=config        # prints every field with its meaning
"""

import gc
import sys

from core import interrupts

interrupts.begin()  # before what takes seconds to import
# Imports and traced programs are millions of objects that stay. Looking for garbage among them
# after every 700 new ones took a sixteenth of a start.
gc.set_threshold(50_000, 20, 20)

from absl import app, flags, logging

from configs import printed
from core.console import say
from core.errors import UserError
from runtime import cluster
from training import loop
from training.planning import topology
from training.run import runfolder
from training.run.command import CommandLine

flags.DEFINE_string("workdir", None, "run folder, gs:// too; default: runs/ named after the config")
flags.DEFINE_enum("mode", "train", (*loop.MODES, "config"), "what to do; config: print it")
flags.DEFINE_bool(
    "multihost", None, "one of several processes; by itself on TPUs and under scripts/launch.py"
)


def about() -> str:
    """The text of --help."""
    own = flags.FLAGS.get_flags_for_module(sys.modules[__name__])
    lines = [f"  --{flag.name:11}  {flag.help}" for flag in own]
    return "\n".join(
        [__doc__, printed.overview(), "", "flags (--helpfull lists those of libraries):", *lines]
    )


LINE = CommandLine(about)


def main(argv):
    """Names the run folder, then hands over to the loop."""
    values = flags.FLAGS
    if not values["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax tells every rename at INFO
    try:
        if len(argv) > 1:
            raise UserError(f"unexpected arguments {argv[1:]}; flags start with --")
        if values.mode == "config":
            say(printed.commented(values.config, LINE.title()))
            return
        planned = values.config.dry_run.topology if values.mode == "dry_run" else ""
        topology.prepare(planned)  # devices that need not be there
        cluster.join(False if planned else values.multihost)
        with cluster.guard():
            workdir = runfolder.opened(LINE.workdir())
            if LINE.note:
                say(LINE.note)
            say(f"run folder: {workdir}")
            loop.run(values.config, workdir, values.mode, LINE.command())
    except UserError as error:  # the message says it all; a traceback would hide it
        sys.exit("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]))


if __name__ == "__main__":
    app.run(main, flags_parser=LINE.parse)
