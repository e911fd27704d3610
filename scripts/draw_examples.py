"""Draws what a run on `scenes` learned: held-out pictures, and a masked word filled in.

  python scripts/draw_examples.py --workdir=runs/vlbert_pretrain --out=docs/visual_gain.png

Each picture is shown with its detected regions; below it the caption with one word masked, and the
model's guesses with this picture's regions and with another picture's.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from checkpoints import checkpoint, run_config
from core import arguments
from core.progress import atomic_file
from evaluation.evaluators import visual_gain
from input_pipeline.datasets.scenes import graph, render
from input_pipeline.streams import pipeline
from objectives import assemble, masking
from objectives.model import MultiTaskModel

GUESSES = 3


def guesses(logits, tokenizer) -> str:
    """The likeliest pieces with their probabilities: [V] → "red 62%, blue 11%"."""
    probs = np.exp(logits - logits.max())
    probs /= probs.sum()
    best = np.argsort(-probs)[:GUESSES]
    return ", ".join(f"{tokenizer.decode([int(i)])} {probs[i]:.0%}" for i in best)


def sentence(ids, chosen, special, tokenizer) -> str:
    """The caption with the chosen word as [MASK]."""
    words = ["[MASK]" if c else tokenizer.decode([int(i)]) for i, c in zip(ids, chosen, strict=True)
             if i not in (special.pad, special.cls, special.sep)]  # fmt: skip
    return " ".join(words).replace(" ##", "")


def various(order: list[int], kinds, images, count: int) -> list[int]:
    """Up to `count` examples, one a picture, of as many kinds of words as there are."""
    picked: list[int] = []
    for repeats in range(count):
        for row in order:
            same = sum(kinds[row] == kinds[other] for other in picked)
            if same <= repeats and images[row] not in images[picked] and len(picked) < count:
                picked.append(row)
    return picked


def main():
    """Reads the flags, loads the run and draws."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--workdir", required=True, help="folder of a run on scenes")
    parser.add_argument("--out", required=True, help="PNG to write")
    parser.add_argument("--count", type=arguments.whole(1), default=4, help="pictures to show")
    parser.add_argument("--seed", type=int, default=0, help="which examples")
    args = parser.parse_args()

    own = run_config.read(args.workdir)
    if own is None:
        parser.error(f"{args.workdir} is no folder of a run: it has no {run_config.CONFIG}")
    config = own.config
    if config.data.dataset != "scenes":
        parser.error(f"{args.workdir} was trained on {config.data.dataset!r}, not on scenes")
    catalog = pipeline.DataCatalog(config)
    data = catalog.of("captions")
    task = MultiTaskModel(config, data.special, data.spec)
    params, meta = checkpoint.load_params(args.workdir)
    stream = pipeline.build_evaluation(
        config,
        "captions",
        {"captions": assemble.caption},
        batch_size=64,
        other_image=True,
        catalog=catalog,
        image_margin=task.trunk.image_margin,
    )
    rng = np.random.default_rng(args.seed)
    batch = stream.batch(int(rng.integers(stream.steps_per_epoch)))
    keys = masking.row_keys(jax.random.key(args.seed), batch["example_index"])
    fill = jax.jit(
        lambda p, b, k: visual_gain.fill(task, p, "captions", b, k, data.special, probe=True)
    )
    chosen, targets, weights, logits = jax.device_get(fill(params, batch, keys))

    folder = pathlib.Path(data.prepared.vocab).parent  # of the data set, on this machine
    from input_pipeline.datasets.scenes import build  # brings TensorFlow

    scenes = {s.image_id: s for s in build.read_scenes(folder, config.data.eval_split)}
    usable = np.flatnonzero(chosen.any(-1) & (weights.sum(-1) == 1) & (batch["_weight"] > 0))
    # The longer captions first: they say more.
    order = usable[np.argsort(-batch["text_mask"][usable, 0].sum(-1), kind="stable")]
    kinds = (batch["probe_kind"][:, 0] * chosen).max(-1)
    picked = various(order.tolist(), kinds, batch["image_key"][:, 0], args.count)

    figure, axes = plt.subplots(1, len(picked), figsize=(3.6 * len(picked), 4.9))
    for axis, row in zip(np.atleast_1d(axes), picked, strict=True):
        image_id = str(data.store.keys[batch["image_key"][row, 0]])
        rng = graph.generator(config.data.scenes.seed, image_id, "picture")
        axis.imshow(render.render(scenes[image_id], rng))
        for box in batch["boxes"][row, 0][1:][batch["region_mask"][row, 0][1:]]:
            x1, y1, x2, y2 = box
            axis.add_patch(
                plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color="#1f4fd8", lw=1.2)
            )
        axis.set_axis_off()
        text = sentence(batch["text_ids"][row, 0], chosen[row], data.special, data.tokenizer)
        lines = [
            *_wrap(text, 34),
            "",
            f"true word: {data.tokenizer.decode([int(targets[row, 0])])}",
            f"this picture: {guesses(logits[row, 0, 0], data.tokenizer)}",
            f"another picture: {guesses(logits[row, 1, 0], data.tokenizer)}",
        ]
        axis.text(0, 1.0 * axis.get_ylim()[0] + 4, "\n".join(lines), va="top", fontsize=9)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.99, bottom=0.3, wspace=0.12)
    with atomic_file(args.out) as out:
        figure.savefig(out, dpi=110, format="png")
    print(
        f"wrote {args.out}: {len(picked)} held-out pictures, step {meta['step']} of {args.workdir}"
    )


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


if __name__ == "__main__":
    main()
