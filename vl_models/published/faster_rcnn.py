"""Names of the Visual-Genome detector published for PyTorch ("unc-nlp/frcnn-vg-finetuned")."""

import re
from collections.abc import Mapping

import numpy as np

from vl_models.published import vision
from vl_models.published.rule import Rule
from vl_models.published.translate import find


def _bottlenecks(torch: str, ours: str) -> list[Rule]:
    """Blocks of a stage; both strings end before a number."""
    return [
        rule
        for conv in ("conv1", "conv2", "conv3", "shortcut")
        for rule in _conv_norm(f"{torch}.{{i}}.{conv}", f"{ours}/block_{{i}}/{conv}")
    ]


def _conv_norm(torch: str, ours: str) -> list[Rule]:
    return vision.conv_norm(torch, f"{torch}.norm", ours)


def _layer(torch: str, ours: str, kind: str) -> list[Rule]:
    return [Rule(f"{torch}.weight", f"{ours}/kernel", kind), Rule(f"{torch}.bias", f"{ours}/bias")]


_PROPOSALS, _PREDICTOR = "proposal_generator.rpn_head", "roi_heads.box_predictor"
RULES = (
    *_conv_norm("backbone.stem.conv1", "backbone/stem"),
    *(rule for n in (2, 3, 4) for rule in _bottlenecks(f"backbone.res{n}", f"backbone/res{n}")),
    *_bottlenecks("roi_heads.res5", "head/res5"),
    *_layer(f"{_PROPOSALS}.conv", "proposals/conv", "conv"),
    *_layer(f"{_PROPOSALS}.objectness_logits", "proposals/objectness", "conv"),
    *_layer(f"{_PROPOSALS}.anchor_deltas", "proposals/deltas", "conv"),
    *_layer(f"{_PREDICTOR}.cls_score", "predictor/classes", "linear"),
    *_layer(f"{_PREDICTOR}.bbox_pred", "predictor/boxes", "linear"),
    Rule(f"{_PREDICTOR}.cls_embedding.weight", "predictor/class_embedding/embedding"),
    *_layer(f"{_PREDICTOR}.fc_attr", "predictor/attribute_hidden", "linear"),
    *_layer(f"{_PREDICTOR}.attr_score", "predictor/attributes", "linear"),
)
# A constant of the published module that its files keep as a parameter.
ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"


def translate(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published names and layout → ours, without `ANCHORS`.

    Raises:
      KeyError: names that no parameter has; lists them.
    """
    counters, _ = vision.COUNTERS  # of BatchNorm, which never trains here
    names = [name for name in state if name != ANCHORS and not re.fullmatch(counters, name)]
    found = {name: find(RULES, "torch", name) for name in names}
    if unknown := sorted(name for name, rule in found.items() if rule is None):
        raise KeyError(f"no parameter of the detector is called {', '.join(unknown)}")
    return {rule.ours: rule.convert(np.asarray(state[x])) for x, rule in found.items() if rule}
