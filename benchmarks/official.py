"""The originals' own code at the same work: for train_step.py --peer=official:FOLDER.

A checkout that the user has of jackroos/VL-BERT or facebookresearch/vilbert-multi-task, of which
nothing is in this project. What is timed is its pre-training model, forward and backward, on region
features computed before, in the modules and with the attention that it has; with clipping and
PyTorch's fused AdamW in place of its own. Packages that its files import and this work never calls
(compiled operators, cloud storage, TensorBoard) are stood in for.

As in the original, words are predicted at all text positions and regions at all of theirs, and
inputs come masked. VL-BERT pads a batch to its longest row, so in "full" one row has the full
length; its plain text rows (`--text_batch`) are not run.
"""

import contextlib
import importlib
import importlib.util
import pathlib
import sys
import types
from collections.abc import Iterator

import numpy as np
from torch import nn

from benchmarks.ours import CLASSES, FEATURES, VOCAB
from benchmarks.torch_side import TorchSide, bert_sizes

# What the originals' files import and this work never calls.
_ABSENT = (
    "boto3",
    "botocore",
    "botocore.exceptions",
    "tensorboardX",
    "torch._six",
    "common.lib.roi_pooling.C_ROIPooling",
)


class _Fields(dict):
    """A dictionary whose entries are attributes."""

    __getattr__, __setattr__ = dict.__getitem__, dict.__setitem__


class _Anything(types.ModuleType):
    """A module that has every public name."""

    def __init__(self, name: str):
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


@contextlib.contextmanager
def _importing(folder: pathlib.Path) -> Iterator[None]:
    """Lets modules of a folder be imported, and what is absent be stood in for."""
    missing = [name for name in _ABSENT if name not in sys.modules and not _found(name)]
    sys.modules.update({name: _Anything(name) for name in missing})
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in missing:
            del sys.modules[name]


def _found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its package is absent, or part of the folder
        return False


class Official(TorchSide):
    """The original's pre-training model, timed in turns."""

    compiles, adds_end = False, True

    def __init__(self, folder: pathlib.Path, *arguments):
        """folder: a checkout; arguments: of `TorchSide`."""
        self._folder = folder
        super().__init__(*arguments)

    def _build(self, config, name: str) -> tuple[nn.Module, str]:
        build = dict(vlbert=_vlbert, vilbert=_vilbert)[name]
        self._two_streams = name == "vilbert"
        with _importing(self._folder), contextlib.redirect_stdout(sys.stderr):
            model = build(config.model)
        return model, f"{type(model).__name__} of {self._folder}"

    def _loss(self, model, part):
        if self._two_streams:
            return sum(loss.sum() for loss in model(**part))
        # It writes the embedding of masked regions into its input.
        _, loss = model(**part | dict(boxes=part["boxes"].clone()))
        return loss

    def _parts(self, text, found, size, host, *, whole=False):
        rng, (t, r), b = self._rng, size, len(text)
        text, found = np.minimum(text, t), found.copy()
        if whole and not self._two_streams:  # it pads to the longest row
            text[0], found[0] = t, r
        mask, real = np.arange(t) < text[:, None], np.arange(r) < found[:, None]
        words = self._words(rng.integers(1000, VOCAB, (b, t)), mask)
        labels = np.where(words["labels"] < 0, -1, words["labels"])
        features = rng.standard_normal((b, r, FEATURES), np.float32) * real[..., None]
        hidden = real & (rng.random((b, r)) < 0.15)
        hidden[:, 1] = True
        target = np.zeros((b, r, CLASSES), np.float32)
        classes = host["captions"]["region_class_ids"][:b, 0, :r]
        np.put_along_axis(target, classes, host["captions"]["region_class_probs"][:b, 0, :r], -1)
        target /= np.maximum(target.sum(-1, keepdims=True), 1e-6)
        corner = rng.uniform(0, 300, (b, r, 2)).astype(np.float32)
        boxes = np.concatenate([corner, corner + 50], -1)
        if self._two_streams:
            arrays = dict(
                input_ids=words["ids"],
                image_feat=features,
                image_loc=rng.random((b, r, 5), np.float32),
                token_type_ids=np.zeros_like(words["ids"]),
                attention_mask=words["mask"],
                image_attention_mask=real.astype(np.int64),
                masked_lm_labels=labels,
                image_label=np.where(hidden, 1, -1)[:, 1:],
                image_target=target[:, 1:],
                next_sentence_label=rng.integers(0, 2, b),
            )
            padded = b * (t + r)
        else:
            boxes = np.where(real[..., None], boxes, -2)
            arrays = dict(
                image=np.zeros(1, np.float32),
                boxes=np.concatenate([boxes, features], -1).astype(np.float32),
                im_info=np.full((b, 4), 600, np.float32),
                text=words["ids"],
                relationship_label=np.zeros(b, np.int64),
                mlm_labels=labels,
                mvrc_ops=hidden.astype(np.int64),
                mvrc_labels=target * hidden[..., None],
            )
            padded = b * (int((text + found).max()) + 1)
        return self._moved([arrays], int(text.sum() + found.sum()), padded, f"{t}x{r}")


