"""A run that trains a detector: the loop of all runs on pictures and their objects."""

import dataclasses
import os
import shutil

import jax
from ml_collections import ConfigDict

from checkpoints import checkpoint
from checkpoints import detector as detectors
from core import remote
from core.console import say
from core.errors import ConfigError
from input_pipeline.datasets.reading.prepared import Prepared
from objectives.detection import STREAM, DetectorTask, Sampling
from runtime import compile_cache, sharding, signals, watchdog
from training import loop
from training.detection.data import PictureSet
from training.detection.evaluator import Detections
from training.parts import Parts
from training.run import disk, goodput, runfolder
from vl_models import loading
from vl_models.vision.canvas import Pixels
from vl_models.vision.faster_rcnn import DetectorSizes, Selection

FOLDER = "detector"  # in the run's folder


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a detector's run is made of, beside its config.

    Attributes:
      sizes: of the network; classes and attributes are the data set's.
      sampling: what is learned of a picture.
      selection: of boxes, in evaluation and in the detector that is saved.
      pixels: how pictures are resized.
      train_split, eval_split: of the data set.
    """

    sizes: DetectorSizes
    sampling: Sampling
    selection: Selection
    pixels: Pixels
    train_split: str = "train"
    eval_split: str = "validation"


def run(config: ConfigDict, workdir: str | os.PathLike, prepared: Prepared, recipe: Recipe) -> dict:
    """Trains, or goes on where the same command stopped; then writes WORKDIR/detector.

    Args:
      config: blocks `optimizer`, `mesh`, `checkpoint` and so on of a run, and
        `streams.pictures.batch_size`.
      workdir: the run's folder.
      prepared: pictures and their objects.
      recipe: see there.

    Returns:
      What WORKDIR/summary.json holds.

    Raises:
      UserError: data or settings that do not fit.
    """
    ledger, workdir = goodput.Ledger(), remote.path(workdir)
    if remote.is_remote(workdir):
        raise ConfigError("a detector is trained in a folder of this machine", found=str(workdir))
    disk.require_writable(workdir)
    compile_cache.enable(config.compile_cache)
    mesh = sharding.make_mesh(config.mesh)
    with (
        disk.explained(workdir),
        runfolder.alone(workdir),
        jax.set_mesh(mesh),
        signals.StopSignal(True, lambda: disk.state(workdir)) as stop,
    ):
        names = prepared.object_names
        sizes = dataclasses.replace(recipe.sizes, classes=len(names[0]), attributes=len(names[1]))
        recipe = dataclasses.replace(recipe, sizes=sizes)
        parts = build(config, prepared, recipe)
        with watchdog.watching(config.stall, workdir):
            summary = loop.train(config, workdir, parts, mesh, stop, ledger)
    if summary and summary["step"] == config.total_steps and jax.process_index() == 0:
        save(workdir, prepared, recipe)
    return summary


def build(config: ConfigDict, prepared: Prepared, recipe: Recipe) -> Parts:
    """The parts of a run, see `training.setup.build`."""
    task = DetectorTask(recipe.sizes, recipe.sampling, recipe.pixels.mean)
    size = config.streams[STREAM].batch_size
    train = PictureSet(prepared, recipe.train_split, recipe.pixels)
    validation = PictureSet(prepared, recipe.eval_split, recipe.pixels)
    say(
        f"pictures of {recipe.train_split}: {len(train):,}, of {recipe.eval_split}: "
        f"{len(validation):,}; {recipe.sizes.classes} classes, {recipe.sizes.attributes} attributes"
    )
    return Parts(
        model=task,
        example={STREAM: train.draw(config.seed, 0, size)},
        batches=lambda plan: train.batches(config.seed, size, plan),
        fingerprints={STREAM: train.fingerprint},
        evaluators={
            "detection": Detections(
                task, validation, recipe.selection, split=recipe.eval_split, batch_size=size
            )
        },
    )


def save(workdir: remote.Path, prepared: Prepared, recipe: Recipe) -> None:
    """Writes the newest parameters of a run as WORKDIR/detector, in place of those before."""
    folder = workdir / FOLDER
    params, meta = checkpoint.load_params(workdir, prefer_best=False)
    origin = f"{workdir}, step {meta['step']}"
    if folder.exists():
        if detectors.load(str(folder)).origin == origin:
            return
        shutil.rmtree(folder)
    resnet = dataclasses.replace(recipe.sizes.resnet, frozen_stages=2, frozen_norm=True)
    made = detectors.Detector(
        sizes=dataclasses.replace(recipe.sizes, resnet=resnet),
        arrays=loading.flatten(params),
        selection=recipe.selection,
        pixels=recipe.pixels,
        objects=prepared.object_names[0],
        attributes=prepared.object_names[1],
        origin=origin,
    )
    detectors.save(folder, made)
    say(f"detector: {folder}")
