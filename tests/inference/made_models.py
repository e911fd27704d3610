"""Small models with random parameters on a few scenes, as runs to evaluate and as models to ask."""

import dataclasses
import functools
import importlib
import itertools
import tempfile

import jax

from checkpoints import run_config, sources
from inference.tasks import TaskModel
from runtime import sharding
from training import setup
from vl_models import loading

SCENES = dict(train=24, validation=12, test=8, feature_dim=16)
MODELS = ("vlbert", "vilbert")


@functools.cache
def folder():
    """Where the scenes of this session are."""
    made = tempfile.TemporaryDirectory(prefix="asked_")
    return made.name, made


def config_of(name, argument, **changes):
    """A config of a file of `configs/`, small."""
    config = importlib.import_module(f"configs.{name}").get_config(argument)
    config.data.dir = folder()[0]
    config.data.scenes.update(SCENES)
    config.data.vocab_size = 300
    small = dict(hidden=16, layers=2, heads=2, intermediate=16)
    config.model.update(small)
    if config.model.name == "vilbert":
        config.model.image.update(hidden=16, layers=2, heads=2, intermediate=16)
        config.model.connect.update(hidden=16, heads=2, text_at=(1,), image_at=(1,))
    config.model.init_range = 0.5  # so that answers differ
    for block in config.streams.values():
        if block.batch_size:
            block.batch_size = 8
    if "answer_count" in config.data:
        config.data.answer_count = 1
    config.update_from_flattened_dict(changes)
    return config


@dataclasses.dataclass
class Run:
    """What a trained run has, on one device."""

    config: object
    parts: object
    params: object

    @functools.cached_property
    def source(self):
        metadata = self.parts.data_metadata
        return sources.Source(
            place="a run",
            kind="run",
            arrays=loading.flatten(jax.device_get(self.params)),
            names={},
            pieces=metadata["pieces"],
            answers=metadata["answers"],
            config=run_config.plain(self.config),
            data_metadata=metadata,
            heads=self.parts.model.head_specs,
        )

    def model(self, **options):
        return TaskModel(self.source, **options)

    @functools.cached_property
    def predictor(self):
        (predictor,) = self.parts.predictors().values()
        return predictor

    def predictions(self):
        """All of the split, by --mode=predict's own code."""
        stream = self.predictor.stream
        return list(self.predictor.run(self.params, range(stream.steps_per_epoch)))

    def records(self):
        return list(self.predictor.stream.records())


@functools.cache
def run(name, argument, **changes):
    """A run of a config, not trained."""
    config = config_of(name, argument, **changes)
    mesh = sharding.make_mesh(dict(data=1, fsdp=1, tensor=1), devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        parts = setup.build(config, mesh)
        params = jax.jit(parts.model.init)(jax.random.key(1), parts.example)
    return Run(config, parts, params)


def store_of(made):
    """The region store of a run's images."""
    return next(iter(made.parts.predictors().values())).stream.store


def first(values, count):
    return list(itertools.islice(values, count))
