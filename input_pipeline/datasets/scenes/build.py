"""Builds and reads the folder of a set of scenes: TFDS table, region store, vocabulary, corpus."""

import contextlib
import functools
import io
import json
import pathlib
from collections.abc import Iterable, Iterator

import absl.logging
import numpy as np
import xxhash

from core import remote
from core.console import warn
from core.progress import Progress, alone, atomic_folder
from input_pipeline.datasets.reading.prepared import PictureObjects
from input_pipeline.datasets.scenes import (
    builder,
    captions,
    cloze,
    detector,
    foreign,
    graph,
    probe,
    render,
    settings,
    tasks,
)
from input_pipeline.pictures import writer as picture_writer
from input_pipeline.regions import store as regions
from input_pipeline.regions.shard_writer import MANIFEST
from input_pipeline.tensorflow_modules import tf, tfds
from input_pipeline.texts import tokenizer
from input_pipeline.texts.tables import Row

PICTURES = "pictures"
TABLE, REGIONS, VOCAB, CORPUS, BUILT = "tfds", "regions", "vocab.txt", "corpus.txt", "built.json"
# Scenes that the text-only baseline learns from, and is measured on: the first ones of a split,
# then as many of the same kind that have no picture. Fewer than this measure chance.
_MEASURED = 2000
# Training scenes whose task texts the vocabulary is trained on, too: enough to use every word.
_SPOKEN = 200


def feature_spec(options: settings.Settings) -> regions.FeatureSpec:
    """The spec of the region store. All class probabilities are kept: they are few."""
    return regions.FeatureSpec(
        detector=detector.NAME,
        feature_dim=options.feature_dim,
        num_classes=len(detector.CLASSES),
        background_class=0,
        dtype="bfloat16",
        top_k=len(detector.CLASSES),
        max_regions=options.max_objects + detector.Noise().most_spurious,
    )


def build(options: settings.Settings, folder: remote.Path) -> None:
    """Builds all of a data set in `folder`, which appears whole at the end or not at all.

    Every file goes into a temporary folder that is renamed when it is complete, so whatever a
    killed build leaves behind is never read.
    """
    with atomic_folder(folder, keep_existing=True, last=BUILT) as temporary:
        progress = Progress("draw scenes", sum(options.splits.values()), unit="images", every=5.0)
        hashes = {split: xxhash.xxh3_128() for split in options.splits}
        texts: list[str] = []
        spoken: list[graph.Scene] = []
        with regions.RegionWriter(temporary / REGIONS, feature_spec(options)) as writer:

            def on_image(drawn: builder.Drawn) -> None:
                scene = drawn.scene
                writer.add(
                    scene.image_id,
                    boxes=drawn.regions.boxes,
                    features=drawn.features,
                    height=scene.height,
                    width=scene.width,
                    class_probs=drawn.regions.class_probs,
                )
                hashes[scene.split].update(repr((drawn.captions, drawn.foreign)).encode())
                if scene.split == "train":
                    texts.extend(c.text for c in drawn.captions)
                    spoken.append(scene)
                progress.add()

            with _quiet():
                table = builder.Scenes(
                    options=options, on_image=on_image, data_dir=temporary / TABLE
                )
                table.download_and_prepare()

        for scene in spoken[:_SPOKEN]:
            texts.extend(tasks.words_of(scene, options.seed))
            texts.extend(sentence.text for _, sentence in cloze.cloze(scene, options.seed))
        corpus = _corpus(options)
        (temporary / CORPUS).write_text("\n".join(corpus) + "\n", encoding="utf-8")
        tokenizer.train_wordpiece(texts + corpus, options.vocab_size, temporary / VOCAB)
        built = {
            "settings": options.to_dict(),
            "captions": {split: h.hexdigest() for split, h in hashes.items()},
            "text_only": _measure(options),
        }
        (temporary / BUILT).write_text(json.dumps(built, indent=2) + "\n")


def _measure(options: settings.Settings) -> dict:
    """Prints and returns what the text alone tells of the probe words."""
    images = min(_MEASURED, options.train)
    train, validation = (
        probe.sample(options.seed, split, images, options.min_objects, options.max_objects)
        for split in ("train", "validation")
    )
    table = probe.measure(train, validation)
    warn(f"probe words of scenes, % right:\n{probe.format_table(table)}")
    return table


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS from speaking of downloads, deprecations and temporary paths; errors pass."""
    tfds.disable_progress_bar()
    before = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl.logging.set_verbosity(before)


def _corpus(options: settings.Settings) -> list[str]:
    """Sentences about scenes that are in no split."""
    scenes = (
        graph.draw(options.seed, "corpus", i, options.min_objects, options.max_objects)
        for i in range(settings.CORPUS_SCENES)
    )
    return [c.text for scene in scenes for c in captions.captions(scene, options.seed)]


def _read(folder: pathlib.Path, split: str, columns: dict) -> Iterator[dict]:
    """Examples of a split in order, with the wanted columns alone: no picture is decoded."""
    (version,) = (folder / TABLE).glob(f"*/*/{settings.VERSION}")
    table = tfds.builder_from_directory(str(version))
    as_stored = {"picture": tfds.decode.SkipDecoding()} if "picture" in columns else None
    wanted = tfds.decode.PartialDecoding(columns, decoders=as_stored)
    once = tfds.ReadConfig(try_autocache=False)
    data = table.as_dataset(split=split, shuffle_files=False, decoders=wanted, read_config=once)
    options = tf.data.Options()
    options.deterministic = True
    yield from data.with_options(options).as_numpy_iterator()


def read_rows(folder: pathlib.Path, split: str) -> Iterator[Row]:
    """The captions of a split; an image's captions follow each other."""
    fields = ("text", "probe", "mentions", "foreign")
    wanted = {"image_id": True, "captions": set(fields), "scene": True}
    for example in _read(folder, split, wanted):
        image_id = example["image_id"].decode()
        boxes = object_boxes(graph.Scene.from_json(example["scene"].decode()))
        captioned = zip(*(example["captions"][field] for field in fields), strict=True)
        for i, (text, spans, mentions, names) in enumerate(captioned):
            yield Row(
                image_id=image_id,
                text=text.decode(),
                text_id=foreign.text_id(image_id, i),
                probe=tuple(map(tuple, spans.tolist())),
                mentions=tuple(map(tuple, mentions.tolist())),
                foreign=tuple(name.decode() for name in names),
                values={"object_boxes": boxes},
            )


