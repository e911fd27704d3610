"""The heads of the published models: how each is built, which its arrays alone do not tell.

Sizes are read off the arrays. Dropout is left out: these are heads to use, not to train on.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from vl_models.heads import HeadSpec


@dataclasses.dataclass(frozen=True)
class Published:
    """A head of a kind of published model.

    Attributes:
      module, reads, named_by: see `HeadSpec`.
      options: of the module, but for sizes.
      names: what its outputs are called, where the model's own code says it.
      outputs: that the model's own code is written for; 0: any number.
    """

    module: str
    reads: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    named_by: str = ""
    names: tuple[str, ...] = ()
    outputs: int = 0

    def fit(self, arrays: Mapping[str, np.ndarray]) -> HeadSpec:
        """With the sizes of its arrays, {path within the head: array}."""
        options = dict(self.options)
        if self.module != "tied_decoder":
            last = "classifier_bias" if self.module == "weight_norm" else "classifier/bias"
            options["outputs"] = arrays[last].size
        if self.module in ("classifier", "weight_norm"):
            first = "transform_bias" if self.module == "weight_norm" else "transform/bias"
            options["width"] = arrays[first].size
        names = self.names if options.get("outputs") == len(self.names) else ()
        return HeadSpec(self.module, self.reads, options, self.named_by, names)


_NORM, _RELU = dict(norm=True), dict(activation="relu")
_WORDS = {"masked_language": Published("tied_decoder", "text")}
_VLBERT = {
    **_WORDS,
    "masked_region": Published("classifier", "regions"),
    "alignment": Published("linear", "pooled"),
}
_VCR_REGIONS = {"object_class": Published("classifier", "regions")}
_POINTING = {
    "ranking": Published("linear", "pooled"),
    "grounding": Published("linear", "regions"),
    "word_grounding": Published("linear", "text"),
}
_TRUTH, _RELATIONS = ("False", "True"), ("contradiction", "neutral", "entailment")
_VILBERT = {
    **_WORDS,
    **_POINTING,
    "masked_region": Published("classifier", "regions", _NORM),
    "alignment": Published("linear", "pooled"),
    "gqa": Published("classifier", "pooled", _NORM, "answers", outputs=1533),
    "nlvr2": Published("classifier", "pooled", _NORM, "labels", _TRUTH, outputs=2),
    "entailment": Published("linear", "pooled", {}, "labels", _RELATIONS, outputs=3),
}
_WEIGHT_NORM = {"vqa": Published("weight_norm", "pooled", named_by="answers")}

HEADS: Mapping[str, Mapping[str, Published]] = {
    "bert": _WORDS,
    "roberta": _WORDS,
    "resnet": {},
    "vlbert": _VLBERT,
    "vlbert_vqa": _VLBERT | {"vqa": Published("classifier", "text", _NORM, "answers")},
    "vlbert_vqa_1fc": _VLBERT | {"vqa": Published("linear", "text", named_by="answers")},
    "vlbert_vqa_2fc": _VLBERT | {"vqa": Published("classifier", "text", _RELU, "answers")},
    "vlbert_refcoco": _VLBERT | {"grounding": Published("classifier", "regions")},
    "vlbert_vcr": _VLBERT | _VCR_REGIONS | {"choice": Published("linear", "pooled")},
    "vlbert_vcr_2fc": _VLBERT | _VCR_REGIONS | {"choice": Published("classifier", "pooled", _RELU)},
    "vilbert": _VILBERT
    | {"vqa": Published("classifier", "pooled", _NORM, "answers", outputs=3129)},
    "vilbert_beta": _VILBERT | _WEIGHT_NORM,
    "single_stream": {
        **_WORDS,
        **_POINTING,
        **_WEIGHT_NORM,
        "masked_region": Published("classifier", "regions", _NORM),
        "alignment": Published("linear", "pooled"),
    },
}


# Heads whose texts have a second segment: VL-BERT's answers, multiple-choice heads.
TWO_SEGMENTS = frozenset({"vqa", "gqa", "choice", "ranking"})


def specs(kind: str, arrays: Mapping[str, np.ndarray]) -> dict[str, HeadSpec]:
    """The heads that a published model's arrays hold.

    Args:
      kind: key of `names.RULES`.
      arrays: {our path: array}.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for path, array in arrays.items():
        if path.startswith("heads/"):
            _, name, rest = path.split("/", 2)
            found.setdefault(name, {})[rest] = array
    return {name: HEADS[kind][name].fit(own) for name, own in sorted(found.items())}
