"""Published PyTorch names and layouts ↔ ours. Arrays only, no files; tables: `names`."""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vl_models.published import vision
from vl_models.published.names import ALIASES, DEAD, RULES, WAIVED
from vl_models.published.rule import Rule


@dataclasses.dataclass(frozen=True)
class Translated:
    """A published state dict in our names.

    Attributes:
      arrays: {our path: array in our layout}.
      names: {our path: published name}.
      dropped: {published name: why it is of no use here}.
    """

    arrays: dict[str, np.ndarray]
    names: dict[str, str]
    dropped: dict[str, str]


def _rules(kind: str) -> tuple[Rule, ...]:
    if kind not in RULES:
        raise ValueError(f"no published names for model {kind!r}, known: {sorted(RULES)}")
    return RULES[kind]


def _match_layer(pattern: str, name: str) -> str | None:
    """The layer number where `name` fits a pattern with `{i}`, "" without one, else None."""
    match = re.fullmatch(re.escape(pattern).replace(r"\{i\}", r"(\d+)"), name)
    return None if match is None else "".join(match.groups())


def find(rules: Iterable[Rule], side: str, name: str) -> Rule | None:
    """The rule whose `side` pattern matches `name`, its layer number filled in."""
    for rule in rules:
        layer = _match_layer(getattr(rule, side), name)
        if layer is not None:
            torch, ours = (x.replace("{i}", layer) for x in (rule.torch, rule.ours))
            return Rule(torch, ours, rule.kind)
    return None


