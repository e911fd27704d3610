"""Names of the published PyTorch checkpoints ↔ our parameter paths. Arrays only, no files.

One table per model; each line is used in both directions. `{i}` stands for a layer number.
"""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Rule:
    """One parameter under both names.

    Attributes:
      torch: name in the published checkpoint.
      ours: path in our tree.
      kind: "same"; "linear" (out, in) ↔ (in, out); "row" (1, n) ↔ (n).
    """

    torch: str
    ours: str
    kind: str = "same"

    def convert(self, x: np.ndarray) -> np.ndarray:
        """PyTorch layout → ours."""
        if self.kind == "linear":
            return x.T
        return x[0] if self.kind == "row" else x

    def restore(self, x: np.ndarray) -> np.ndarray:
        """Our layout → PyTorch's."""
        if self.kind == "linear":
            return x.T
        return x[None] if self.kind == "row" else x


def _linear(torch: str, ours: str) -> list[Rule]:
    return [Rule(f"{torch}.weight", f"{ours}/kernel", "linear"), Rule(f"{torch}.bias", f"{ours}/bias")]


def _norm(torch: str, ours: str) -> list[Rule]:
    return [Rule(f"{torch}.weight", f"{ours}/scale"), Rule(f"{torch}.bias", f"{ours}/bias")]


def _bert_layer(torch: str, ours: str) -> list[Rule]:
    """A BERT layer of any stream; both strings carry `{i}`."""
    return [
        *_linear(f"{torch}.attention.self.query", f"{ours}/attention/query"),
        *_linear(f"{torch}.attention.self.key", f"{ours}/attention/key"),
        *_linear(f"{torch}.attention.self.value", f"{ours}/attention/value"),
        *_linear(f"{torch}.attention.output.dense", f"{ours}/attention/output"),
        *_norm(f"{torch}.attention.output.LayerNorm", f"{ours}/attention/norm"),
        *_linear(f"{torch}.intermediate.dense", f"{ours}/mlp/intermediate"),
        *_linear(f"{torch}.output.dense", f"{ours}/mlp/output"),
        *_norm(f"{torch}.output.LayerNorm", f"{ours}/mlp/norm"),
    ]


_MLM = [
    Rule("predictions.bias", "heads/masked_language/bias"),
    *_linear("predictions.transform.dense", "heads/masked_language/transform"),
    *_norm("predictions.transform.LayerNorm", "heads/masked_language/norm"),
]


def _under(prefix: str, rules: list[Rule]) -> list[Rule]:
    return [dataclasses.replace(rule, torch=f"{prefix}.{rule.torch}") for rule in rules]


RULES: Mapping[str, tuple[Rule, ...]] = {
    "vlbert": (
        *_linear("image_feature_extractor.obj_downsample.1", "trunk/regions/projection"),
        Rule("object_mask_visual_embedding.weight", "trunk/regions/mask", "row"),
        Rule("object_linguistic_embeddings.weight", "trunk/embeddings/image_token", "row"),
        Rule("object_mask_word_embedding.weight", "trunk/embeddings/mask_token", "row"),
        Rule("aux_text_visual_embedding.weight", "trunk/embeddings/text_visual", "row"),
        Rule("vlbert.word_embeddings.weight", "trunk/embeddings/word/embedding"),
        Rule("vlbert.position_embeddings.weight", "trunk/embeddings/position/embedding"),
        Rule("vlbert.token_type_embeddings.weight", "trunk/embeddings/segment/embedding"),
        Rule("vlbert.end_embedding.weight", "trunk/embeddings/end_token", "row"),
        *_norm("vlbert.embedding_LayerNorm", "trunk/embeddings/norm"),
        *_norm("vlbert.visual_ln_text", "trunk/embeddings/text_visual_norm"),
        *_norm("vlbert.visual_ln_object", "trunk/embeddings/region_visual_norm"),
        *_bert_layer("vlbert.encoder.layer.{i}", "trunk/layer_{i}"),
        *_linear("vlbert.pooler.dense", "trunk/pooler/dense"),
        *_under("vlbert.mlm_head", _MLM),
        *_linear("vlbert.mvrc_head.transform.dense", "heads/masked_region/transform"),
        *_linear("vlbert.mvrc_head.region_cls_pred", "heads/masked_region/classifier"),
        *_linear(
            "vlbert.relationsip_head.caption_image_relationship", "heads/alignment/classifier"
        ),
    ),
}

# The tied decoder is stored twice in the published files: (alias, the name it repeats).
ALIASES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "vlbert": (
        ("vlbert.mlm_head.predictions.decoder.weight", "vlbert.word_embeddings.weight"),
    ),
}


def _rules(model: str) -> tuple[Rule, ...]:
    if model not in RULES:
        raise ValueError(f"no published names for model {model!r}, known: {sorted(RULES)}")
    return RULES[model]


def _find(rules, side: str, name: str) -> Rule | None:
    """The rule whose `side` pattern matches `name`, its layer number filled in."""
    for rule in rules:
        pattern = re.escape(getattr(rule, side)).replace(r"\{i\}", r"(\d+)")
        if match := re.fullmatch(pattern, name):
            layer = match[1] if match.groups() else ""
            return Rule(
                rule.torch.replace("{i}", layer), rule.ours.replace("{i}", layer), rule.kind
            )
    return None


def from_torch(model: str, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published names and layout → {our path: array}.

    Args:
      model: key of `RULES`.
      state: the state dict as numpy arrays; a leading "module." is accepted.

    Raises:
      KeyError: names that no rule covers; lists them all.
      ValueError: an alias whose array differs from the parameter it repeats.
    """
    rules, aliases = _rules(model), dict(ALIASES[model])
    state = {name.removeprefix("module."): array for name, array in state.items()}
    out, unknown = {}, []
    for name, array in state.items():
        if name in aliases:
            if not np.array_equal(array, state[aliases[name]]):
                raise ValueError(f"{name} is tied to {aliases[name]} but differs from it")
        elif (rule := _find(rules, "torch", name)) is None:
            unknown.append(name)
        else:
            out[rule.ours] = rule.convert(np.asarray(array))
    if unknown:
        raise KeyError(f"no {model} parameter is called {', '.join(sorted(unknown))}")
    return out


def to_torch(model: str, flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{our path: array} → published names and layout, aliases included; inverse of `from_torch`.

    Raises:
      KeyError: paths that no rule covers; lists them all.
    """
    rules = _rules(model)
    found = {path: _find(rules, "ours", path) for path in flat}
    unknown = sorted(path for path, rule in found.items() if rule is None)
    if unknown:
        raise KeyError(f"no published {model} name for {', '.join(unknown)}")
    out = {rule.torch: rule.restore(np.asarray(flat[path])) for path, rule in found.items()}
    for alias, name in ALIASES[model]:
        if name in out and any(key.startswith(alias.rsplit(".", 2)[0]) for key in out):
            out[alias] = out[name]
    return out
