"""Writes a model in the original's layout; what the original cannot have is told."""

import re
from collections.abc import Collection, Mapping

import numpy as np

import vl_models
from checkpoints import sources, state_files
from core import remote
from core.console import say, warn
from core.progress import atomic_file
from vl_models import embeddings
from vl_models.published import heads as published_heads
from vl_models.published import translate
from vl_models.published.names import RULES


def to_torch(
    source: sources.Source, path: str, *, without: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Writes the original's state dict; returns it.

    Heads of objectives that are ours alone are left out, VL-BERT's embedding of boxes may be
    another, and ViLBERT's is folded into the location's layer. Heads that the layout has and the
    source lacks are named, too: the original starts them anew.

    Args:
      source: any.
      path: a new file, .safetensors or of PyTorch's own format.
      without: heads that are left out.

    Raises:
      SourceError: a parameter that the originals have no name for, a head of which a part is
        missing, a head to leave out that is not there, or the file exists.
    """
    if remote.path(path).exists():
        raise sources.SourceError(f"{path} exists already: remove it or choose another path")
    write = state_files.writer(path)
    model = source.config.get("model", {}).get("name") or source.kind.split("_")[0]
    if source.kind == "single_stream":
        model = source.kind
    arrays = _as_published(source, model, without)
    try:
        kind = translate.kind_for(model, arrays)
        state = translate.to_torch(kind, arrays)
    except KeyError as error:
        text = str(error.args[0])
        heads = ",".join(sorted(set(re.findall(r"heads/(\w+)/", text))))
        fix = f"\n  fix: leave out what the original of one task has not: --without={heads}"
        raise sources.SourceError(f"{source.place}: {text}" + fix * bool(heads)) from error
    _tell(source, kind, arrays)
    with atomic_file(path) as temporary:
        write(temporary, {name: np.asarray(x, order="C") for name, x in state.items()})
    return state


def _as_published(
    source: sources.Source, model: str, without: Collection[str]
) -> dict[str, np.ndarray]:
    """The source's arrays as the original's code would need them."""
    ours = {path.split("/")[1] for path in source.arrays if path.startswith("heads/")}
    if absent := sorted(set(without) - ours):
        raise sources.SourceError(
            f"{source.place} has no heads {absent} to leave out\n  fix: name some of {sorted(ours)}"
        )
    kinds = [kind for kind in RULES if kind == model or kind.startswith(f"{model}_")]
    known = {head for kind in kinds for head in published_heads.HEADS[kind]}
    for head in sorted(ours - known) if known else ():
        warn(f"{source.place}: the head {head!r} is left out: no original has one like it")
    left_out = {*without, *(ours - known if known else ())}
    arrays = {
        path: x
        for path, x in source.arrays.items()
        if not (path.startswith("heads/") and path.split("/")[1] in left_out)
    }
    if "model" not in source.config:  # a published file
        return arrays
    block = vl_models.completed(source.config["model"])
    geometry = embeddings.Geometry.of(block["geometry"])
    if block["name"] == "vlbert" and geometry != embeddings.VLBERT:
        warn(
            f"{source.place}: boxes are embedded by config.model.geometry {geometry}, which the "
            "original's code does not have: there, (share - offset) * scale / base^(i / n) has to "
            f"stand for its {embeddings.VLBERT}"
        )
    elif block["name"] != "vlbert" and geometry != embeddings.VILBERT:
        layer = "trunk/regions/location"
        kernel, bias = arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"]
        offset, scale = (
            np.repeat(np.asarray(pair, kernel.dtype), (4, 1))[:, None]
            for pair in (geometry.offset, geometry.scale)
        )
        arrays[f"{layer}/kernel"] = kernel * scale
        arrays[f"{layer}/bias"] = bias - (offset * scale * kernel).sum(0)
    return arrays


def _tell(source: sources.Source, kind: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Says which heads of the layout are not in the file, and which its code cannot take.

    Raises:
      SourceError: a head is there in part.
    """
    rules: dict[str, dict[str, str]] = {}
    for rule in RULES[kind]:
        if rule.ours.startswith("heads/"):
            rules.setdefault(rule.ours.split("/")[1], {})[rule.ours] = rule.torch
    absent = []
    for head, names in rules.items():
        missing = [path for path in names if path not in arrays]
        if len(missing) == len(names):
            absent.append(f"{_module(names.values())} ({head})")
        elif missing:
            raise sources.SourceError(
                f"{source.place}: the head {head!r} is built otherwise than the original's, which "
                f"also has {', '.join(names[path] for path in missing)}\n"
                f"  fix: leave it out: --without={head}"
            )
        else:
            own = {path.split("/", 2)[2]: arrays[path] for path in names}
            spec, published = source.heads.get(head), published_heads.HEADS[kind][head]
            outputs = published.fit(own).options.get("outputs", 0)
            if published.outputs and outputs != published.outputs:
                warn(
                    f"{source.place}: the head {head!r} has {outputs} outputs, the original's code "
                    f"{published.outputs} in {_module(names.values())}: it cannot load this one"
                )
            elif spec and spec.names and published.names and spec.names != published.names:
                ours, theirs = ", ".join(spec.names), ", ".join(published.names)
                warn(
                    f"{source.place}: outputs of the head {head!r} are {ours}, in the original "
                    f"{theirs}"
                )
    if absent:
        say(f"not in the file, so that the original starts it anew: {', '.join(absent)}")


def _module(names: Collection[str]) -> str:
    """What the names of a module's parameters begin with."""
    parts = [name.split(".") for name in names]
    common = 0
    while all(len(p) > common + 1 and p[common] == parts[0][common] for p in parts):
        common += 1
    return ".".join(parts[0][:common]).removesuffix(".logit_fc")
