"""What of a config must fit the devices: checked before data are opened or anything compiled."""

import jax
from ml_collections import ConfigDict

from evaluation import predict
from runtime import sharding
from training.planning import assumed


def check(config: ConfigDict, mesh: jax.sharding.Mesh, mode: str) -> None:
    """Every batch that a mode runs must be cut evenly by the devices that share it.

    Args:
      config: of the run.
      mesh: to run on.
      mode: of main.py; a dry run is as training.

    Raises:
      ConfigError: names the field, its value and one that fits.
    """
    sharding.check_processes(mesh)
    if mode in ("train", "dry_run"):
        sizes = {name: block.batch_size for name, block in config.streams.items()}
        sharding.check_batch_sizes(sizes, mesh, config.optimizer.accumulate)
    elif mode == "predict":
        names = predict.streams_of(assumed.model(config))
        sharding.check_batch_sizes({name: config.streams[name].batch_size for name in names}, mesh)
    # Every mode builds the evaluations of the config.
    sizes = {name: block.batch_size for name, block in config.evals.items()}
    sharding.check_batch_sizes(sizes, mesh, where="config.evals")
