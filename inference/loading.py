"""Opens a checkpoint by its place."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from checkpoints import sources
from inference import published
from inference.programs import BATCH_SIZES, LENGTHS
from inference.tasks import TaskModel
from input_pipeline.regions import RegionStore, extract, extractors
from input_pipeline.regions.spec import FeatureSpec


def load(
    place: str,
    *,
    regions: RegionStore | str | None = None,
    pictures: str = "",
    extractor: extract.Extractor | str | None = None,
    extractor_options: str = "",
    vocab: str = "",
    config: str | ConfigDict = "",
    fields: Mapping[str, Any] | None = None,
    answers: str | Sequence[str] = "",
    labels: Sequence[str] = (),
    feature_spec: str | FeatureSpec = "",
    task_id: int | None = None,
    device: jax.Device | str | None = None,
    dtype: str = "",
    batch_sizes: Sequence[int] = BATCH_SIZES,
    lengths: Sequence[int] = LENGTHS,
    long_texts: str = "error",
) -> TaskModel:
    """Opens a checkpoint: a run, a shared folder, a published file or a hub name.

    Args:
      place: see `checkpoints.sources.open_source`.
      regions: region store, or its folders, in which images are looked up by their ids; None: that
        of the data set that the run was trained on.
      pictures: folder of the images' pictures, which results then show; empty: those of the run's
        data set, where its regions are looked up.
      extractor: finds the regions of pictures, see `input_pipeline.regions.extract`, or the name of
        one as --extractor of the importers takes it; its features must be those that the model was
        trained on.
      extractor_options: of an extractor that is named, a JSON object of its class's arguments.
      vocab: vocab.txt of a published file that has none beside it.
      config: of a published file, which does not say its task: one that main.py takes, such as
        "configs/FILE.py:ARGUMENTS", or a ConfigDict.
      fields: {dotted field of that config: another value}.
      answers: of a published file, its answer list: a file, or the answers in order.
      labels: of a published file, the names of its classes in order.
      feature_spec: of a published file, the spec.json of its features; empty: that of `regions`.
      task_id: number of the task, for a published file with task tokens (12-in-1).
      device: "cpu", "gpu", "tpu", one with a number ("gpu:1"), or a device of JAX; None: the first.
      dtype: of matrix products, "float32" or "bfloat16"; empty: as it was trained.
      batch_sizes: rows of a batch; what is asked together is padded to one of these.
      lengths: of texts and of lists of regions in a batch, which are padded to the first that is
        enough; (): to the lengths of training, as --mode=predict does, whose numbers are then these
        to the last bit. Each shape is compiled once.
      long_texts: what happens to a text that the model has no room for: "error", or "cut" as in
        training.

    Raises:
      SourceError: nothing there, or no whole model (a BERT alone has no image side).
      ConfigError: an unknown device, dtype or other option; a config that is not the file's.
      DataError: no such store, or other features than the model was trained on.
    """
    source = sources.open_source(place, vocab=vocab)
    if regions is not None and not isinstance(regions, RegionStore):
        regions = RegionStore.open(regions)
    if config:
        spec = feature_spec or (regions.spec if regions is not None else "")
        given = published.Description(config, fields or {}, answers, labels, spec)
        source = published.described(source, given)
    if isinstance(extractor, str):
        extractor = extractors.load(extractor, extractor_options)
    return TaskModel(
        source,
        regions=regions,
        pictures=pictures,
        extractor=extractor,
        task_id=task_id,
        device=device,
        dtype=dtype,
        batch_sizes=batch_sizes,
        lengths=lengths,
        long_texts=long_texts,
    )
