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

Attention is PyTorch's fused one throughout: LXMERT, which has none, gets it here. AdamW is fused.
On a GPU the model is compiled; bfloat16 is autocast, as `transformers` would run it.
"""

import os
import time

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.lxmert import modeling_lxmert

from benchmarks.ours import CLASSES, FEATURES, VOCAB


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
        shared = dict(
            vocab_size=VOCAB,
            hidden_size=block.hidden,
            num_attention_heads=block.heads,
            intermediate_size=block.intermediate,
            max_position_embeddings=block.positions,
            hidden_dropout_prob=block.dropout,
            attention_probs_dropout_prob=block.dropout,
        )
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


class Peer:
    """A model with its optimizer and batches, timed in turns.

    Attributes:
      what: in words.
      parameters: of the model.
      loss: of the last step.
    """

    def __init__(self, config, name: str, lengths, host, batches: int = 8):
        """Builds the model and its batches out of ours.

        Args:
          config: ours.
          name: "vlbert" or "vilbert".
          lengths: (word pieces, regions) int [N] each, of the examples there are.
          host: {stream: arrays} of ours at the full size.
          batches: how many are padded to their longest.
        """
        torch.manual_seed(0)
        torch.set_num_threads(os.cpu_count())
        self._gpu = torch.cuda.is_available()
        self._device = torch.device("cuda" if self._gpu else "cpu")
        self._half = config.dtype == "bfloat16"
        self._rng = np.random.default_rng(1)
        self._model = Model(name, config.model).to(self._device).train()
        self._run = torch.compile(self._model) if self._gpu else self._model
        self.parameters = sum(p.numel() for p in self._model.parameters())
        block = config.optimizer
        self._clip = block.clip_norm
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(),
            lr=block.lr,
            betas=(block.b1, block.b2),
            eps=block.eps,
            weight_decay=block.weight_decay,
            fused=True,
        )
        trunk = type(self._model.trunk).__name__
        self.what = (
            f"transformers {transformers.__version__} {trunk}, torch {torch.__version__}, "
            f"{torch.get_num_threads()} threads" + (", compiled" if self._gpu else "")
        )
        captions = config.streams.captions
        widest = captions.max_regions
        room = captions.max_text
        if name == "vlbert":  # positions of a packed row, [END]'s too
            room = min(captions.max_length, room + captions.max_regions) + 1 - widest
        batch = captions.batch_size
        count = min(batches, len(lengths[0]) // batch)
        self._kinds = {"full": [], "buckets": []}
        for i in range(count):
            text, found = (x[i * batch : (i + 1) * batch] for x in lengths)
            tight = int(text.max()), int(found.max())
            if self._gpu:  # few shapes to compile for
                tight = min(-(-tight[0] // 8) * 8, room), tight[1]
            if not i:
                self._kinds["full"].append(self._parts(text, found, (room, widest), host))
            self._kinds["buckets"].append(self._parts(text, found, tight, host))
        self._seconds = {kind: [] for kind in self._kinds}
        self._flops: dict[str, float] = {}

    def _parts(self, text, found, size, host):
        """Tensors of each stream, with what is real and padded of them."""
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
        tensors = [
            {key: torch.as_tensor(x).to(self._device) for key, x in part.items()} for part in parts
        ]
        return dict(tensors=tensors, real=counted[0], padded=counted[1], shape=f"{t}x{r}")

    def _words(self, ids, mask) -> dict:
        """Masked ids, mask and labels; -100 where nothing is predicted."""
        chosen = mask & (self._rng.random(mask.shape) < 0.15)
        chosen[:, 1] = True
        labels = np.where(chosen, ids, -100).astype(np.int64)
        return dict(
            ids=np.where(chosen, 103, np.where(mask, ids, 0)).astype(np.int64),
            mask=mask.astype(np.int64),
            labels=labels,
        )

    def _step(self, parts, model) -> float:
        """Seconds of one update."""
        self._wait()
        asked = time.perf_counter()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            loss = sum(model(part) for part in parts["tensors"])
        loss.backward()
        if self._clip:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._wait()
        seconds = time.perf_counter() - asked
        self.loss = loss.item()
        return seconds

    def _wait(self) -> None:
        if self._gpu:
            torch.cuda.synchronize()

    def warm_up(self) -> None:
        """Runs every shape once, and counts the operations of its matrix products."""
        for kind, batches in self._kinds.items():
            flops = []
            for parts in batches:
                # The fused kernels of some devices are unknown to the counter.
                with (
                    torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
                    FlopCounterMode(display=False) as counter,
                ):
                    self._step(parts, self._model)
                flops.append(counter.get_total_flops())
            self._flops[kind] = float(np.mean(flops))
        asked = time.perf_counter()
        for batches in self._kinds.values():
            for parts in batches:
                self._step(parts, self._run)
        self._compile_seconds = time.perf_counter() - asked if self._gpu else None
        if self._gpu:
            torch.cuda.reset_peak_memory_stats()

    def take_turn(self, steps: int) -> None:
        """Times `steps` updates at the full size, and each tight batch once."""
        full, tight = self._kinds["full"][0], self._kinds["buckets"]
        self._seconds["full"] += [self._step(full, self._run) for _ in range(steps)]
        for _ in range(-(-steps // len(tight))):
            times = [self._step(parts, self._run) for parts in tight]
            self._seconds["buckets"].append(float(np.mean(times)))

    def results(self) -> dict[str, dict]:
        """{kind: shape, seconds of each step, compile_seconds; of a step real, padded, flops}.

        Compilation is of all shapes together; None where nothing is compiled.
        """
        return {
            kind: dict(
                shape=" ".join(parts["shape"] for parts in batches),
                seconds=self._seconds[kind],
                compile_seconds=self._compile_seconds,
                real=float(np.mean([parts["real"] for parts in batches])),
                padded=float(np.mean([parts["padded"] for parts in batches])),
                flops=self._flops[kind],
            )
            for kind, batches in self._kinds.items()
        }

    def peak_bytes(self) -> int | None:
        """Peak of PyTorch's memory on a GPU."""
        return torch.cuda.max_memory_allocated() if self._gpu else None
