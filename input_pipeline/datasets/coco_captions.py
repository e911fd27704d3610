"""COCO captions: five of each image, in COCO's own splits and in Karpathy's.

Files, from https://cocodataset.org/#download and
https://cs.stanford.edu/people/karpathy/deepimagesent/, in data.manual_dir:

  annotations/captions_{train,val}{2014,2017}.json   from annotations_trainval{2014,2017}.zip
  dataset_coco.json                                  from caption_datasets.zip

Splits: train2014 (82,783 images), val2014 (40,504), train2017, val2017; karpathy_train (82,783),
karpathy_restval (30,504), karpathy_val and karpathy_test (5,000 each). Who trains "on Karpathy's
split" mostly means karpathy_train+karpathy_restval, all of COCO 2014 but val and test.
karpathy_test is also read from `coco_test.json`, the list of {"image", "caption": [...]} that some
repositories hold, where dataset_coco.json is not there.

`tfds build` downloads the archives where the manual folder has none of the files. Image ids are
COCO's numbers, without leading zeros. Of the texts, white space alone is cleaned: some captions
end in a space or a line end.
"""

import functools
import pathlib
from collections.abc import Iterator

from input_pipeline.datasets.reading import entries, karpathy, official
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.reading.entries import check, need
from input_pipeline.datasets.records import Caption

_KARPATHY = tuple(f"karpathy_{split}" for split in karpathy.SPLITS)
SPLITS = ("train2014", "val2014", "train2017", "val2017", *_KARPATHY)
_HOST = "http://images.cocodataset.org/annotations/"
_ARCHIVES = {
    f"{_HOST}annotations_trainval2014.zip": (
        252872794,
        "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
    ),
    f"{_HOST}annotations_trainval2017.zip": (
        252907541,
        "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
    ),
}


def files(folder: str, split: str) -> list[str]:
    """The official file of a split.

    Raises:
      DataError: it is missing.
    """
    if split in _KARPATHY:
        names = ["dataset_coco.json"] + ["coco_test.json"] * (split == "karpathy_test")
        return [official_files.locate(folder, *names, fix=f"get {next(iter(karpathy.ARCHIVE))}")]
    name = f"captions_{split}.json"
    fix = f"get {_HOST}annotations_trainval{split[-4:]}.zip"
    return [official_files.locate(folder, f"annotations/{name}", name, fix=fix)]


def records(folder: str, split: str) -> Iterator[Caption]:
    """The captions of a split, in file order.

    Raises:
      DataError: naming file and entry: a key missing or of the wrong kind, an empty caption, an
        id twice.
    """
    [path] = files(folder, split)
    if split not in _KARPATHY:
        return _official(path)
    if "coco_test" in pathlib.Path(path).name:
        return _list(path)
    return karpathy.captions(
        path,
        split.removeprefix("karpathy_"),
        lambda image, where: entries.need_number(image, "cocoid", where),
    )


def _official(path: str) -> Iterator[Caption]:
    ids = entries.Unique("caption id")
    for i, item in enumerate(need(official_files.read_json(path), "annotations", list, path)):
        where = f"{path}, annotations[{i}]"
        yield Caption(
            ids.add(entries.need_id(item, "id", where), where),
            entries.need_number(item, "image_id", where),
            entries.need_text(need(item, "caption", str, where), where, "caption"),
        )


def _list(path: str) -> Iterator[Caption]:
    images = entries.Unique("image")
    for i, item in enumerate(check(official_files.read_json(path), list, path)):
        where = f"{path}[{i}]"
        stem = pathlib.PurePosixPath(need(item, "image", str, where)).stem
        image_id = entries.number(stem.rpartition("_")[2], where, "image")
        images.add(image_id, where)
        for k, text in enumerate(need(item, "caption", list, where)):
            text = check(text, str, where, f"caption[{k}]")
            text = entries.need_text(text, f"{where}.caption[{k}]", "caption")
            yield Caption(f"{image_id}#{k}", image_id, text)


def image_name(image_id: str) -> str:
    """The image's name over data sets."""
    return f"coco:{image_id}"


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(__name__, Caption, sources={**_ARCHIVES, **karpathy.ARCHIVE})