def plain_names(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict under the names of the tables.

    Takes off what wrappers put in front ("module."), renames the "gamma" and "beta" of old files,
    and puts "bert." or "roberta." before the names of a bare encoder.
    """
    out = {}
    for name, array in state.items():
        name = name.removeprefix("module.")
        name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
        out[name] = array
    if "embeddings.word_embeddings.weight" in out:
        # RoBERTa's table of kinds has one row, BERT's two.
        kinds = out.get("embeddings.token_type_embeddings.weight")
        prefix = "roberta" if kinds is not None and len(kinds) == 1 else "bert"
        out = {f"{prefix}.{name}": array for name, array in out.items()}
    return out


# Names by which a kind is known, all of them, the most telling first.
_SIGNS = (
    ("vlbert_vcr_2fc", r"vlbert\._module\..*", r"final_mlp\.4\..*"),
    ("vlbert_vcr", r"vlbert\._module\..*"),
    ("vlbert_vqa", r"final_mlp\.0\.LayerNorm\..*"),
    ("vlbert_refcoco", r"final_mlp\.0\.dense\..*"),
    ("vlbert_vqa_2fc", r"final_mlp\.4\..*"),
    ("vlbert_vqa_1fc", r"final_mlp\.1\..*"),
    ("vlbert", r"vlbert\..*"),
    ("single_stream", r"bert\.image_embeddings\..*"),
    ("vilbert_beta", r"vil_prediction\.main\..*"),
    ("vilbert", r"bert\.v_embeddings\..*"),
    ("roberta", r"roberta\..*"),
    ("bert", r"bert\.embeddings\..*"),
    ("resnet", r"layer4\.0\.conv1\.weight"),
)


def kind_of(names: Iterable[str]) -> str:
    """The kind of published model that has these names (after `plain_names`).

    Raises:
      ValueError: none of them; shows some names.
    """
    names = list(names)
    for kind, *signs in _SIGNS:
        if all(any(re.fullmatch(sign, name) for name in names) for sign in signs):
            return kind
    raise ValueError(
        f"these are the names of no model known here ({', '.join(sorted(RULES))}): "
        f"{', '.join(names[:5])} ..."
    )


def kind_for(model: str, paths: Iterable[str]) -> str:
    """The published kind of a trunk that has names for all of our paths, and no half heads.

    Args:
      model: name of the trunk's module.
      paths: ours.

    Raises:
      KeyError: none has; names the paths that the nearest kind lacks.
    """
    paths = list(paths)
    lacking = {
        kind: [p for p in paths if find(RULES[kind], "ours", p) is None]
        for kind in RULES
        if kind == model or kind.startswith(f"{model}_")
    }
    fitting = [kind for kind, found in lacking.items() if not found]
    if fitting:
        return min(fitting, key=lambda kind: _absent(kind, paths))
    if not lacking:
        raise KeyError(f"no published names for model {model!r}, known: {sorted(RULES)}")
    kind = min(lacking, key=lambda name: len(lacking[name]))
    raise KeyError(f"no published {kind} name for {', '.join(sorted(lacking[kind]))}")


def _absent(kind: str, paths: Sequence[str]) -> int:
    """How many arrays of the heads that `paths` are of the kind has beside these."""
    heads = {path.split("/")[1] for path in paths if path.startswith("heads/")}
    ours = [rule.ours for rule in RULES[kind] if rule.ours.startswith("heads/")]
    return sum(path.split("/")[1] in heads and path not in paths for path in ours)


def translate(kind: str, state: Mapping[str, np.ndarray]) -> Translated:
    """Published names and layout → ours.

    Args:
      kind: key of `RULES`.
      state: the state dict as numpy arrays (see `plain_names`).

    Raises:
      KeyError: names that no rule covers; lists them all, each with the nearest known name.
      ValueError: an alias whose array differs from the parameter it repeats.
    """
    rules, aliases = _rules(kind), dict(ALIASES[kind])
    state = plain_names(state)
    out, unknown = Translated({}, {}, {}), []
    for name, array in state.items():
        waived = [reason for pattern, reason in WAIVED[kind] if re.fullmatch(pattern, name)]
        if name in aliases and aliases[name] in state:
            if not np.array_equal(array, state[aliases[name]]):
                raise ValueError(f"{name} is tied to {aliases[name]} but differs from it")
            out.dropped[name] = f"the same array as {aliases[name]}"
        elif any(_match_layer(dead.torch, name) is not None for dead in DEAD[kind]):
            out.dropped[name] = "never used in the published model either"
        elif waived:
            out.dropped[name] = waived[0]
        elif (rule := find(rules, "torch", name)) is None:
            unknown.append(name)
        else:
            out.arrays[rule.ours] = rule.convert(np.asarray(array))
            out.names[rule.ours] = name
    if unknown:
        raise KeyError(
            f"no {kind} parameter is called "
            + ", ".join(f"{name}{_nearest(rules, name)}" for name in sorted(unknown))
        )
    return out


def _nearest(rules: Iterable[Rule], name: str) -> str:
    """ " (nearest known: ...)" or nothing."""
    number = re.search(r"\d+", name)
    known = [rule.torch.replace("{i}", number[0] if number else "0") for rule in rules]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f" (nearest known: {close[0]})" if close else ""


def to_torch(kind: str, flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{our path: array} → published names and layout, with aliases, counters, dead parameters.

    Raises:
      KeyError: paths that no rule covers; lists them all.
    """
    rules = _rules(kind)
    found = {path: find(rules, "ours", path) for path in flat}
    unknown = sorted(path for path, rule in found.items() if rule is None)
    if unknown:
        raise KeyError(f"no published {kind} name for {', '.join(unknown)}")
    out = {rule.torch: rule.restore(np.asarray(flat[path])) for path, rule in found.items() if rule}
    for alias, name in ALIASES[kind]:
        whole = alias.startswith(vision.ALIAS)  # a module of aliases alone; else one of a module
        if name in out and (whole or any(x.startswith(alias.rsplit(".", 2)[0]) for x in out)):
            out[alias] = out[name]
    for name in [name for name in out if name.endswith(vision.VARIANCE)]:
        counter = name.removesuffix(vision.VARIANCE) + vision.COUNTER
        out[counter] = np.zeros((), np.int64)
    for dead in DEAD[kind]:
        for name in list(out):
            layer = _match_layer(dead.like, name)
            if layer is not None:
                out[dead.torch.replace("{i}", layer)] = np.zeros_like(out[name])
    return out
