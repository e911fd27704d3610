"""Model operations of a train step, and what devices could do: the two sides of MFU.

MFU = operations the model needs / (time · peak of all devices). Needed are, per step:

  6 · kernel size · positions   for every matrix product with parameters: 2 forward, 4 backward
  12 · L² · D                   for the attention of each layer and row (QKᵀ and its use on V)

Positions are those of the stream that the product reads: the packed row (L) in VL-BERT's layers,
T and R in ViLBERT's; the predicted positions for heads. Of masked words and regions these are
the fewest that the head is compiled for: a batch with a row of more, and any batch on several
devices, does more than is counted. The tied word table counts as part of the masked-language head.
A convolution is a product at each place of its output, once per picture or, of res5, per region;
of stages that do not train only the forward pass counts. Table look-ups, norms and element-wise
work count nothing; padding counts. Co-attention is 12 · T · R · width per connection and
direction.
"""

import math
import re
from collections.abc import Callable, Mapping

from input_pipeline.streams import limits
from input_pipeline.streams.canvases import planned
from objectives.model import MultiTaskModel
from runtime import data_sheets, paths
from vl_models.vision import resnet
from vl_models.vision.regions import CELLS, MODULES

VISION = "trunk/vision/"


def peak(devices) -> float | None:
    """Dense bfloat16 operations per second of all devices together; None without a data sheet."""
    sheet = data_sheets.of(devices[0].device_kind)
    return sheet.operations * len(devices) if sheet else None


# Which positions a kernel of the trunk is applied at: first match wins.
_TEXT, _IMAGE, _ONCE = "text", "image", "once"
_POSITIONS = (
    (r"trunk/layer_\d+/", _TEXT),
    (r"trunk/image_layer_\d+/.*_gate", _ONCE),
    (r"trunk/image_layer_\d+/", _IMAGE),
    (r"trunk/connection_\d+/text_attention/(key|value)", _IMAGE),
    (r"trunk/connection_\d+/text_", _TEXT),
    (r"trunk/connection_\d+/image_attention/(key|value)", _TEXT),
    (r"trunk/connection_\d+/image_", _IMAGE),
    (r"trunk/regions/", _IMAGE),
    (r"trunk/(.*_)?pooler/", _ONCE),
)


def row_length(model, block, size: tuple[int, int, int] | None = None) -> int:
    """Positions of a row of a stream; of VL-BERT's packed rows L, [END] included.

    Args:
      model: `config.model`.
      block: of the stream.
      size: (T, R, max_length) of a bucket; None: the stream's own.
    """
    text, regions, length = size or limits.sizes(block)[-1]
    both = text + regions * block.images
    if model.name != "vlbert":
        return both
    return (min(length, both) if block.images else both) + 1


def _positions_of(path: str, text: int, image: int) -> int:
    for pattern, where in _POSITIONS:
        if re.match(pattern, path):
            return {_TEXT: text, _IMAGE: image, _ONCE: 1}[where]
    raise ValueError(f"no rule says at how many positions {path} is applied")


# Pixels of a picture per place of a stage's output, each way.
_STRIDES = {"stem": 2, "res2": 4, "res3": 8, "res4": 16}


