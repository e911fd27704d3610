"""The TFDS builder of `scenes`: scene graphs, pictures and captions as a table."""

import dataclasses
import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from input_pipeline.datasets.scenes import captions, detector, foreign, graph, render, settings
from input_pipeline.tensorflow_modules import tfds

_CHUNK = 64  # pictures whose features are computed together


@dataclasses.dataclass(frozen=True)
class Drawn:
    """One image: scene, picture (uint8 [height, width, 3]), regions, features [n, F], texts.

    `foreign` are, for each caption, the names of captions of other images that are false of it.
    """

    scene: graph.Scene
    picture: np.ndarray
    regions: detector.Regions
    features: np.ndarray
    captions: list[captions.Caption]
    foreign: list[tuple[str, ...]]


def draw_split(options: settings.Settings, split: str) -> Iterator[Drawn]:
    """Draws the images of a split in order, each a pure function of (seed, split, index).

    `foreign` alone depends on the other images too.
    """
    count, seed = getattr(options, split), options.seed
    drawn = [
        graph.draw(seed, split, i, options.min_objects, options.max_objects) for i in range(count)
    ]
    texts = [captions.captions(s, seed) for s in drawn]
    dealt = foreign.deal(drawn, texts, seed)
    for start in range(0, count, _CHUNK):
        chunk = slice(start, start + _CHUNK)
        scenes = drawn[chunk]
        pictures = np.stack(
            [render.render(s, graph.generator(seed, s.image_id, "picture")) for s in scenes]
        )
        found = [detector.find(s, graph.generator(seed, s.image_id, "detector")) for s in scenes]
        features = detector.features(pictures, [r.boxes for r in found], options.feature_dim)
        yield from map(Drawn, scenes, pictures, found, features, texts[chunk], dealt[chunk])


def _png(picture: np.ndarray) -> io.BytesIO:
    # The encoder of TFDS compresses three times as long for a few per cent.
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    file.seek(0)
    return file


class Scenes(tfds.core.GeneratorBasedBuilder):
    """Small drawn scenes with five captions each.

    Args:
      options: what to draw.
      on_image: called with every `Drawn` as its row is made, to write regions in the same pass.
      **kwargs: of GeneratorBasedBuilder (`data_dir`).
    """

    VERSION = tfds.core.Version(settings.VERSION)

    def __init__(self, *, options: settings.Settings, on_image: Callable[[Drawn], None], **kwargs):
        self._options, self._on_image = options, on_image
        config = tfds.core.BuilderConfig(name=options.key, description=str(options))
        super().__init__(config=config, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image_id": tfds.features.Text(),
                    "height": np.int32,  # pixels
                    "width": np.int32,
                    "picture": tfds.features.Image(
                        shape=(graph.HEIGHT, graph.WIDTH, 3), encoding_format="png"
                    ),
                    "captions": tfds.features.Sequence(
                        {
                            "text": tfds.features.Text(),
                            # (start, end) in characters, number of the kind: words that only the
                            # picture can tell
                            "probe": tfds.features.Sequence(
                                tfds.features.Tensor(shape=(3,), dtype=np.int32)
                            ),
                            # (start, end, index of the object): words that speak of an object
                            "mentions": tfds.features.Sequence(
                                tfds.features.Tensor(shape=(3,), dtype=np.int32)
                            ),
                            # names of captions of other images that are false of this one
                            "foreign": tfds.features.Sequence(tfds.features.Text()),
                        }
                    ),
                    "scene": tfds.features.Text(),  # JSON, graph.Scene.from_json reads it
                }
            ),
            disable_shuffling=True,  # rows stay in the order of their index
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split) for split in self._options.splits}

    def _generate_examples(self, split: str):
        for index, drawn in enumerate(draw_split(self._options, split)):
            self._on_image(drawn)
            scene = drawn.scene
            yield (
                index,
                {
                    "image_id": scene.image_id,
                    "height": scene.height,
                    "width": scene.width,
                    "picture": _png(drawn.picture),
                    "captions": [
                        {
                            "text": c.text,
                            "probe": [list(span) for span in c.probe],
                            "mentions": [list(span) for span in c.mentions],
                            "foreign": list(names),
                        }
                        for c, names in zip(drawn.captions, drawn.foreign, strict=True)
                    ],
                    "scene": scene.to_json(),
                },
            )
