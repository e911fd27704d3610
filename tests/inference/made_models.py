"""Small models with random parameters on a few scenes, as runs to evaluate and as models to ask."""

import dataclasses
import functools
import importlib
import json
import pathlib
import tempfile

import jax
import numpy as np

from checkpoints import run_config, sources
from inference import questions
from inference.tasks import TaskModel
from input_pipeline.regions import FeatureSpec, RegionWriter
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


@functools.cache
def files():
    """Own lines and official files on a few images, of which each has three boxes."""
    place, random = pathlib.Path(folder()[0]), np.random.default_rng(0)
    spec = FeatureSpec("toy", 16, dtype="float32")
    images, boxes, stored = [], [], []
    lines = {split: {"classify": [], "ground": []} for split in ("train", "val")}
    for i in range(18):
        split = "train" if i < 6 else "val"
        corners = np.array([[5, 5, 60, 40], [50, 30, 120, 90], [10, 60, 90, 95]]) + i
        ids = [10 * i + k for k in range(3)]
        boxes += [
            dict(box_id=box, x=int(x), y=int(y), width=int(x2 - x), height=int(y2 - y), image_id=i,
                 name="x")
            for box, (x, y, x2, y2) in zip(ids, corners, strict=True)
        ]  # fmt: skip
        asked = dict(
            qa_id=i, question=f"which of {i} is it?", answer=ids[i % 3],
            multiple_choices=[box for box in ids if box != ids[i % 3]],
        )  # fmt: skip
        images.append(dict(image_id=i, filename="x.jpg", split=split, qa_pairs=[asked]))
        common = dict(image_id=str(i), text=f"it is number {i}")
        lines[split]["classify"].append(common | dict(label=["yes", "no", "maybe"][i % 3]))
        lines[split]["ground"].append(
            common | dict(box=corners[i % 3].tolist(), candidates=corners[: 2 + i % 2].tolist())
        )
        features = random.standard_normal((3, 16)).astype(np.float32)
        stored.append((str(i), dict(boxes=corners, features=features, height=130, width=160)))
    (place / "dataset_v7w_pointing.json").write_text(json.dumps(dict(images=images, boxes=boxes)))
    for split, kinds in lines.items():
        for kind, found in kinds.items():
            text = "".join(json.dumps(line) + "\n" for line in found)
            (place / f"{kind}-{split}.jsonl").write_text(text)
    with RegionWriter(place / "store", spec) as writer:
        for image, arguments in stored:
            writer.add(image, **arguments)
    return place


def config_of(name, argument, **changes):
    """A config of a file of `configs/`, small."""
    config = importlib.import_module(f"configs.{name}").get_config(argument)
    config.data.dir = folder()[0]
    if "scenes" in config.data:
        config.data.scenes.update(SCENES)
    else:
        config.data.regions, config.data.answer_count = str(files() / "store"), 1
        config.data.manual_dir = str(files())
    if "annotations" in config.data:
        kind = config.data.records
        config.data.annotations = str(files() / f"{kind}-train.jsonl")
        config.data.eval_annotations = str(files() / f"{kind}-val.jsonl")
        config.data.manual_dir = ""
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
    mesh: object = None

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
    return Run(config, parts, params, mesh)


def store_folder(made):
    """Folder of the region store of a run's images."""
    (folder,) = made.predictor.stream.store._folders
    return folder.path


def caption(text):
    """The row of a caption."""
    return questions.caption(text)
