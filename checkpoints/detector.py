"""Detectors in and out: ours, and the Visual-Genome one as published for PyTorch.

Ours is a folder of detector.json (sizes, how boxes are chosen and pictures prepared, names of
classes and attributes, digest of the weights) and model.safetensors (parameters under our names).

The published one ("unc-nlp/frcnn-vg-finetuned") is a folder of pytorch_model.bin (or
model.safetensors) and config.yaml, which is asked for what its arrays do not tell.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from checkpoints import sources
from checkpoints.state_files import SourceError, read_folder, read_state
from core import remote, strict_json
from core.errors import DataError
from core.progress import atomic_folder
from vl_models.published import faster_rcnn as published
from vl_models.vision.canvas import Pixels
from vl_models.vision.faster_rcnn import DetectorSizes, Selection
from vl_models.vision.resnet import BLOCKS, ResNetSizes

FORMAT = "vl-models detector 1"
ABOUT, WEIGHTS, PUBLISHED_CONFIG = "detector.json", "model.safetensors", "config.yaml"


@dataclasses.dataclass(frozen=True)
class Detector:
    """A detector as a file has it.

    Attributes:
      sizes: of the network.
      arrays: {our path: array}.
      selection: how its boxes are chosen.
      pixels: how its pictures are prepared.
      objects, attributes: names by number, without the background and "none"; () where unknown.
      origin: where the parameters came from.
    """

    sizes: DetectorSizes
    arrays: Mapping[str, np.ndarray]
    selection: Selection = Selection()  # noqa: RUF009 frozen
    pixels: Pixels = Pixels()  # noqa: RUF009 frozen
    objects: Sequence[str] = ()
    attributes: Sequence[str] = ()
    origin: str = ""

    def digest(self) -> str:
        """12 hex digits that change with any parameter."""
        found = hashlib.sha256()
        for path in sorted(self.arrays):
            found.update(path.encode() + np.ascontiguousarray(self.arrays[path]).tobytes())
        return found.hexdigest()[:12]


def save(folder: str | os.PathLike, detector: Detector) -> None:
    """Writes a new folder, whole or not at all.

    Raises:
      DataError: the folder exists.
    """
    from safetensors.numpy import save_file

    with atomic_folder(folder, last=ABOUT) as temporary:
        arrays = {name: np.asarray(x, order="C") for name, x in detector.arrays.items()}
        save_file(arrays, temporary / WEIGHTS)
        resnet = dataclasses.asdict(detector.sizes.resnet)
        resnet.pop("dtype")  # how it is run, and no property of the parameters
        about = {
            "format": FORMAT,
            "sha256": _sha256(temporary / WEIGHTS),
            "sizes": {**dataclasses.asdict(detector.sizes), "resnet": resnet},
            "selection": dataclasses.asdict(detector.selection),
            "pixels": dataclasses.asdict(detector.pixels),
            "objects": list(detector.objects),
            "attributes": list(detector.attributes),
            "origin": detector.origin,
        }
        (temporary / ABOUT).write_text(json.dumps(about, indent=2) + "\n")


def load(place: str) -> Detector:
    """Opens a detector by what is at a place.

    Args:
      place: a folder of ours, a published folder or file of weights, or a name on the hub.

    Raises:
      SourceError: nothing there, or something that is not understood.
      DataError: a damaged folder of ours.
    """
    path = sources.locate(place)
    if not path.is_dir():
        return _published(place, read_state(remote.local(path)), {})
    folder = remote.mirror(path)
    if (folder / ABOUT).is_file():
        return _ours(folder)
    return _published(place, read_folder(folder), _config(folder))


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ours(folder: pathlib.Path) -> Detector:
    from safetensors.numpy import load_file

    def damaged(file: str, expected: str, found: str) -> DataError:
        return DataError(
            "a detector is damaged",
            where=str(folder / file),
            expected=expected,
            found=found,
            fix="copy the folder again",
        )

    try:
        about = strict_json.parse((folder / ABOUT).read_bytes())
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']!r}")
        sizes = about["sizes"]
        resnet = ResNetSizes(**_tuples(sizes.pop("resnet")))
        detector = Detector(
            sizes=DetectorSizes(resnet=resnet, **_tuples(sizes)),
            arrays={},
            selection=Selection(**_tuples(about["selection"])),
            pixels=Pixels(**_tuples(about["pixels"])),
            objects=tuple(about["objects"]),
            attributes=tuple(about["attributes"]),
            origin=about["origin"],
        )
        expected = about["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise damaged(ABOUT, f"a detector of format {FORMAT!r}", found) from error
    if not (folder / WEIGHTS).is_file():
        raise damaged(WEIGHTS, "the parameters", "no such file")
    if _sha256(folder / WEIGHTS) != expected:
        raise damaged(WEIGHTS, f"the digest {expected} of {ABOUT}", "another")
    return dataclasses.replace(detector, arrays=load_file(folder / WEIGHTS))


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _config(folder: pathlib.Path) -> dict[str, Any]:
    """{"section.name": value} of a published config, in lower case; {} without the file."""
    import yaml

    path = folder / PUBLISHED_CONFIG
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__}")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SourceError(
            "the config of a published detector is not understood",
            where=str(path),
            expected="YAML: sections of names and values",
            found=str(error),
            fix="download it again",
        ) from error
    flat: dict[str, Any] = {}

    def add(values: Mapping[str, Any], above: str) -> None:
        for name, value in values.items():
            key = f"{above}{name}".lower()
            if isinstance(value, dict):
                add(value, f"{key}.")
            else:
                flat[key] = value

    add(found, "")
    return flat


def _published(place: str, state: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> Detector:
    """A published state dict with what its config says."""
    try:
        arrays = published.translate(state)
        sizes = _sizes(arrays, state.get(published.ANCHORS), config)
        return Detector(
            sizes=sizes,
            arrays={path: np.asarray(x, np.float32) for path, x in arrays.items()},
            selection=_selection(config),
            pixels=_pixels(config),
            origin=str(place),
        )
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise SourceError(
            "this is no Faster R-CNN as it was published for Visual Genome",
            where=str(place),
            expected='arrays named as in "unc-nlp/frcnn-vg-finetuned", and its config.yaml',
            found=str(error.args[0] if error.args else error),
        ) from error


def _sizes(
    arrays: Mapping[str, np.ndarray],
    anchors: np.ndarray | None,
    config: Mapping[str, Any],
) -> DetectorSizes:
    """Read off the shapes of arrays, and off the config what they do not tell."""
    blocks = tuple(
        len({m[1] for path in arrays if (m := re.match(rf"\w+/res{i}/block_(\d+)/", path))})
        for i in (2, 3, 4, 5)
    )
    depth = next((depth for depth, known in BLOCKS.items() if known == blocks), None)
    if depth is None:
        raise ValueError(f"stages of {blocks} blocks, known are {sorted(BLOCKS.values())}")
    if config.get("roi_box_head.res5halve") or config.get("resnets.num_groups", 1) != 1:
        raise ValueError("a config with RES5HALVE or NUM_GROUPS, which are not supported")
    attributes = arrays.get("predictor/attributes/bias")
    given = DetectorSizes(
        resnet=ResNetSizes(
            blocks=BLOCKS[depth],
            stem=arrays["backbone/stem/kernel"].shape[-1],
            inner=arrays["backbone/res2/block_0/conv1/kernel"].shape[-1],
            outer=arrays["backbone/res2/block_0/conv3/kernel"].shape[-1],
            stride_in_1x1=config.get("resnets.stride_in_1x1", True),
            max_pool="caffe" if config.get("model.max_pool", True) else "torch",
        ),
        classes=len(arrays["predictor/classes/bias"]) - 1,
        attributes=0 if attributes is None else len(attributes) - 1,
        hidden=len(arrays["proposals/conv/bias"]),
        bins=config.get("roi_box_head.pooler_resolution", DetectorSizes.bins),
        **_anchors(config),
    )
    count = len(arrays["proposals/objectness/bias"])
    if len(given.cell_anchors) != count:
        raise ValueError(
            f"{count} anchors a cell, and {given.anchor_sizes} by {given.anchor_ratios} are "
            f"{len(given.cell_anchors)}: put {PUBLISHED_CONFIG} beside the weights"
        )
    if anchors is not None and not np.allclose(anchors, given.cell_anchors, atol=0.01):
        raise ValueError(
            f"anchors other than {given.anchor_sizes} by {given.anchor_ratios}: {anchors.tolist()}"
        )
    return given


def _anchors(config: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    out = {}
    for field, name in (("anchor_sizes", "sizes"), ("anchor_ratios", "aspect_ratios")):
        if values := config.get(f"anchor_generator.{name}"):
            out[field] = tuple(map(float, values[0]))
    return out


def _selection(config: Mapping[str, Any]) -> Selection:
    names = {
        "candidates": "rpn.pre_nms_topk_test",
        "proposals": "rpn.post_nms_topk_test",
        "proposal_overlap": "rpn.nms_thresh",
        "overlaps": "roi_heads.nms_thresh_test",
        "least": "min_detections",
        "most": "max_detections",
    }
    found = {field: config[name] for field, name in names.items() if name in config}
    if not isinstance(overlaps := found.get("overlaps", []), list):
        found["overlaps"] = [overlaps]
    return Selection(**_tuples(found))


def _pixels(config: Mapping[str, Any]) -> Pixels:
    names = {
        "short": "input.min_size_test",
        "long": "input.max_size_test",
        "mean": "model.pixel_mean",
    }
    if config.get("input.format", "BGR") != "BGR" or set(config.get("model.pixel_std", [1])) != {1}:
        raise ValueError("a config with RGB pixels or a PIXEL_STD other than 1")
    return Pixels(**_tuples({field: config[n] for field, n in names.items() if n in config}))
