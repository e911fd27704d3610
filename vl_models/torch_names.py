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
      kind: "same"; "linear" (out, in) ↔ (in, out); "row" (1, n) ↔ (n); "match" and "match_linear"
        also reverse the two classes, since in ViLBERT's files class 0 is the match.
    """

    torch: str
    ours: str
    kind: str = "same"

    def convert(self, x: np.ndarray) -> np.ndarray:
        """PyTorch layout → ours."""
        if self.kind.startswith("match"):
            x = x[::-1]
        if self.kind.endswith("linear"):
            return x.T
        return x[0] if self.kind == "row" else x

    def restore(self, x: np.ndarray) -> np.ndarray:
        """Our layout → PyTorch's."""
        if self.kind.endswith("linear"):
            x = x.T
        if self.kind.startswith("match"):
            return x[::-1]
        return x[None] if self.kind == "row" else x


def _linear(torch: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{torch}.weight", f"{ours}/kernel", "linear"),
        Rule(f"{torch}.bias", f"{ours}/bias"),
    ]


def _match(torch: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{torch}.weight", f"{ours}/kernel", "match_linear"),
        Rule(f"{torch}.bias", f"{ours}/bias", "match"),
    ]


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


def _embeddings(torch: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{torch}.word_embeddings.weight", f"{ours}/word/embedding"),
        Rule(f"{torch}.position_embeddings.weight", f"{ours}/position/embedding"),
        Rule(f"{torch}.token_type_embeddings.weight", f"{ours}/segment/embedding"),
        *_norm(f"{torch}.LayerNorm", f"{ours}/norm"),
    ]


def _connection(torch: str, ours: str) -> list[Rule]:
    """A connection layer; in the published names 1 is the image's side, 2 the text's.

    The text's queries read the image's keys and values, so their side lies crosswise.
    """
    rules = []
    for stream, own, other, mlp in (("text", 2, 1, "t"), ("image", 1, 2, "v")):
        attention = f"{ours}/{stream}_attention"
        rules += [
            *_linear(f"{torch}.biattention.query{own}", f"{attention}/query"),
            *_linear(f"{torch}.biattention.key{other}", f"{attention}/key"),
            *_linear(f"{torch}.biattention.value{other}", f"{attention}/value"),
            *_linear(f"{torch}.biOutput.dense{own}", f"{attention}/output"),
            *_norm(f"{torch}.biOutput.LayerNorm{own}", f"{attention}/norm"),
            *_linear(f"{torch}.{mlp}_intermediate.dense", f"{ours}/{stream}_mlp/intermediate"),
            *_linear(f"{torch}.{mlp}_output.dense", f"{ours}/{stream}_mlp/output"),
            *_norm(f"{torch}.{mlp}_output.LayerNorm", f"{ours}/{stream}_mlp/norm"),
        ]
    return rules


def _classifier(torch: str, ours: str) -> list[Rule]:
    """Two linear layers with GELU and norm between (12-in-1)."""
    return [
        *_linear(f"{torch}.logit_fc.0", f"{ours}/transform"),
        *_norm(f"{torch}.logit_fc.2", f"{ours}/norm"),
        *_linear(f"{torch}.logit_fc.3", f"{ours}/classifier"),
    ]


def _weight_norm(torch: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{torch}.weight_v", f"{ours}_direction", "linear"),
        Rule(f"{torch}.weight_g", f"{ours}_gain"),
        Rule(f"{torch}.bias", f"{ours}_bias"),
    ]


