"""Lays out a few real records of seven data sets as official files, to run all of them at once.

  python scripts/real_records.py DATA --out=FOLDER
  python main.py --config=configs/multitask.py:... $(cat FOLDER/flags.txt) --workdir=runs/real

DATA is a folder of small pieces of public data sets: index.jsonl, regions/*.npz, vqa2_subset,
vqa_vocab, coco_mini, nlvr2, snli_ve, fixtures, refcoco_unc_sample, vcr, bert_uncased_vocab. FOLDER
becomes

  files/<data set>/   official names and keys; records are divided into training and validation
                      by image where their own split does not do it
  real/               the real region features that there are, as a store
  stores/             stores of one spec for all images: real where there are any, else made up
                      (scripts/made_up_regions.py)
  flags.txt           what main.py has to be told

One still of VCR has no metadata in DATA; its boxes are made up, too. There are records to go from
end to end with, and none to claim an accuracy.
"""

import argparse
import collections
import gzip
import json
import pathlib
import shutil
import sys
import zlib
from collections.abc import Callable, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from core import arguments
from core.console import command, say
from core.errors import DataError
from core.progress import atomic_folder
from input_pipeline.importers.__main__ import main as import_regions
from scripts import made_up_regions

QUESTIONS = 400  # of VQA, beside those on images with real regions
PARTS = ("train", "validation")
# {data set: its splits of training and validation}
SPLITS = {
    "vqa": ("train2014", "val2014"),
    "gqa": ("train_balanced", "val_balanced"),
    "nlvr2": ("train", "dev"),
    "snli_ve": ("train", "dev"),
    "refcoco": ("train", "val"),
    "vcr": ("train", "val"),
    "coco_captions": ("train2017", "val2017"),
}
STORES = dict(vqa="coco", refcoco="coco", coco_captions="coco", gqa="gqa", nlvr2="nlvr2",
              snli_ve="flickr30k", vcr="vcr")  # fmt: skip
OPTIONS = {"refcoco": ",variant=refcoco,candidates=listed"}


def _json(path: pathlib.Path):
    return json.loads(path.read_text())


