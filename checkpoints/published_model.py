"""The model block of a published checkpoint, read off the shapes of its arrays."""

import re
from collections.abc import Mapping

import numpy as np

from checkpoints.sources import Source, SourceError
from vl_models.vision import regions

# What shapes do not tell, as both projects released it.
_TEXT_HEAD = 64  # width of an attention head of the text (and of VL-BERT)
_IMAGE_HEAD = 128  # of ViLBERT's image stream and connections
_COMMON = dict(init_range=0.02, dropout=0.1)


def feature_dim(arrays: Mapping[str, np.ndarray]) -> int:
    """F: what the projection of regions reads; VL-BERT's reads the geometry embedding, too."""
    if "trunk/regions/mask" in arrays:
        return arrays["trunk/regions/mask"].shape[0]
    width = arrays["trunk/regions/projection/kernel"].shape[0]
    return width if "trunk/regions/location/kernel" in arrays else width // 2


def _count(arrays: Mapping[str, np.ndarray], stem: str) -> int:
    return len({m[1] for path in arrays if (m := re.match(rf"trunk/{stem}_(\d+)/", path))})


class _Known(dict[str, np.ndarray]):
    """Arrays of a source, of which one that is missing or no matrix is an error that names it."""

    def __init__(self, source: Source):
        super().__init__(source.arrays)
        self._place = f"{source.place} ({source.kind})"

    def __getitem__(self, path: str) -> np.ndarray:
        array = self.get(path)
        axes = 1 if path.endswith("/mask") else 2
        if array is None or array.ndim != axes:
            raise SourceError(
                "a published checkpoint is no whole model",
                where=f"{self._place}, {path}",
                expected=f"an array of {axes} axes",
                found="none" if array is None else f"shape {array.shape}",
            )
        return array


def block(source: Source, *, heads: int = 0, image_heads: int = 0) -> dict:
    """The model block (see configs/models.py) that fits a source's arrays.

    Args:
      source: of a published kind.
      heads, image_heads: attention heads of the text, and of ViLBERT's image stream and
        connections, which shapes do not tell; 0: as both projects released it, 64 and 128 numbers
        a head.

    Raises:
      SourceError: no whole model.
    """
    if "trunk/regions/projection/kernel" not in source.arrays:
        raise SourceError(
            f"{source.place} ({source.kind}) has no image side, so it is no model of its own\n"
            "  fix: start a run from it: --config.init=..."
        )
    arrays = _Known(source)
    word = arrays["trunk/embeddings/word/embedding"]
    text = dict(
        hidden=word.shape[1],
        layers=_count(arrays, "layer"),
        heads=heads or max(1, word.shape[1] // _TEXT_HEAD),
        intermediate=arrays["trunk/layer_0/mlp/intermediate/kernel"].shape[1],
        positions=arrays["trunk/embeddings/position/embedding"].shape[0],
        **_COMMON,
    )
    name = source.kind.split("_")[0] if source.kind != "single_stream" else source.kind
    if name == "vlbert":
        features = feature_dim(arrays)
        return dict(
            name=name,
            **text,
            text_visual_gain=0.0,
            region_visual_gain=0.0,
            geometry_dim=arrays["trunk/regions/projection/kernel"].shape[0] - features,
            pooler="trunk/pooler/dense/kernel" in arrays,
            **_vision(arrays),
        )
    if name == "single_stream":
        return dict(name=name, **text)
    return dict(name=name, **text, **_two_streams(arrays, text["layers"], image_heads))


def _vision(arrays: Mapping[str, np.ndarray]) -> dict:
    """What an end-to-end model has beside; what shapes do not tell is as it was released."""
    stem = arrays.get("trunk/vision/backbone/stem/kernel")
    if stem is None:
        return {}
    stages = ("backbone/res2", "backbone/res3", "backbone/res4", "head/res5")
    blocks = tuple(_count(arrays, f"vision/{stage}/block") for stage in stages)
    vision = regions.PUBLISHED | dict(blocks=blocks, width=stem.shape[-1])
    return dict(features="pixels", vision=vision)


def _two_streams(arrays: Mapping[str, np.ndarray], text_layers: int, heads: int) -> dict:
    hidden = arrays["trunk/regions/projection/kernel"].shape[1]
    image_layers, connections = _count(arrays, "image_layer"), _count(arrays, "connection")
    width = arrays["trunk/image_pooler/dense/kernel"].shape[1]
    task = arrays.get("trunk/embeddings/task/embedding")
    return dict(
        image=dict(
            hidden=hidden,
            heads=heads or max(1, hidden // _IMAGE_HEAD),
            intermediate=arrays["trunk/image_layer_0/mlp/intermediate/kernel"].shape[1],
            layers=image_layers,
            fixed_layers=0,
        ),
        connect=dict(
            hidden=width,
            heads=heads or max(1, width // _IMAGE_HEAD),
            text_at=tuple(range(text_layers - connections, text_layers)),
            image_at=tuple(range(connections)),
            coattention=connections > 0,
        ),
        fusion="mul",
        dynamic_attention="trunk/image_layer_0/attention/query_gate/kernel" in arrays,
        tasks=0 if task is None else task.shape[0],
        fixed_text_layers=0,
    )