def _convolutions(
    vision: resnet.ResNetSizes, kernels: Mapping[str, int], canvas: tuple[int, int], regions: int
) -> float:
    """Operations of an update's convolutions per picture.

    Args:
      vision: sizes of the network.
      kernels: {path: size} of all kernels.
      canvas: height and width of a padded picture.
      regions: R.
    """
    frozen = [re.compile(one) for one in resnet.fixed(vision, *MODULES)]
    cells = CELLS if vision.dilated else -(-CELLS // 2)
    total = 0.0
    for path, kernel in kernels.items():
        if not path.startswith(VISION):
            continue
        stage = next((name for name in _STRIDES if f"/{name}/" in path), "")
        places = regions * cells**2
        if stage:
            places = math.prod(-(-side // _STRIDES[stage]) for side in canvas)
        passes = 2 if any(one.fullmatch(path) for one in frozen) else 6
        total += passes * kernel * places
    return total


def _attention(model, text: int, image: int) -> int:
    """Operations of all attention maps of a row."""
    total = 12 * text**2 * model.hidden * model.layers
    if "connect" in model:
        total += 12 * image**2 * model.image.hidden * model.image.layers
        connections = len(model.connect.text_at) if model.connect.coattention else 0
        total += 2 * 12 * text * image * model.connect.hidden * connections
    return total


def flops_per_step(
    config,
    params,
    model: MultiTaskModel,
    sizes: Mapping[str, tuple[int, int, int]] | None = None,
    canvases: Mapping[str, tuple[int, int]] | None = None,
) -> float:
    """Operations of one update of the whole global batch.

    Args:
      config: the whole config.
      params: nested dict of arrays or shapes.
      model: whose objectives say where their heads are applied. What ViLBERT runs once per text
        below its first connection counts once per pair all the same.
      sizes: {stream: (T, R, max_length)} of the streams that take part; None: all, at their own.
      canvases: {stream: (height, width) of its padded pictures}; None: the largest of each.
    """
    kernels = {
        path: math.prod(x.shape)
        for path, x in paths.flatten(params).items()
        if path.endswith("/kernel")
    }
    table = math.prod(params["trunk"]["embeddings"]["word"]["embedding"].shape)
    total = 0.0
    for stream in sizes or model.streams:
        block = config.streams[stream]
        two_streams = "connect" in config.model
        size = (sizes or {}).get(stream, limits.sizes(block)[-1])
        text = size[0] if two_streams else row_length(config.model, block, size)
        image = size[1] if block.images else 0
        row = _attention(config.model, text, image)
        for path, kernel in kernels.items():
            if path.startswith("trunk/") and not path.startswith(VISION):
                row += 6 * kernel * _positions_of(path, text, image)
        by_head = {objective.head_name: objective for objective in model.streams[stream]}
        for name, objective in sorted(by_head.items()):
            kernel = sum(n for path, n in kernels.items() if path.startswith(f"heads/{name}/"))
            if model.head_specs[name].tied:
                kernel += table
            row += 6 * kernel * objective.head_positions(size[0], size[1])
        total += row * block.batch_size * len(model.pairs[stream])
        vision = getattr(model.trunk, "vision_sizes", None)
        if vision is not None and block.images:
            canvas = (canvases or {}).get(stream) or planned(block)[-1]
            images = 1 + max(image for _, image in model.pairs[stream])
            total += images * block.batch_size * _convolutions(vision, kernels, canvas, image)
    return total


def of_model(config, model: MultiTaskModel) -> Callable:
    """flops(parameters or their shapes) → function of a batch, see `flops_of`."""
    return lambda params: flops_of(config, params, model)


def flops_of(config, params, model: MultiTaskModel) -> Callable[[Mapping[str, Mapping]], float]:
    """flops(batch {stream: arrays}) of an update with it; arguments as of `flops_per_step`."""
    known: dict[tuple, float] = {}

    def flops(batch) -> float:
        shapes = tuple(
            (stream, *limits.shape_of(arrays), *_canvas_of(arrays))
            for stream, arrays in batch.items()
        )
        if shapes not in known:
            found = {stream: (text, regions) for stream, text, regions, *_ in shapes}
            canvases = {stream: tuple(rest) for stream, _, _, *rest in shapes if rest}
            sizes = {
                stream: size
                for stream in found
                for size in limits.sizes(config.streams[stream])
                if (size[0], size[1] if config.streams[stream].images else 0) == found[stream]
            }
            known[shapes] = flops_per_step(config, params, model, sizes, canvases)
        return known[shapes]

    return flops


def _canvas_of(batch) -> tuple[int, ...]:
    """(height, width) of a stream batch's padded pictures; () without any."""
    return tuple(batch["images"].shape[2:4]) if "images" in batch else ()