def _lines(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def _write_lines(path: pathlib.Path, rows: Sequence[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _parts(rows: Sequence[dict], image: Callable[[dict], str], share: float) -> list[list[dict]]:
    """Rows of training and of validation, no image in both, at least one image in each."""
    images = sorted(set(map(image, rows)), key=lambda one: zlib.crc32(str(one).encode()))
    first = set(images[: min(max(1, round(share * len(images))), len(images) - 1)])
    return [[r for r in rows if (image(r) in first) == is_first] for is_first in (True, False)]


def vqa(data: pathlib.Path, out: pathlib.Path) -> None:
    """All questions on images with real regions, and some more of the published ones."""
    index = _lines(data / "index.jsonl")
    real = {int(row["key"].split(":")[1]) for row in index if "regions" in row and "vqa2" in row}
    rows = []
    for part in ("train", "valid"):
        questions, labels = (
            json.loads(gzip.decompress((data / f"vqa2_subset/vqa_{kind}_{part}.gzip").read_bytes()))
            for kind in ("questions", "annotatons")
        )
        by_id = {label["question_id"]: label for label in labels["annotations"]}
        rows += [(q, by_id[q["question_id"]]) for q in questions["questions"]]
    mine = [row for row in rows if row[0]["image_id"] in real]
    others = [row for row in rows if row[0]["image_id"] not in real][:QUESTIONS]
    parts = _parts([dict(q=q, a=a) for q, a in [*mine, *others]], lambda r: r["q"]["image_id"], 0.8)
    for split, part in zip(SPLITS["vqa"], parts, strict=True):
        for name, key, which in (
            (f"v2_OpenEnded_mscoco_{split}_questions.json", "questions", "q"),
            (f"v2_mscoco_{split}_annotations.json", "annotations", "a"),
        ):
            (out / name).write_text(json.dumps({key: [row[which] for row in part]}))


def gqa(data: pathlib.Path, out: pathlib.Path) -> None:
    """The two questions there are, of two images."""
    for split, number in zip(SPLITS["gqa"], (1, 0), strict=True):
        path = data / f"fixtures/gqa/question_dir/questions{number}.json"
        shutil.copyfile(path, out / f"{split}_questions.json")


def nlvr2(data: pathlib.Path, out: pathlib.Path) -> None:
    """Sentences of the published dev split."""
    rows = _lines(data / "nlvr2/dev_first400.json")
    parts = _parts(rows, lambda row: row["identifier"].rsplit("-", 1)[0], 0.75)
    for split, part in zip(SPLITS["nlvr2"], parts, strict=True):
        _write_lines(out / f"{split}.json", part)


def snli_ve(data: pathlib.Path, out: pathlib.Path) -> None:
    """Pairs of two samples."""
    rows = _lines(data / "snli_ve/sample_data.jsonl")
    rows += _lines(data / "fixtures/visual_entailment/sample_pairs.jsonl")

    def image(row: dict) -> str:
        return row.get("Flikr30kID") or row["Flickr30K_ID"]

    parts = _parts(sorted(rows, key=image), image, 0.6)
    for split, part in zip(SPLITS["snli_ve"], parts, strict=True):
        _write_lines(out / f"snli_ve_{split}.jsonl", part)


def refcoco(data: pathlib.Path, out: pathlib.Path) -> None:
    """Sentences of testA joined with their detected boxes."""
    path = "refcoco_unc_sample/data/datasets/testA_refcoco_unc_dets.json"
    rows = _json(data / path)
    parts = _parts(rows, lambda row: row["pred_boxes_img_id"][0].rsplit("_", 1)[0], 0.6)
    (out / "refcoco").mkdir()
    for split, part in zip(SPLITS["refcoco"], parts, strict=True):
        (out / "refcoco" / f"{split}.json").write_text(json.dumps(part))


def vcr(data: pathlib.Path, out: pathlib.Path) -> None:
    """One question of train and one of val; the first one's still has made-up boxes."""
    given = {"val": _json(data / "vcr/metadata_val0.json")}
    for split in SPLITS["vcr"]:
        rows = _lines(data / f"vcr/{split}.jsonl")
        _write_lines(out / f"{split}.jsonl", rows)
        for row in rows:
            path = out / "vcr1images" / row["metadata_fn"]
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata = given.get(split)
            if metadata is None or metadata["names"] != row["objects"]:
                count = len(row["objects"])
                metadata = dict(
                    names=row["objects"],
                    boxes=[[40 * i, 20, 40 * i + 60, 220, 1.0] for i in range(count)],
                    segms=[[] for _ in range(count)],
                    width=40 * count + 60,
                    height=240,
                    made_up=True,
                )
            path.write_text(json.dumps(metadata))


def coco_captions(data: pathlib.Path, out: pathlib.Path) -> None:
    """Official captions of 159 images, all with real regions."""
    for split in SPLITS["coco_captions"]:
        name = f"captions_{split}.json"
        shutil.copyfile(data / "coco_mini/annotations" / name, out / name)


LAYOUTS = (vqa, gqa, nlvr2, snli_ve, refcoco, vcr, coco_captions)
# {stream of configs/multitask.py: data set}
STREAMS = dict(vqa="vqa", gqa="gqa", coco="coco_captions", refcoco="refcoco", nlvr2="nlvr2",
               snli_ve="snli_ve", answers="vcr", rationales="vcr")  # fmt: skip

LISTS = dict(vqa="trainval_label2ans.json", gqa="gqa_label2ans.json")
BATCH = dict(gqa=1, answers=1, rationales=1)  # of which there is one record a split
REGIONS = 24  # of an image, the whole image included
RANKED = 16  # images


def flags(folder: pathlib.Path, data: pathlib.Path) -> list[str]:
    """What main.py is told of the folder, for a run with all of STREAMS."""
    shared = dict(manual_dir=folder / "files", dir=folder / "prepared", leaks="drop",
                  on_missing="error", vocab=data / "bert_uncased_vocab/vocab.txt")  # fmt: skip
    out = []
    for stream, dataset in STREAMS.items():
        train, validation = SPLITS[dataset]
        own = shared | dict(
            regions=folder / "stores" / STORES[dataset],
            train_split=train,
            eval_split=validation,
            test_split="",  # DATA has no test splits
        )
        if dataset == "refcoco":
            own |= dict(variant="refcoco", candidates="listed", expression="tokens")
        if dataset in ("vqa", "gqa"):
            own["answers"] = data / "vqa_vocab" / LISTS[dataset]
        out += [f"--config.streams.{stream}.data.{name}={value}" for name, value in own.items()]
    # So few records and regions need no more: every padded position costs time.
    out += [f"--config.streams.{name}.batch_size={BATCH.get(name, 8)}" for name in STREAMS]
    out += [f"--config.streams.{name}.max_regions={REGIONS}" for name in STREAMS]
    return [*out, f"--config.evals.coco_ranking.first={RANKED}"]


@command
def main(argv: Sequence[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=pathlib.Path, metavar="DATA")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="new folder")
    parser.add_argument("--regions", type=arguments.whole(1), default=12, help="made up, an image")
    args = parser.parse_args(argv)
    data = args.data.resolve()
    if not (data / "index.jsonl").is_file():
        raise DataError("no folder of real records", where=str(data), expected="index.jsonl in it")
    with atomic_folder(args.out) as temporary:
        for layout in LAYOUTS:
            folder = temporary / "files" / layout.__name__
            folder.mkdir(parents=True)
            layout(data, folder)
        _regions(data, temporary, args.regions)
        told = flags(args.out.resolve(), data)
        (temporary / "flags.txt").write_text("\n".join(told) + "\n")
    say(f"wrote {args.out}; {len(told)} flags for main.py in {args.out}/flags.txt")


def _regions(data: pathlib.Path, folder: pathlib.Path, count: int) -> None:
    """The stores of a laid-out folder.

    Raises:
      DataError: the real regions cannot be read.
    """
    files = sorted(map(str, (data / "regions").glob("*.npz")))
    detector = "COCO-SSD with EfficientNet-Lite0"
    status = import_regions(
        ["npz", *files, f"--out={folder / 'real'}", "--ids=number", f"--detector={detector}"]
    )
    named = collections.defaultdict(list)
    for dataset, splits in SPLITS.items():
        named[STORES[dataset]].append(f"{dataset}{OPTIONS.get(dataset, '')}:{'+'.join(splits)}")
    status = status or made_up_regions.main(
        [
            *(f"{store}={text}" for store, texts in named.items() for text in texts),
            f"--manual_dir={folder / 'files'}",
            f"--out={folder / 'stores'}",
            f"--real=coco={folder / 'real'}",
            f"--regions={count}",
        ]
    )
    if status:
        raise DataError("regions were not written", where=str(folder), fix="see above")


if __name__ == "__main__":
    sys.exit(main())
