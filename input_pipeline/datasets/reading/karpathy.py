"""Karpathy's splits of COCO and Flickr30k: dataset_coco.json, dataset_flickr30k.json."""

from collections.abc import Callable, Iterator

from input_pipeline.datasets.reading import entries
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.entries import need
from input_pipeline.datasets.records import Caption

# Both files are in it: {url: (bytes, sha256)}.
ARCHIVE = {
    "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip": (
        36745453,
        "4cfd70132527b80933105e5829dc9034eaab9573482e2e680abbab6130244817",
    )
}
SPLITS = ("train", "restval", "val", "test")


def captions(path: str, split: str, image_id: Callable[[dict, str], str]) -> Iterator[Caption]:
    """Captions of a split in file order; ids are the file's `sentid`.

    Args:
      path: of the file.
      split: one of SPLITS (restval, the rest of COCO's val2014, is COCO's alone).
      image_id: image_id(image, where) -> id in the region store.

    Raises:
      DataError: naming file and image: a key missing or of the wrong kind, an empty caption, a
        sentence twice.
    """
    ids = entries.Unique("sentence id")
    for i, image in enumerate(need(official_files.read_json(path), "images", list, path)):
        where = f"{path}, images[{i}]"
        found = need(image, "split", str, where)
        if found not in SPLITS:
            raise entries.unknown("split", SPLITS, found, where)
        if found != split:
            continue
        name = image_id(image, where)
        for k, sentence in enumerate(need(image, "sentences", list, where)):
            place = f"{where}.sentences[{k}]"
            yield Caption(
                ids.add(entries.need_id(sentence, "sentid", place), place),
                name,
                entries.need_text(need(sentence, "raw", str, place), place, "caption"),
            )