def _vlbert(block) -> nn.Module:
    """ResNetVLBERTForPretraining on features computed before, of our sizes."""
    module = importlib.import_module("pretrain.modules.resnet_vlbert_for_pretraining")
    module.BertTokenizer = types.SimpleNamespace(from_pretrained=lambda name: None)  # reads files
    sizes = _Fields(
        bert_sizes(block),
        visual_size=block.hidden,
        num_hidden_layers=block.layers,
        hidden_act="gelu",
        type_vocab_size=3,
        initializer_range=0.02,
        visual_scale_text_init=0.0,
        visual_scale_object_init=0.0,
        visual_ln=True,
        visual_region_classes=CLASSES,
        with_pooler=False,
        from_scratch=True,
        word_embedding_frozen=False,
        pos_embedding_frozen=False,
        obj_pos_id_relative=True,
        position_padding_idx=-1,
    )
    network = _Fields(
        VLBERT=sizes,
        IMAGE_FEAT_PRECOMPUTED=True,
        IMAGE_SEMANTIC=False,
        IMAGE_FINAL_DIM=block.hidden,
        IMAGE_FROZEN_BN=True,
        BERT_MODEL_NAME="",
        BERT_PRETRAINED="",
        WITH_REL_LOSS=False,
        WITH_MLM_LOSS=True,
        WITH_MVRC_LOSS=True,
        MLM_LOSS_NORM_IN_BATCH_FIRST=False,
        MVRC_LOSS_NORM_IN_BATCH_FIRST=False,
    )
    return module.ResNetVLBERTForPretraining(_Fields(NETWORK=network))


def _vilbert(block) -> nn.Module:
    """BertForMultiModalPreTraining with the detector's classes as targets, of our sizes."""
    module = importlib.import_module("vilbert.vilbert")
    image, connect = block.image, block.connect
    config = module.BertConfig.from_dict(
        dict(
            bert_sizes(block),
            num_hidden_layers=block.layers,
            v_feature_size=FEATURES,
            v_target_size=CLASSES,
            v_hidden_size=image.hidden,
            v_num_hidden_layers=image.layers,
            v_num_attention_heads=image.heads,
            v_intermediate_size=image.intermediate,
            v_hidden_dropout_prob=block.dropout,
            v_attention_probs_dropout_prob=block.dropout,
            bi_hidden_size=connect.hidden,
            bi_num_attention_heads=connect.heads,
            v_biattention_id=list(connect.image_at),
            t_biattention_id=list(connect.text_at),
            visual_target=0,
        )
    )
    return module.BertForMultiModalPreTraining(config)
