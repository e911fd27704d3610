"""Tables: names in the published PyTorch checkpoints and the same parameters' paths in our tree.

One table per kind of published model; each line is used in both directions (`translate`). `{i}`
stands for a layer number. VL-BERT's task models call their heads `final_mlp` whatever they are, so
each has a table of its own.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from vl_models.published import vision
from vl_models.published.rule import Rule


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

    The text's queries read the image's keys and values, so the sides are swapped.
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


_VLBERT = (
    *vision.VLBERT,
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
    *_linear("vlbert.relationsip_head.caption_image_relationship", "heads/alignment/classifier"),
)

# VQA: the head on the state of [MASK]; "mlm" in the released configs, and its alternatives.
_VQA_MLM = (
    *_linear("final_mlp.0.dense", "heads/vqa/transform"),
    *_norm("final_mlp.0.LayerNorm", "heads/vqa/norm"),
    *_linear("final_mlp.2", "heads/vqa/classifier"),
)
_VQA_1FC = _linear("final_mlp.1", "heads/vqa/classifier")
_VQA_2FC = (
    *_linear("final_mlp.1", "heads/vqa/transform"),
    *_linear("final_mlp.4", "heads/vqa/classifier"),
)
_REFCOCO = (
    *_linear("final_mlp.0.dense", "heads/grounding/transform"),
    *_linear("final_mlp.2", "heads/grounding/classifier"),
)
_VCR_1FC = _linear("final_mlp.1", "heads/choice/classifier")
_VCR_2FC = (
    *_linear("final_mlp.1", "heads/choice/transform"),
    *_linear("final_mlp.4", "heads/choice/classifier"),
)
_VCR_REGIONS = (
    *_linear("cnn_loss_reg.0.dense", "heads/object_class/transform"),
    *_linear("cnn_loss_reg.2", "heads/object_class/classifier"),
)


def _time_distributed(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """VCR wraps the model for its four choices, which shows in the names."""
    return tuple(
        dataclasses.replace(rule, torch=f"vlbert._module.{rule.torch.removeprefix('vlbert.')}")
        if rule.torch.startswith("vlbert.")
        else rule
        for rule in rules
    )


_VILBERT = (
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
    *_classifier("vil_prediction_gqa", "heads/gqa"),
    *_classifier("vil_binary_prediction", "heads/nlvr2"),
    *_linear("vil_tri_prediction", "heads/entailment/classifier"),
    *_linear("vil_logit", "heads/ranking/classifier"),
    *_linear("vision_logit", "heads/grounding/classifier"),
    *_linear("linguisic_logit", "heads/word_grounding/classifier"),
)

# Hugging Face's BERT and RoBERTa: the text side of every model here.
_BERT = (
    *_embeddings("bert.embeddings", "trunk/embeddings"),
    *_bert_layer("bert.encoder.layer.{i}", "trunk/layer_{i}"),
    *_linear("bert.pooler.dense", "trunk/pooler/dense"),
    *_under("cls", _MLM),
)
_ROBERTA = (
    *_embeddings("roberta.embeddings", "trunk/embeddings"),
    *_bert_layer("roberta.encoder.layer.{i}", "trunk/layer_{i}"),
    *_linear("roberta.pooler.dense", "trunk/pooler/dense"),
    *_linear("lm_head.dense", "heads/masked_language/transform"),
    *_norm("lm_head.layer_norm", "heads/masked_language/norm"),
    Rule("lm_head.bias", "heads/masked_language/bias"),
)

RULES: Mapping[str, tuple[Rule, ...]] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "resnet": vision.RESNET,  # torchvision's, and VL-BERT's of Visual Genome
    "vlbert": _VLBERT,
    "vlbert_vqa": (*_VLBERT, *_VQA_MLM),
    "vlbert_vqa_1fc": (*_VLBERT, *_VQA_1FC),
    "vlbert_vqa_2fc": (*_VLBERT, *_VQA_2FC),
    "vlbert_refcoco": (*_VLBERT, *_REFCOCO),
    "vlbert_vcr": (*_time_distributed(_VLBERT), *_VCR_1FC, *_VCR_REGIONS),
    "vlbert_vcr_2fc": (*_time_distributed(_VLBERT), *_VCR_2FC, *_VCR_REGIONS),
    "vilbert": (*_VILBERT, *_classifier("vil_prediction", "heads/vqa")),
    # The first release: its answer head is weight-normalised.
    "vilbert_beta": (
        *_VILBERT,
        *_weight_norm("vil_prediction.main.0", "heads/vqa/transform"),
        *_weight_norm("vil_prediction.main.3", "heads/vqa/classifier"),
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
_WORDS = "word_embeddings.weight"
_BERT_TIES = (
    ("cls.predictions.decoder.weight", f"bert.embeddings.{_WORDS}"),
    ("cls.predictions.decoder.bias", "cls.predictions.bias"),
)
_VCR_TIES = (("vlbert._module.mlm_head.predictions.decoder.weight", f"vlbert._module.{_WORDS}"),)
_TIES = {
    "vlbert": (("vlbert.mlm_head.predictions.decoder.weight", f"vlbert.{_WORDS}"),),
    "vlbert_vcr": _VCR_TIES,
    "vlbert_vcr_2fc": _VCR_TIES,
    "bert": _BERT_TIES,
    "roberta": (
        ("lm_head.decoder.weight", f"roberta.embeddings.{_WORDS}"),
        ("lm_head.decoder.bias", "lm_head.bias"),
    ),
}
ALIASES: Mapping[str, tuple[tuple[str, str], ...]] = {
    kind: (_TIES.get(kind) or (_TIES["vlbert"] if kind.startswith("vlbert") else _BERT_TIES[:1]))
    + (vision.HEAD_TIES if kind.startswith("vlbert") else ())
    for kind in RULES
}

# Entries of published files that no model here has: (pattern, reason); never written.
_INDICES = (r".*\.position_ids", "a list of indices, no parameter")
_NEXT_SENTENCE = (r"cls\.seq_relationship\..*", "BERT's next-sentence head")
WAIVED: Mapping[str, tuple[tuple[str, str], ...]] = {
    kind: (
        _INDICES,
        *([_NEXT_SENTENCE] if kind == "bert" else []),
        *([vision.COUNTERS] if kind.startswith("vlbert") or kind == "resnet" else []),
        *([vision.IMAGE_CLASSES] if kind == "resnet" else []),
    )
    for kind in RULES
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
_CROSS = tuple(
    Dead(
        f"bert.encoder.c_layer.{{i}}.biOutput.q_dense{side}.{part}",
        f"bert.encoder.c_layer.{{i}}.biOutput.dense{side}.{part}",
    )
    for side in (1, 2)
    for part in ("weight", "bias")
)
DEAD: Mapping[str, tuple[Dead, ...]] = dict.fromkeys(RULES, ()) | {
    "vilbert": _CROSS,
    "vilbert_beta": _CROSS,
}
