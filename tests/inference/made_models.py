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


# Of the texts of own lines: what they ask of an image, by number.
COLOURS, SHAPES = ("red", "green", "blue"), ("cube", "ball", "cone", "ring")
SPEC = FeatureSpec("toy", 16, num_classes=4, background_class=0, top_k=4, dtype="float32")


@functools.cache
def files():
    """Own lines and official files on a few images, of which each has three boxes."""
    place, random = pathlib.Path(folder()[0]), np.random.default_rng(0)
    images, boxes, stored = [], [], []
    kinds = ("captions", "classify", "ground", "questions")
    lines = {split: {kind: [] for kind in kinds} for split in ("train", "val")}
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
        colour, shape = COLOURS[i % 3], SHAPES[i % 4]
        image, found = dict(image_id=str(i)), lines[split]
        common = image | dict(text=f"it is number {i}")
        found["classify"].append(common | dict(label=["yes", "no", "maybe"][i % 3]))
        found["ground"].append(
            common | dict(box=corners[i % 3].tolist(), candidates=corners[: 2 + i % 2].tolist())
        )
        found["captions"].append(image | dict(text=f"a small {colour} {shape}, left of it"))
        found["questions"].append(
            image | dict(text=f"what colour is the {shape}?", answers=[colour])
        )
        features = random.standard_normal((3, 16)).astype(np.float32)
        probs = random.dirichlet(np.ones(4), 3).astype(np.float32)
        stored.append(
            (str(i), dict(boxes=corners, features=features, height=130, width=160,
                          class_probs=probs))
        )  # fmt: skip
    (place / "dataset_v7w_pointing.json").write_text(json.dumps(dict(images=images, boxes=boxes)))
    for split, found in lines.items():
        for kind, own in found.items():
            text = "".join(json.dumps(line) + "\n" for line in own)
            (place / f"{kind}-{split}.jsonl").write_text(text)
    with RegionWriter(place / "store", SPEC) as writer:
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
        config.data.regions, config.data.manual_dir = str(files() / "store"), str(files())
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
    for block in config.streams.values():
        if block.batch_size:
            block.batch_size = 8
        if not block.images and "corpus" in config.data and not config.data.corpus:
            block.batch_size = 0
    if "answer_count" in config.data:
        config.data.answer_count = 1
    config.update_from_flattened_dict(changes)
    return config


def drawn(model, example):
    """Parameters of which answers differ from image to image, drawn without compiling anything."""
    shapes, random = (
        jax.eval_shape(model.init, jax.random.key(0), example),
        np.random.default_rng(1),
    )
    flat = {
        path: (0.5 * random.standard_normal(one.shape) + path.endswith("scale")).astype(np.float32)
        for path, one in loading.flatten(shapes).items()
    }
    return loading.unflatten(flat)


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
            place="runs/made",
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
    def shared(self):
        """A model that tests may share, with one shape of batch: few programs are compiled."""
        return self.model(batch_sizes=(4,), lengths=())

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
    params = jax.device_put(drawn(parts.model, parts.example), sharding.replicated(mesh))
    return Run(config, parts, params, mesh)


def caption(text):
    """The row of a caption."""
    return questions.caption(text)
