"""The same work in PyTorch, out of the parts of `transformers`: for train_step.py --peer.

  vlbert   BertModel over word embeddings and linearly projected regions side by side, as in
           VisualBERT: as many layers, heads and positions as VL-BERT has
  vilbert  LxmertModel: as many text layers and cross layers as ViLBERT has, no image layers before
           them. It has one width for both streams and no feed-forward layer after a connection, so
           that its operations differ: compare operations a second, too

What is alike: sizes, padding, dropout of 0.1, a masked-language head tied to the word table, a head
on regions with the detector's distribution as target, AdamW with the config's options and clipping;
for ViLBERT the alignment loss. What differs: the masked-language head reads all text positions, as
in these libraries, and that on regions all of them (ours read the masked ones, gathered); inputs
come masked (ours are masked within the step); no box embedding, mean of visible regions, or [END].

Attention is PyTorch's fused one throughout: LXMERT, which has none, gets it here.
"""

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional as F
from transformers.models.lxmert import modeling_lxmert

from benchmarks.ours import CLASSES, FEATURES, VOCAB
from benchmarks.torch_side import TorchSide, bert_sizes


class FusedAttention(modeling_lxmert.LxmertAttention):
    """LXMERT's attention through PyTorch's fused kernel."""

    def forward(self, hidden_states, context, attention_mask=None, output_attentions=False):
        """[B, L, D] and [B, S, D] → ([B, L, D],)."""

        def split(x):
            return x.unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(
            split(self.query(hidden_states)),
            split(self.key(context)),
            split(self.value(context)),
            attn_mask=attention_mask,
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        return (mixed.transpose(1, 2).flatten(2),)


class WordHead(nn.Module):
    """BERT's masked-language head: [..., D] → [..., V]."""

    def __init__(self, hidden: int, table):
        super().__init__()
        self.dense, self.norm = nn.Linear(hidden, hidden), nn.LayerNorm(hidden, 1e-12)
        self.decoder = nn.Linear(hidden, VOCAB)
        self.decoder.weight = table

    def forward(self, x):
        """Logits of all positions."""
        return self.decoder(self.norm(F.gelu(self.dense(x))))


class Model(nn.Module):
    """A trunk of `transformers` with pre-training heads; returns the loss."""

    def __init__(self, name: str, block):
        """name: "vlbert" or "vilbert"; block: the config's model block."""
        super().__init__()
        self.two_streams = name == "vilbert"
        shared = bert_sizes(block)
        if self.two_streams:
            crossing = len(block.connect.text_at)
            self.trunk = transformers.LxmertModel(
                transformers.LxmertConfig(
                    l_layers=block.layers - crossing,
                    x_layers=crossing,
                    r_layers=0,
                    visual_feat_dim=FEATURES,
                    **shared,
                )
            )
            for module in self.trunk.modules():
                if type(module) is modeling_lxmert.LxmertAttention:
                    module.__class__ = FusedAttention
            self.aligned = nn.Linear(block.hidden, 2)
        else:
            self.trunk = transformers.BertModel(
                transformers.BertConfig(
                    num_hidden_layers=block.layers, attn_implementation="sdpa", **shared
                ),
                add_pooling_layer=False,
            )
            self.project = nn.Linear(FEATURES, block.hidden)
        table = self.trunk.embeddings.word_embeddings.weight
        self.words = WordHead(block.hidden, table)
        self.classes = nn.Sequential(
            nn.Linear(block.hidden, block.hidden), nn.GELU(), nn.Linear(block.hidden, CLASSES)
        )

    def forward(self, batch):
        """batch: see `Peer._tensors`; without `regions` its rows are plain text."""
        if "regions" not in batch:
            text = self.trunk(batch["ids"], attention_mask=batch["mask"])[0]
            return self._word_loss(text, batch)
        if self.two_streams:
            out = self.trunk(
                batch["ids"],
                visual_feats=batch["regions"],
                visual_pos=batch["places"],
                attention_mask=batch["mask"].float(),
                visual_attention_mask=batch["region_mask"].float(),
            )
            text, regions = out.language_output, out.vision_output
            loss = F.cross_entropy(self.aligned(out.pooled_output).float(), batch["aligned"])
        else:
            words = self.trunk.embeddings.word_embeddings(batch["ids"])
            both = torch.cat([words, self.project(batch["regions"]).to(words.dtype)], 1)
            kinds = torch.zeros(both.shape[:2], dtype=torch.long, device=both.device)
            kinds[:, words.shape[1] :] = 1
            mask = torch.cat([batch["mask"], batch["region_mask"]], 1)
            states = self.trunk(inputs_embeds=both, attention_mask=mask, token_type_ids=kinds)[0]
            text, regions = states[:, : words.shape[1]], states[:, words.shape[1] :]
            loss = 0.0
        scores = self.classes(regions).float().log_softmax(-1)
        known = (batch["probs"] * scores.gather(-1, batch["classes"])).sum(-1)
        weight = batch["region_weight"]
        return loss + self._word_loss(text, batch) - (known * weight).sum() / weight.sum()

    def _word_loss(self, text, batch):
        logits = self.words(text).float()
        return F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())


class Peer(TorchSide):
    """A trunk of `transformers` with pre-training heads, timed in turns."""

    def _build(self, config, name: str) -> tuple[nn.Module, str]:
        """The model, and what it is, in words."""
        model = Model(name, config.model)
        trunk = type(model.trunk).__name__
        return model, f"transformers {transformers.__version__} {trunk}"

    def _parts(self, text, found, size, host, *, whole=False):
        """Tensors of each stream, with what is real and padded of them."""
        del whole  # rows are padded to any size
        rng, (t, r), b = self._rng, size, len(text)
        text = np.minimum(text, t)
        ids = rng.integers(1000, VOCAB, (b, t))
        mask = np.arange(t) < text[:, None]
        real = np.arange(r) < found[:, None]
        shown = rng.standard_normal((b, r, FEATURES), np.float32) * real[..., None]
        arrays = dict(
            self._words(ids, mask),
            regions=shown,
            places=rng.random((b, r, 4), np.float32),
            region_mask=real.astype(np.int64),
            region_weight=(real & (rng.random((b, r)) < 0.15)).astype(np.float32),
            classes=host["captions"]["region_class_ids"][:b, 0, :r].astype(np.int64),
            probs=host["captions"]["region_class_probs"][:b, 0, :r],
            aligned=rng.integers(0, 2, b),
        )
        arrays["region_weight"][:, 1] = 1  # never none
        parts = [arrays]
        counted = [int(mask.sum() + real.sum()), b * (t + r)]
        if "text" in host:
            plain = host["text"]["text_mask"][:, 0]
            parts.append(self._words(host["text"]["text_ids"][:, 0], plain))
            counted = [counted[0] + int(plain.sum()), counted[1] + plain.size]
        return self._moved(parts, *counted, f"{t}x{r}")