def object_boxes(scene: graph.Scene) -> tuple[float, ...]:
    """The true boxes of a scene's objects, flat."""
    return tuple(render.true_boxes(scene).ravel().tolist())


@functools.lru_cache(maxsize=1 << 13)
def _cloze(scene: graph.Scene, seed: int) -> tuple[tuple[int, captions.Sentence], ...]:
    """`cloze.cloze`, kept: two kinds of rows are made of them, which takes most of their time."""
    return tuple(cloze.cloze(scene, seed))


def cloze_rows(folder: pathlib.Path, split: str, seed: int) -> Iterator[Row]:
    """Texts with one marked word each, see `cloze`."""
    for scene in read_scenes(folder, split):
        boxes = object_boxes(scene)
        for n, (source, sentence) in enumerate(_cloze(scene, seed)):
            yield Row(
                image_id=scene.image_id,
                text=sentence.text,
                text_id=f"{scene.image_id}-cloze-{n}",
                probe=sentence.probe,
                mentions=sentence.mentions,
                source=source,
                values={"object_boxes": boxes},
            )


def swapped_rows(folder: pathlib.Path, split: str, seed: int) -> Iterator[Row]:
    """One of these texts of each kind, and the same made false, which is no example itself."""
    for scene in read_scenes(folder, split):
        first: dict[int, captions.Sentence] = {}
        for source, sentence in _cloze(scene, seed):
            first.setdefault(source, sentence)
        for n, (source, sentence) in enumerate(first.items()):
            name = f"{scene.image_id}-swapped-{n}"
            for false in (False, True):
                text = cloze.swapped(sentence, scene, n, seed) if false else sentence
                yield Row(
                    image_id=scene.image_id,
                    text=text.text,
                    text_id=f"{name}-false" if false else name,
                    source=source,
                    follows=false,
                    foreign=() if false else (f"{name}-false",),
                )


def read_scenes(folder: pathlib.Path, split: str) -> Iterator[graph.Scene]:
    """The scene graphs of a split: what further tasks are made from."""
    for example in _read(folder, split, {"scene": True}):
        yield graph.Scene.from_json(example["scene"].decode())


def picture_store(folder: pathlib.Path, splits: Iterable[str]) -> str:
    """The folder of a picture store of all scenes, which is built the first time."""
    place = folder / PICTURES
    if not (place / MANIFEST).is_file():
        with alone(place), picture_writer.PictureWriter(place) as store:
            shown = Progress("picture store", unit="images", every=5.0)
            for split in splits:
                for example in _read(folder, split, {"image_id": True, "picture": True}):
                    name, data = example["image_id"].decode(), example["picture"]
                    store.add(name, data, picture_writer.size_of(data, name), name)
                    shown.add()
    return str(place)


# Attributes of objects beside the colour, which is a part of the class as in the store.
ATTRIBUTES = tuple(f"{size} {material}" for size in graph.SIZES for material in graph.MATERIALS)


def read_objects(folder: pathlib.Path, split: str) -> Iterator[PictureObjects]:
    """The objects of each picture of a split, in the detector's classes without the background."""
    for scene in read_scenes(folder, split):
        kinds = [f"{o.size} {o.material}" for o in scene.objects]
        yield PictureObjects(
            image_id=scene.image_id,
            boxes=render.true_boxes(scene),
            class_ids=np.array([detector.class_of(o) - 1 for o in scene.objects]),
            attribute_ids=np.array([ATTRIBUTES.index(kind) for kind in kinds]),
        )


def read_pictures(
    folder: pathlib.Path, splits: Iterable[str], image_ids: Iterable[str]
) -> dict[str, bytes]:
    """The PNG files of some scenes, as stored; an id that is no scene's is absent."""
    wanted, found = set(image_ids), {}
    for split in splits:
        left = {name for name in wanted if name.rpartition("-")[0] == split}
        if not left:
            continue
        for example in _read(folder, split, {"image_id": True, "picture": True}):
            image_id = example["image_id"].decode()
            if image_id in left:
                found[image_id] = example["picture"]
                left.remove(image_id)
                if not left:
                    break
    return found
