"""Names of the Visual-Genome detector published for PyTorch ("unc-nlp/frcnn-vg-finetuned")."""

import re
from collections.abc import Mapping

import numpy as np

# (published prefix, ours), `{i}` and `{j}` stand for the numbers of a stage and a block.
_MODULES = (
    ("backbone.stem.conv1", "backbone/stem"),
    ("backbone.res{i}.{j}", "backbone/res{i}/block_{j}"),
    ("roi_heads.res{i}.{j}", "head/res{i}/block_{j}"),
    ("proposal_generator.rpn_head.conv", "proposals/conv"),
    ("proposal_generator.rpn_head.objectness_logits", "proposals/objectness"),
    ("proposal_generator.rpn_head.anchor_deltas", "proposals/deltas"),
    ("roi_heads.box_predictor.cls_score", "predictor/classes"),
    ("roi_heads.box_predictor.bbox_pred", "predictor/boxes"),
    ("roi_heads.box_predictor.cls_embedding", "predictor/class_embedding"),
    ("roi_heads.box_predictor.fc_attr", "predictor/attribute_hidden"),
    ("roi_heads.box_predictor.attr_score", "predictor/attributes"),
)
_NORM = {
    "norm.weight": "scale",
    "norm.bias": "bias",
    "norm.running_mean": "mean",
    "norm.running_var": "variance",
}
# A constant of the published module that its files keep as a parameter.
ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"
_COUNTER = r".*\.num_batches_tracked"  # of BatchNorm, which never trains here


def _ours(name: str) -> str | None:
    """Our path of a published name, None where it is none."""
    for torch, ours in _MODULES:
        pattern = re.escape(torch).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\{j\}", r"(?P<j>\d+)")
        match = re.fullmatch(rf"{pattern}(\.(?P<conv>conv[123]|shortcut))?\.(?P<leaf>.+)", name)
        if match is None or bool(match["conv"]) != ("{j}" in torch):
            continue
        path = ours.format(**{k: v for k, v in match.groupdict().items() if k in "ij"})
        path = f"{path}/{match['conv']}" if match["conv"] else path
        embedding = torch.endswith("embedding")
        leaves = {**_NORM, "weight": "embedding" if embedding else "kernel", "bias": "bias"}
        if match["leaf"] in leaves:
            return f"{path}/{leaves[match['leaf']]}"
    return None


def _published(path: str) -> str | None:
    """The published name of our path, None where it has none."""
    for torch, ours in _MODULES:
        pattern = re.escape(ours).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\{j\}", r"(?P<j>\d+)")
        match = re.fullmatch(rf"{pattern}(/(?P<conv>conv[123]|shortcut))?/(?P<leaf>\w+)", path)
        if match is None or bool(match["conv"]) != ("{j}" in torch):
            continue
        name = torch.format(**{k: v for k, v in match.groupdict().items() if k in "ij"})
        name = f"{name}.{match['conv']}" if match["conv"] else name
        normed = bool(match["conv"]) or torch.endswith("stem.conv1")
        leaves = {ours: torch for torch, ours in _NORM.items()} if normed else {"bias": "bias"}
        leaves |= {"kernel": "weight", "embedding": "weight"}
        return f"{name}.{leaves[match['leaf']]}"
    return None


def translate(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published names and layout → ours, without `ANCHORS`.

    Raises:
      KeyError: names that no parameter has; lists them.
    """
    out, unknown = {}, []
    for name, array in state.items():
        if name == ANCHORS or re.fullmatch(_COUNTER, name):
            continue
        path = _ours(name)
        if path is None:
            unknown.append(name)
        else:
            out[path] = _to_ours(path, np.asarray(array))
    if unknown:
        raise KeyError(f"no parameter of the detector is called {', '.join(sorted(unknown))}")
    return out


def to_torch(flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{our path: array} → published names and layout.

    Raises:
      KeyError: paths that have no published name; lists them.
    """
    names = {path: _published(path) for path in flat}
    if unknown := sorted(path for path, name in names.items() if name is None):
        raise KeyError(f"no published name of the detector for {', '.join(unknown)}")
    return {str(names[path]): _to_theirs(path, np.asarray(x)) for path, x in flat.items()}


def _to_ours(path: str, x: np.ndarray) -> np.ndarray:
    """(out, in[, h, w]) → ([h, w, ]in, out)."""
    if not path.endswith("/kernel"):
        return x
    return x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T


def _to_theirs(path: str, x: np.ndarray) -> np.ndarray:
    if not path.endswith("/kernel"):
        return x
    return x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T
