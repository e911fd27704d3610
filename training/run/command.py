"""What the flags of main.py mean for a run: the config that it starts from, and its folder's name.

A run's folder knows its config, so `--workdir=RUN` is enough to continue, evaluate or predict; the
fields that are given are changed in it. With `--config` as well:

- Training takes the file as it is given, and the fields.
- Evaluation and prediction take the run's own settings, where the run was made from the same
  config: those are the fields that it was trained with. Another config, with other arguments, is
  taken as it is given.
"""

import functools
from collections.abc import Callable, Sequence

from absl import flags
from ml_collections import ConfigDict

from checkpoints import run_config
from core import flags as command_line
from core import remote
from core.errors import ConfigError
from training.run import runfolder

OF_TRAINED = ("eval", "predict")


class CommandLine:
    """The flags of one program.

    Attributes:
      note: where the config comes from, to be said; "" where the command line says it.
    """

    def __init__(self, about: Callable[[], str]):
        """Parses nothing yet.

        Args:
          about: about() → text for --help.
        """
        self._about, self.note = about, ""
        self._file, self._before = "", run_config.Command("", {})

    def parse(self, argv: Sequence[str]) -> list[str]:
        """For `app.run(main, flags_parser=...)`; see `core.flags.parse`."""
        start = functools.partial(self._start, argv)
        return command_line.parse(argv, start=start, about=self._about)

    def command(self) -> run_config.Command | None:
        """What the config was made from, over all commands of the run; None where unknown."""
        given = self._before.overrides | command_line.overrides()
        return run_config.Command(self._file, given) if self._file else None

    def workdir(self) -> str | remote.Path:
        """The run folder: --workdir, or one named after the command."""
        given = flags.FLAGS.workdir
        return given or runfolder.name_of(self._file, command_line.overrides())

    def title(self) -> str:
        """The config's file and arguments, or the run that it is of."""
        return self.note or self._file

    def _start(self, argv: Sequence[str], argument: str) -> ConfigDict:
        workdir, mode = (command_line.value_in(argv, name) for name in ("workdir", "mode"))
        if not argument:
            return self._of_run(workdir)
        self._file = argument
        config = command_line.load(argument)
        own = None
        if workdir and mode in OF_TRAINED:
            remote.require(workdir, "--workdir")
            own = run_config.read(workdir)
        if own is None:
            return config
        if own.made_from(command_line.load(argument)):
            return self._taken(own, workdir)
        self.note = (
            f"config: {argument} as it is given here; it is not what {workdir} was trained with, "
            "whose settings do not count"
        )
        return config

    def _of_run(self, workdir: str) -> ConfigDict:
        if not workdir:
            raise ConfigError(
                "there is no config",
                expected="--config=FILE, or --workdir=FOLDER of a run, which knows its own",
                fix=f"--config= one of {', '.join(command_line.known_files())}; --help says more",
            )
        remote.require(workdir, "--workdir")
        own = run_config.read(workdir)
        if own is None:
            raise ConfigError(
                "there is no config, neither on the command line nor in the run folder",
                where=f"--workdir={workdir}",
                expected=f"the folder of a run, with {run_config.CONFIG}",
                found="a folder without it" if remote.path(workdir).exists() else "no such folder",
                fix="check the path, or give --config=FILE",
            )
        return self._taken(own, workdir)

    def _taken(self, own: run_config.RunConfig, workdir: str) -> ConfigDict:
        self.note = f"config: that of {workdir}"
        if own.command:
            self._file, self._before = own.command.config, own.command
            count = len(own.command.overrides)
            self.note += f", {own.command.config}"
            self.note += f" and the {count} fields that were given with it" if count else ""
        return own.config
