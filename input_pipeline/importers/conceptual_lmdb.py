"""LMDBs of tensorpack: Conceptual Captions of ViLBERT and VOLTA, GQA and WIT of IGLUE.

  python -m input_pipeline.importers conceptual_lmdb training_feat_all.lmdb --out STORE
  python -m input_pipeline.importers conceptual_lmdb training_feat_part_*.lmdb --out STORE
  python -m input_pipeline.importers.conceptual_lmdb training_feat_*.lmdb --captions train.jsonl

A database is one file, or a folder with data.mdb. Keys are numbers of records ("00000000"); the key
`__keys__` lists them. A value is a msgpack list, with arrays as msgpack-numpy writes them, of

  features   [n, F]
  cls_prob   [n, C]   class distribution of each box, column 0 = background
  boxes      [n, 4]   xyxy in pixels of the image
  num_boxes, image_h, image_w   numbers, or their digits as text
  image_id            text: the CRC-32 of the image's URL, in decimal
  caption             text

VOLTA's lists have thirteen: after cls_prob the best class and attribute of each box with their
scores and the attributes' distributions (not read), then boxes and the others. Where IGLUE's
conversions store dictionaries (img_id, img_h, img_w, boxes, features; arrays, or base64 of
float32), these are read as in the layout `vilbert_lmdb`; they have no captions.

A region store holds no texts: the last command writes them to a JSONL file for `data=jsonl`, one
{"image_id", "text"} a line, in a pass of its own. The file appears when it is whole.
"""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence

from core.console import command, say, warn
from core.errors import DataError
from core.progress import Progress
from input_pipeline.importers.base import Item, entries_of, opened_layout, parts_of
from input_pipeline.importers.formats import fields, foreign, msgpack_arrays
from input_pipeline.importers.formats import record as records
from input_pipeline.importers.formats import sizes as image_sizes
from input_pipeline.importers.formats.lmdb_file import LmdbLayout

_LAST = ("boxes", "num_boxes", "image_h", "image_w", "image_id", "caption")
FIELDS = ("features", "cls_prob", *_LAST)
VOLTA = ("features", "cls_prob", "obj_labels", "obj_confs", "attr_labels", "attr_confs",
         "attr_scores", *_LAST)  # fmt: skip


class Layout(LmdbLayout):
    """See the module, and `base.Layout`."""

    list_key = b"__keys__"

    def __init__(self, files: Sequence[str], num_boxes: str = "padding"):
        records.check_arguments(num_boxes)
        self.num_boxes = num_boxes
        super().__init__(files)

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """See `base.Layout`."""
        records.add_argument(parser)

    def listed(self, where: str, raw: bytes) -> list[bytes]:
        """See `LmdbLayout`."""
        keys = msgpack_arrays.loads(raw, where)
        if not isinstance(keys, list) or not all(isinstance(key, bytes) for key in keys):
            raise DataError(
                "the list of keys is no list of texts",
                where=where,
                expected="a msgpack list of keys",
                found=type(keys).__name__,
            )
        return keys

    def parse(self, where: str, raw: tuple[bytes, bytes]) -> Item:
        """See `base.Layout`."""
        record = _record(where, raw[1])
        image_id = fields.image_id(fields.pick(record, records.IDS, where), where)
        found = records.arrays_of(record, where, num_boxes=self.num_boxes)
        return found.item(image_id, image_sizes.size_of(record, where))


def _record(where: str, value: bytes) -> dict:
    try:
        record = msgpack_arrays.loads(value, where)
    except DataError as error:
        raise foreign.explained(error, value, where, "msgpack lists of tensorpack") from error
    if isinstance(record, dict) and any(name in record for name in records.IDS):
        return record
    for names in (FIELDS, VOLTA):
        if isinstance(record, list) and len(record) == len(names):
            return dict(zip(names, record, strict=True))
    size = f" of {len(record)}" if isinstance(record, list) else ""
    raise DataError(
        "a record has other fields",
        where=where,
        expected=f"a list of {list(FIELDS)}, VOLTA's of {len(VOLTA)}, or a dictionary",
        found=f"a {type(record).__name__}{size}",
        fix="the 12-in-1 and ViLBERT task databases are of the layout vilbert_lmdb",
    )


def captions(files: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(image id, caption) of each record, in order.

    Raises:
      DataError: naming file and key: what cannot be read, a caption that is empty or not UTF-8.
    """
    layout = opened_layout(Layout, files)
    parts = parts_of(layout, files, sys.maxsize)  # one per file
    for notice in layout.notices:
        warn(notice)
    for part in parts:
        for where, raw in entries_of(layout, part):
            if isinstance(raw, DataError):
                raise raw
            record = _record(where, raw[1])
            text = fields.pick(record, ("caption",), where)
            try:
                text = text.decode() if isinstance(text, bytes) else ""
            except UnicodeDecodeError as error:
                raise DataError(
                    "a caption is not UTF-8", where=where, expected="UTF-8", found=repr(text[:80])
                ) from error
            if not text.strip():
                raise DataError(
                    "a record has no caption",
                    where=where,
                    expected="a text that is not empty",
                    found=repr(record["caption"])[:80],
                )
            yield fields.image_id(fields.pick(record, records.IDS, where), where), text


def write_captions(files: Sequence[str], out: str | os.PathLike) -> int:
    """Writes the captions to a new JSONL file, whole or not at all; returns how many.

    Raises:
      DataError: `out` exists, or what `captions` raises.
    """
    out = os.fspath(out)
    if os.path.exists(out):
        raise DataError(
            "the output file exists already",
            where=out,
            expected="a path that is not there yet",
            found="a file",
            fix="remove it or choose another path",
        )
    temporary, progress = f"{out}.partial", Progress("captions", unit="captions")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            for image_id, text in captions(files):
                file.write(json.dumps({"image_id": image_id, "text": text}) + "\n")
                progress.add()
        os.rename(temporary, out)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    return progress.done


@command
def main(argv: Sequence[str]) -> None:
    """Command line of `--captions`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", help="databases")
    parser.add_argument("--captions", required=True, help="JSONL file to write")
    args = parser.parse_args(argv)
    count = write_captions(args.files, args.captions)
    say(f"wrote {args.captions}: {count:,} captions")


if __name__ == "__main__":
    sys.exit(main())
