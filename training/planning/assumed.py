"""Batches as they would be, for planning a run without its data: shapes alone.

Texts come from the objectives' own assemblers, regions from the store's layout, so that keys and
axes are those of real batches. Assumed are the sizes that only data can tell.
"""

import jax
import numpy as np

from input_pipeline.regions import source as regions
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.schema import FIELDS, SpecialIds, check_batch
from input_pipeline.streams import canvases
from objectives import base
from objectives.model import MultiTaskModel

# BERT's uncased vocabulary, bottom-up attention's 2048 features and 1,600 classes with background.
SPECIAL = SpecialIds(pad=0, unk=100, cls=101, sep=102, mask=103, vocab_size=30522)
SPEC = FeatureSpec(
    detector="assumed", feature_dim=2048, num_classes=1601, background_class=0, top_k=16
)
ANSWERS = 3129  # VQA's list
ANSWERS_OF_ONE = 10  # per question, its annotators'
LABELS = 3  # of one's own classes, where the config does not say
DISTRACTORS = 2  # more texts of an example in four-way retrieval


class _Texts:
    """Stands for a text table: every text is as long as it may be."""

    def __init__(self, choices: int):
        self._choices = choices

    def gather(self, rows, width: int, cyclic: bool = False) -> dict:
        del cyclic
        zeros = np.zeros((len(rows), width), np.int32)
        return dict(ids=zeros, word_starts=zeros == 0, lengths=np.full(len(rows), width, np.int32))

    def values_of(self, rows) -> dict:
        del rows
        return {}

    def longest(self, rows) -> int:
        """None needs more room than there is."""
        del rows
        return 0

    def followers(self, rows):
        return np.full(len(rows), self._choices)

    def text_id(self, row: int) -> str:
        return f"assumed text {row}"


def model(config) -> MultiTaskModel:
    """The model and objectives of a config, on assumed sizes."""
    lists = base.OutputLists(answers=_numbered(ANSWERS), labels=_numbered(LABELS))
    return MultiTaskModel(config, SPECIAL, SPEC, dict.fromkeys(config.streams, lists))


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def batch(config, made: MultiTaskModel, assemble) -> dict[str, dict]:
    """{stream: {key: jax.ShapeDtypeStruct}} of a global batch at the streams' full sizes.

    Args:
      config: of the run.
      made: see `model`.
      assemble: {stream: assemble function}.
    """
    return {stream: _stream(config, made, stream, assemble[stream]) for stream in made.streams}


def _stream(config, made: MultiTaskModel, stream: str, assemble) -> dict:
    block = config.streams[stream]
    choices = max((one.choices for one in made.streams[stream]), default=0)
    texts = assemble(_Texts(choices), np.arange(1), SPECIAL, block.max_text)
    companions = max(block.couples - 1, 0) or DISTRACTORS
    more = 1 + block.negatives + (companions if block.distractors else 0)
    shapes = {key: ((1, more * x.shape[1], *x.shape[2:]), x.dtype) for key, x in texts.items()}
    images = 1 + max(image for _, image in made.pairs[stream])
    if block.images:
        shapes |= regions.layout(SPEC, 1, images, block.max_regions)
        if config.model.get("features") == "pixels":
            shapes = {key: one for key, one in shapes.items() if key not in regions.FEATURES}
            shapes["images"] = (1, images, *canvases.planned(block)[-1], 3), np.dtype(np.uint8)
    sizes = dict(M=images, R=block.max_regions, A=ANSWERS_OF_ONE)
    sizes |= dict(zip("KT", shapes["text_ids"][0][1:], strict=True))
    for key in {key for objective in made.streams[stream] for key in objective.reads}:
        axes = FIELDS[key].axes.split()[1:]
        shape = [int(axis) if axis.isdigit() else sizes[axis] for axis in axes]
        shapes[key] = (1, *shape), np.dtype(FIELDS[key].dtype)
    shapes |= {"example_index": ((1,), np.int32), "_weight": ((1,), np.float32)}
    out = {
        key: jax.ShapeDtypeStruct((block.batch_size, *shape[1:]), dtype)
        for key, (shape, dtype) in shapes.items()
    }
    check_batch(out, where=f"assumed stream {stream!r}")
    return out


def describe(made: MultiTaskModel) -> str:
    """What was assumed, in words."""
    parts = [
        f"features of {SPEC.feature_dim} x {SPEC.dtype}",
        f"{SPEC.num_classes} classes of regions, {SPEC.kept_classes} kept",
        f"{SPECIAL.vocab_size} word pieces",
    ]
    named_by = {objective.named_by for objective in made.objectives()}
    if "answers" in named_by:
        parts.append(f"{ANSWERS} answers, {ANSWERS_OF_ONE} per question")
    if "labels" in named_by:
        parts.append(f"{LABELS} classes where the config names no number")
    return "; ".join(parts)
