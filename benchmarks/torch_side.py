"""A PyTorch model that takes turns with ours, whatever it is: for train_step.py --peer.

AdamW is fused, with the config's options and clipping; bfloat16 is autocast. On a GPU the model is
compiled, if it can be.
"""

import abc
import os
import time

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ours import VOCAB


def bert_sizes(block) -> dict:
    """What every BERT in PyTorch calls the sizes of a model block."""
    return dict(
        vocab_size=VOCAB,
        hidden_size=block.hidden,
        num_attention_heads=block.heads,
        intermediate_size=block.intermediate,
        max_position_embeddings=block.positions,
        hidden_dropout_prob=block.dropout,
        attention_probs_dropout_prob=block.dropout,
    )


class TorchSide(abc.ABC):
    """A model with its optimizer and batches, timed in turns.

    Attributes:
      compiles: whether PyTorch compiles the model on a GPU.
      adds_end: whether the model itself adds [END] to a packed row.
      what: in words.
      parameters: of the model.
      loss: of the last step.
    """

    compiles, adds_end = True, False

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
        self._model, self.what = self._build(config, name)
        self._model.to(self._device).train()
        self._compiled = self._gpu and self.compiles
        self._run = torch.compile(self._model) if self._compiled else self._model
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
        self.what += f", torch {torch.__version__}, {torch.get_num_threads()} threads"
        self.what += ", compiled" if self._compiled else ""
        captions = config.streams.captions
        widest = captions.max_regions
        room = captions.max_text
        if name == "vlbert":  # positions of a packed row, [END]'s too
            room = min(captions.max_length, room + captions.max_regions) - widest
            room += not self.adds_end
        batch = captions.batch_size
        count = min(batches, len(lengths[0]) // batch)
        self._kinds = {"full": [], "buckets": []}
        for i in range(count):
            text, found = (x[i * batch : (i + 1) * batch] for x in lengths)
            tight = int(text.max()), int(found.max())
            if self._compiled:  # few shapes to compile for
                tight = min(-(-tight[0] // 8) * 8, room), tight[1]
            if not i:
                self._kinds["full"].append(
                    self._parts(text, found, (room, widest), host, whole=True)
                )
            self._kinds["buckets"].append(self._parts(text, found, tight, host))
        self._seconds = {kind: [] for kind in self._kinds}
        self._flops: dict[str, float] = {}

    @abc.abstractmethod
    def _build(self, config, name: str) -> tuple[nn.Module, str]:
        """The model, and what it is, in words."""

    @abc.abstractmethod
    def _parts(self, text, found, size, host, *, whole: bool = False) -> dict:
        """Tensors of each stream, with what is real and padded of them: see `_moved`.

        Args:
          text, found: int [B], word pieces and regions of each row.
          size: (T, R) that they are padded to.
          host: {stream: arrays} of ours at the full size.
          whole: whether they are padded so whatever the longest row.
        """

    def _loss(self, model, part):
        """The loss of one stream's tensors."""
        return model(part)

    def _moved(self, parts: list[dict], real: int, padded: int, shape: str) -> dict:
        """Arrays as tensors on the device."""
        tensors = [
            {key: torch.as_tensor(x).to(self._device) for key, x in part.items()} for part in parts
        ]
        return dict(tensors=tensors, real=real, padded=padded, shape=shape)

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
            loss = sum(self._loss(model, part) for part in parts["tensors"])
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
        self._compile_seconds = time.perf_counter() - asked if self._compiled else None
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