_REGION_HEAD = [
    *_linear("imagePredictions.transform.dense", "heads/masked_region/transform"),
    *_norm("imagePredictions.transform.LayerNorm", "heads/masked_region/norm"),
    *_linear("imagePredictions.decoder", "heads/masked_region/classifier"),
]

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
    "vilbert": (
        *_embeddings("bert.embeddings", "trunk/embeddings"),
        Rule("bert.embeddings.task_embeddings.weight", "trunk/embeddings/task/embedding"),
        *_linear("bert.v_embeddings.image_embeddings", "trunk/regions/projection"),
        *_linear("bert.v_embeddings.image_location_embeddings", "trunk/regions/location"),
        *_norm("bert.v_embeddings.LayerNorm", "trunk/regions/norm"),
        *_bert_layer("bert.encoder.layer.{i}", "trunk/layer_{i}"),
        *_bert_layer("bert.encoder.v_layer.{i}", "trunk/image_layer_{i}"),
        *_linear(
            "bert.encoder.v_layer.{i}.attention.self.dyLinear_q",
            "trunk/image_layer_{i}/attention/query_gate",
        ),
        *_linear(
            "bert.encoder.v_layer.{i}.attention.self.dyLinear_k",
            "trunk/image_layer_{i}/attention/key_gate",
        ),
        *_connection("bert.encoder.c_layer.{i}", "trunk/connection_{i}"),
        *_linear("bert.t_pooler.dense", "trunk/text_pooler/dense"),
        *_linear("bert.v_pooler.dense", "trunk/image_pooler/dense"),
        *_under("cls", _MLM),
        *_under("cls", _REGION_HEAD),
        *_match("cls.bi_seq_relationship", "heads/alignment/classifier"),
        *_classifier("vil_prediction", "heads/vqa"),
        *_classifier("vil_prediction_gqa", "heads/gqa"),
        *_classifier("vil_binary_prediction", "heads/nlvr2"),
        *_linear("vil_tri_prediction", "heads/entailment/classifier"),
        *_linear("vil_logit", "heads/ranking/classifier"),
        *_linear("vision_logit", "heads/grounding/classifier"),
        *_linear("linguisic_logit", "heads/word_grounding/classifier"),
    ),
    "single_stream": (
        *_embeddings("bert.embeddings", "trunk/embeddings"),
        *_linear("bert.image_embeddings.image_embeddings", "trunk/regions/projection"),
        *_linear("bert.image_embeddings.image_location_embeddings", "trunk/regions/location"),
        Rule("bert.image_embeddings.token_type_embeddings.weight", "trunk/regions/segment"),
        *_norm("bert.image_embeddings.LayerNorm", "trunk/regions/norm"),
        *_bert_layer("bert.encoder.layer.{i}", "trunk/layer_{i}"),
        *_linear("bert.pooler.dense", "trunk/pooler/dense"),
        *_under("cls", _MLM),
        *_under("cls", _REGION_HEAD),
        *_match("cls.seq_relationship", "heads/alignment/classifier"),
        *_weight_norm("vil_prediction.main.0", "heads/vqa/transform"),
        *_weight_norm("vil_prediction.main.3", "heads/vqa/classifier"),
        *_linear("vil_logit", "heads/ranking/classifier"),
        *_linear("vision_logit", "heads/grounding/classifier"),
        *_linear("linguisic_logit", "heads/word_grounding/classifier"),
    ),
}

# The tied decoder is stored twice in the published files: (alias, the name it repeats).
ALIASES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "vlbert": (("vlbert.mlm_head.predictions.decoder.weight", "vlbert.word_embeddings.weight"),),
    "vilbert": (("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),),
    "single_stream": (
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    ),
}


@dataclasses.dataclass(frozen=True)
class Dead:
    """A parameter that the published model has and never uses.

    Attributes:
      torch: its name, `{i}` a layer number.
      like: published name of a used parameter of the same shape.
    """

    torch: str
    like: str


# Dropped on import; written as zeros on export, since the originals want every name.
DEAD: Mapping[str, tuple[Dead, ...]] = {
    "vlbert": (),
    "single_stream": (),
    "vilbert": tuple(
        Dead(
            f"bert.encoder.c_layer.{{i}}.biOutput.q_dense{side}.{part}",
            f"bert.encoder.c_layer.{{i}}.biOutput.dense{side}.{part}",
        )
        for side in (1, 2)
        for part in ("weight", "bias")
    ),
}


def _rules(model: str) -> tuple[Rule, ...]:
    if model not in RULES:
        raise ValueError(f"no published names for model {model!r}, known: {sorted(RULES)}")
    return RULES[model]


def _match_layer(pattern: str, name: str) -> str | None:
    """The layer number where `name` fits a pattern with `{i}`, "" without one, else None."""
    match = re.fullmatch(re.escape(pattern).replace(r"\{i\}", r"(\d+)"), name)
    return None if match is None else "".join(match.groups())


def _find(rules, side: str, name: str) -> Rule | None:
    """The rule whose `side` pattern matches `name`, its layer number filled in."""
    for rule in rules:
        layer = _match_layer(getattr(rule, side), name)
        if layer is not None:
            torch, ours = (x.replace("{i}", layer) for x in (rule.torch, rule.ours))
            return Rule(torch, ours, rule.kind)
    return None


def from_torch(model: str, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published names and layout → {our path: array}.

    Args:
      model: key of `RULES`.
      state: the state dict as numpy arrays; a leading "module." is accepted, dead parameters
        (`DEAD`) are dropped.

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
        elif any(_match_layer(dead.torch, name) is not None for dead in DEAD[model]):
            continue
        elif (rule := _find(rules, "torch", name)) is None:
            unknown.append(name)
        else:
            out[rule.ours] = rule.convert(np.asarray(array))
    if unknown:
        raise KeyError(f"no {model} parameter is called {', '.join(sorted(unknown))}")
    return out


def to_torch(model: str, flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{our path: array} → published names and layout, with aliases and dead parameters.

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
    for dead in DEAD[model]:
        for name in list(out):
            layer = _match_layer(dead.like, name)
            if layer is not None:
                out[dead.torch.replace("{i}", layer)] = np.zeros_like(out[name])
    return out
