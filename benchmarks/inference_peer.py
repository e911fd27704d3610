"""The same questions in PyTorch, by `transformers`: for inference.py --peer.

  vlbert   VisualBertForQuestionAnswering: one stream over words and projected regions
  vilbert  LxmertForQuestionAnswering: as many text layers and cross layers as ViLBERT has, one
           width for both streams, no layers of the image alone

Tensors lie ready, all positions are real; float32, inference mode, as many threads as cores.
"""

import importlib.util
from collections.abc import Callable

NEEDED = ("torch", "transformers")


def missing() -> list[str]:
    """Packages that are not installed."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def way(
    name: str, block, batch: int, args, vocab: int, answers: int, pieces: int
) -> Callable[[], object]:
    """A function that answers a batch of questions.

    Args:
      name: "vlbert" or "vilbert".
      block: the config's model block.
      batch: questions.
      args: regions and features of the command line.
      vocab: word pieces.
      answers: of the list.
      pieces: of a question, special ones included.
    """
    import torch
    import transformers

    shared = dict(
        vocab_size=vocab,
        hidden_size=block.hidden,
        num_attention_heads=block.heads,
        intermediate_size=block.intermediate,
        max_position_embeddings=block.positions,
    )
    torch.manual_seed(0)
    ids = torch.randint(1000, min(vocab, 20000), (batch, pieces))
    features = torch.randn(batch, args.regions, args.features)
    if name == "vilbert":
        crossing = len(block.connect.text_at)
        model = transformers.LxmertForQuestionAnswering(
            transformers.LxmertConfig(
                l_layers=block.layers - crossing,
                x_layers=crossing,
                r_layers=0,
                visual_feat_dim=args.features,
                num_qa_labels=answers,
                **shared,
            )
        )
        inputs = dict(visual_feats=features, visual_pos=torch.rand(batch, args.regions, 4))
        read = "question_answering_score"
    else:
        model = transformers.VisualBertForQuestionAnswering(
            transformers.VisualBertConfig(
                num_hidden_layers=block.layers,
                visual_embedding_dim=args.features,
                num_labels=answers,
                **shared,
            )
        )
        real = torch.ones(batch, args.regions, dtype=torch.long)
        inputs = dict(
            visual_embeds=features,
            visual_attention_mask=real,
            visual_token_type_ids=real,
            attention_mask=torch.ones(batch, pieces, dtype=torch.long),
        )
        read = "logits"
    model.eval()

    def run() -> object:
        with torch.inference_mode():
            return model(input_ids=ids, **inputs)[read].sigmoid().topk(5, -1)

    return run
