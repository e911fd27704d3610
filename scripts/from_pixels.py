"""From pictures to a pre-trained VL-BERT, all of it here: detector, region features, pre-training.

  python scripts/from_pixels.py --workdir=runs/from_pixels      # or: make from-pixels

On the embedded pictures: trains a small Faster R-CNN from nothing and prints its mean average
precision, extracts region features of all pictures with it, and pre-trains on the new region store.
Each part goes on where the same command stopped.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from ml_collections import ConfigDict

from configs import common, vlbert_pretrain
from core import arguments
from core.console import command, say
from core.progress import atomic_folder
from input_pipeline import datasets
from objectives.detection import STREAM, Sampling
from training import loop
from training.detection import run as detection
from vl_models.vision.canvas import Pixels
from vl_models.vision.faster_rcnn import DetectorSizes, Selection
from vl_models.vision.resnet import ResNetSizes

DATA = "scenes"
# Objects of 16 to 30 pixels in pictures of 112 are of 23 to 43 to the network.
RECIPE = detection.Recipe(
    sizes=DetectorSizes(
        resnet=ResNetSizes(
            blocks=(1, 1, 2, 1),
            stem=16,
            inner=16,
            outer=64,
            frozen_stages=0,
            frozen_norm=False,
        ),
        hidden=64,
        anchor_sizes=(25.0, 40.0),
        anchor_ratios=(1.0,),
        bins=3,
    ),
    sampling=Sampling(
        anchors=48,
        regions=16,
        proposals=Selection(candidates=100, proposals=24, least=1, most=24),
    ),
    selection=Selection(candidates=100, proposals=24, overlaps=(0.3,), least=1, most=8, score=0.3),
    pixels=Pixels(160, 160),
)


def detector_config(steps: int, batch_size: int) -> ConfigDict:
    """The config of the detector's run."""
    made = ConfigDict(common.run_block())
    made.update(
        model=dict(name="faster_rcnn"),
        data=common.data_block(DATA),
        streams={STREAM: dict(batch_size=batch_size)},
        optimizer=common.optimizer_block()
        | dict(lr=2e-3, b2=0.99, warmup_steps=max(1, steps // 20), clip_norm=5.0),
        evals={},
        total_steps=steps,
        log_every=max(1, min(50, steps)),
        eval_every=max(1, steps // 2),
    )
    made.checkpoint.every = max(1, steps // 4)
    return made.lock()


def store_of(workdir: pathlib.Path, prepared, splits) -> pathlib.Path:
    """The region store of the detector in a run's folder, made where it is not there."""
    from input_pipeline.importers import run
    from input_pipeline.importers.settings import ImportSettings

    folder, store = workdir / "pictures", workdir / "store"
    if store.exists():
        return store
    if not folder.exists():
        ids = [one.image_id for split in splits for one in prepared.objects(split)]
        with atomic_folder(folder) as temporary:
            for image_id, data in prepared.pictures(ids).items():
                (temporary / f"{image_id}.png").write_bytes(data)
    weights = workdir / "detector" / detection.FOLDER
    options = f'{{"weights": "{weights}", "batch_size": 16}}'
    settings = ImportSettings(
        options={"extractor": "visual_genome", "extractor_options": options}, top_k=64
    )
    done = run.convert("pictures", [str(folder)], store, settings)
    say(f"{store}: {done.images:,} pictures at {done.rate:.0f}/s: {done.spec}")
    return store


@command
def main(argv) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/from_pixels", help="folder of all of it")
    whole = arguments.whole(1)
    parser.add_argument("--detector_steps", type=whole, default=1500, help="of the detector")
    parser.add_argument("--batch_size", type=whole, default=8, help="pictures of a step")
    parser.add_argument("--steps", type=whole, default=1500, help="of pre-training")
    parser.add_argument("--pictures", type=whole, default=4000, help="to train on")
    parser.add_argument("--evaluated", type=whole, default=400, help="pictures of the validation")
    parser.add_argument("--data_dir", default="data", help="where the pictures are drawn")
    args = parser.parse_args(argv)
    workdir = pathlib.Path(args.workdir)

    config = vlbert_pretrain.get_config(f"size=mini,data={DATA}")
    with config.unlocked():
        config.data.dir = args.data_dir
        config.data.scenes.update(train=args.pictures, validation=args.evaluated, test=0)
        config.total_steps = args.steps
        config.log_every = min(config.log_every, args.steps)
        config.eval_every = config.checkpoint.every = max(1, args.steps // 2)
        config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, args.steps // 4)
    prepared = datasets.prepare(config.data)
    detection.run(
        detector_config(args.detector_steps, args.batch_size),
        workdir / "detector",
        prepared,
        RECIPE,
    )
    store = store_of(workdir, prepared, prepared.splits)
    with config.unlocked():
        config.data.regions = str(store)
    loop.run(config, workdir / "vlbert")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
