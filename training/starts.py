"""Where a run's parameters come from: scratch, another's checkpoint, or the run's own."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import jax

import vl_models
from checkpoints import checkpoint, initial_values, sources, transfer
from core import remote
from core.console import say
from training.parts import Parts
from training.state import StateMaker

SCRATCH = "scratch"  # value of config.init_vision
VISION = "trunk/vision/"


def _fit(config, maker, parts, *, begin: bool):
    """`config.init` fitted into the model, to begin a run or as it is; its report and source."""
    source = _source(config)
    parts.check_data(source.data_metadata, str(config.init), vocabulary=False)
    if any(path.startswith("trunk/regions/") for path in source.arrays):  # BERT has none
        saved = source.config.get("model", {"name": config.model.name})
        _require_geometry(config, saved, str(config.init))
    fitted = transfer.fit(
        source,
        maker.params,
        model=config.model.name,
        pieces=parts.data_metadata.get("pieces"),
        heads=parts.model.head_specs,
        warm_start=parts.model.warm_start if begin else None,
        layers=config.init_layers,
    )
    if begin:
        fitted = initial_values.add(fitted, source, maker.params, parts.model.initial_values)
    step = "" if source.step is None else f" at step {source.step}"
    places = " and ".join(filter(None, (config.init, _convolutions(config))))
    lines = [f"parameters from {places} ({source.kind}{step}):", *fitted.layers]
    return fitted, "\n".join([*lines, transfer.table(fitted.report)]), source


def _convolutions(config) -> str:
    """Where the convolutions come from, if from a place of their own."""
    return config.init_vision if config.init_vision != SCRATCH else ""


def _source(config) -> sources.Source:
    """`config.init` with the convolutions of `config.init_vision`.

    Raises:
      SourceError: a model that sees pixels would begin without convolutions, and the config does
        not say so; or a place without any.
    """
    source = None
    if config.init:
        source = sources.open_source(config.init, vocab=config.init_vocab)
    if place := _convolutions(config):
        found = sources.open_source(place)
        arrays = {path: x for path, x in found.arrays.items() if path.startswith(VISION)}
        if not arrays:
            raise sources.SourceError(
                "there are no convolutions to start from",
                where=f"--config.init_vision={place}",
                expected="a ResNet in torchvision's names, or an end-to-end checkpoint of VL-BERT",
                found=f"a {found.kind} without them",
            )
        names = {path: found.names[path] for path in arrays}
        if source is None:
            return dataclasses.replace(found, arrays=arrays, names=names)
        rest = {path: x for path, x in source.arrays.items() if not path.startswith(VISION)}
        return dataclasses.replace(
            source, arrays={**rest, **arrays}, names={**source.names, **names}
        )
    sees = config.model.get("features") == "pixels"
    if sees and not config.init_vision and not any(p.startswith(VISION) for p in source.arrays):
        raise sources.SourceError(
            "a model that sees pixels would begin without convolutions",
            where=f"--config.init={config.init}",
            expected="an end-to-end checkpoint",
            found=f"a {source.kind} that read stored features"
            if any(path.startswith("trunk/regions/") for path in source.arrays)
            else f"a {source.kind}",
            fix="name trained convolutions: --config.init_vision=resnet101-pt-vgbua-0000.model, or "
            f"let them begin anew: --config.init_vision={SCRATCH}",
        )
    return source


def _require_geometry(config, saved: Mapping[str, Any], place: str) -> None:
    """Raises SourceError where parameters were trained on boxes that were spread otherwise.

    Args:
      config: of the run.
      saved: model block that the parameters come with; a published file has the published values.
      place: of the parameters.
    """
    if "geometry" not in config.model or saved["name"] != config.model.name:
        return
    ours = json.loads(json.dumps(config.model.geometry.to_dict(), default=list))
    theirs = json.loads(json.dumps(vl_models.completed(saved)["geometry"], default=list))
    if ours != theirs:
        raise sources.SourceError(
            f"{place} was trained on boxes that are embedded otherwise\n"
            f"  expected: config.model.geometry {theirs}\n  found: {ours}\n  fix: "
            + " ".join(
                f"--config.model.geometry.{name}="
                + (f'"{tuple(value)}"' if isinstance(value, list) else str(value))
                for name, value in theirs.items()
            )
        )


def require_init(config) -> None:
    """Raises SourceError where `config.init` names nothing that is there; opens nothing."""
    for place in filter(None, (config.init, _convolutions(config))):
        sources.locate(place)
    if config.init and config.init_vocab:
        remote.require(config.init_vocab, "--config.init_vocab")
        if not remote.path(config.init_vocab).is_file():
            raise sources.SourceError(f"--config.init_vocab={config.init_vocab}: no such file")


def require_trained(config, workdir: remote.Path) -> None:
    """Checks that `trained` has parameters to look for.

    Raises:
      CheckpointError: the run has no checkpoints, and `config.init` names none either.
      SourceError: it names something that is not there.
    """
    if (workdir / checkpoint.FOLDER).exists():
        return
    if not config.init:
        raise checkpoint.CheckpointError(
            f"no parameters to use: {workdir} has no {checkpoint.FOLDER!r} folder and config.init "
            "is empty\n  fix: give --workdir=<folder of a run>, or --config.init"
        )
    require_init(config)


def begin(config, workdir: remote.Path, maker: StateMaker, parts: Parts):
    """A state that is not resumed, and its meta; what became of each array is in init.txt."""
    meta = dict(step=0, draws=dict.fromkeys(parts.example, 0), elapsed=0.0, best=None, window={})
    if config.init or _convolutions(config):
        fitted, text, _ = _fit(config, maker, parts, begin=True)
        say(text)
        if jax.process_index() == 0:
            workdir.mkdir(parents=True, exist_ok=True)
            (workdir / "init.txt").write_text(text + "\n")
        return maker.from_params(transfer.place(fitted, maker.fresh().params)), meta
    say("parameters from scratch")
    return maker.fresh(), meta


# Parameters of a trunk that only other streams read: of hidden regions, of rows without an image,
# and the pooler. A model without them computes the rest identically.
_OF_OTHER_STREAMS = r"trunk/(pooler/.*|regions/mask|embeddings/(mask_token|text_visual))"


def _as_it_is(config, maker, parts):
    """All parameters of `config.init`, and their step; heads that the model lacks are left out."""
    fitted, text, source = _fit(config, maker, parts, begin=False)
    say(text)
    new = [line.path for line in fitted.report if line.fate == "initial"]
    if new or fitted.known:
        raise sources.SourceError(
            f"{config.init} cannot be evaluated as it is: it does not give "
            f"{', '.join([*new, *fitted.known])}\n  fix: train from it first (--mode=train)"
        )
    lost = [
        path
        for path in source.arrays
        if path.startswith("trunk/")
        and path not in fitted.arrays
        and not re.fullmatch(_OF_OTHER_STREAMS, path)
    ]
    if lost:
        raise sources.SourceError(
            f"{config.init} cannot be evaluated as it is: the model lacks {', '.join(lost)}\n"
            "  fix: configure config.model as it was trained"
        )
    return transfer.place(fitted, maker.fresh().params), source.step or 0


def trained(config, workdir: remote.Path, parts: Parts, mesh):
    """(parameters, step, source): the run's best checkpoint, else its newest, else `config.init`.

    Raises:
      CheckpointError: there is none of these.
    """
    maker = StateMaker(parts.model, config, parts.example, mesh)
    require_trained(config, workdir)
    own = (workdir / checkpoint.FOLDER).exists()
    source = workdir if own else config.init
    if own:
        params, meta = checkpoint.load_params(source, maker.params)
        _require_geometry(config, meta.get("config", {}).get("model", config.model), str(source))
        parts.check_data(meta.get("facts", {}), str(source))
        step = meta["step"]
    else:
        params, step = _as_it_is(config, maker, parts)
    return params, step, str(source)
