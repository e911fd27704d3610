"""What a picture store is built from: folders, zip archives, data sets of TFDS; and its check."""

import concurrent.futures
import itertools
import os
import zipfile
from collections.abc import Iterable, Iterator

from core import ids, progress, remote
from core.console import say, warn
from core.errors import DataError
from core.reading import reading
from input_pipeline.pictures import writer
from input_pipeline.pictures.store import PictureStore

SHOWN = 20  # bad pictures printed in full
_AHEAD = 64  # pictures that are decoded at the same time, or wait for it
IDS, ON_BAD = ("path", "number"), ("error", "skip")

# (id, where, bytes of the file) of a picture.
Picture = tuple[str, str, bytes]


def from_paths(paths: Iterable[str]) -> Iterator[Picture]:
    """The pictures of folders and zip archives, in order.

    Raises:
      DataError: no such path, or no archive.
    """
    for path in paths:
        remote.refuse(path, "the pictures", "copy them, or mount the bucket (gcsfuse)")
        if os.path.isdir(path):
            yield from _of_folder(path)
        elif zipfile.is_zipfile(path):
            yield from _of_archive(path)
        else:
            raise DataError(
                "there are no pictures",
                where=path,
                expected="a folder of pictures or a zip archive",
                found="a file of another kind" if os.path.exists(path) else "no such path",
            )


def _is_picture(name: str) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
    return name.lower().endswith(ids.PICTURES) and not hidden


def _of_folder(root: str) -> Iterator[Picture]:
    found = sorted(
        os.path.relpath(os.path.join(folder, name), root)
        for folder, _, names in os.walk(root, followlinks=True)
        for name in names
    )
    for name in filter(_is_picture, found):
        path = os.path.join(root, name)
        with reading(path, "a picture cannot be read"), open(path, "rb") as file:
            data = file.read()
        yield ids.without_suffix(name), path, data


def _of_archive(path: str) -> Iterator[Picture]:
    with reading(path, "an archive cannot be read"), zipfile.ZipFile(path) as archive:
        for name in filter(_is_picture, sorted(archive.namelist())):
            yield ids.without_suffix(name), f"{path}, {name}", archive.read(name)


def from_tfds(
    name: str, image: str = "image", image_id: str = "", data_dir: str | None = None
) -> Iterator[Picture]:
    """The pictures of a data set of TFDS, as files.

    Args:
      name: "NAME/CONFIG:SPLIT".
      image: feature that holds the picture.
      image_id: feature that names it, such as "image/id"; empty: its number in the split.
      data_dir: where it was built.

    Raises:
      DataError: no such data set, split or feature.
    """
    from input_pipeline.tensorflow_modules import tfds

    builder_name, _, split = name.partition(":")
    with reading(
        f"--tfds={name}",
        "a data set of TFDS cannot be opened",
        expected="NAME/CONFIG:SPLIT of a data set that is built (tfds build NAME)",
        fix="--tfds_dir=FOLDER says where",
    ):
        builder = tfds.builder(builder_name, data_dir=data_dir)
        known = sorted(builder.info.splits)
        wanted = {part for part in (image, image_id) if part}
        if split not in known or not wanted <= set(builder.info.features):
            raise DataError(
                "a data set of TFDS has no such pictures",
                where=f"--tfds={name}",
                expected=f"a split of {known}, features of {sorted(builder.info.features)}",
                found=f"split {split!r}, features {sorted(wanted)}",
            )
        raw = tfds.decode.PartialDecoding(
            dict.fromkeys(wanted, True), decoders={image: tfds.decode.SkipDecoding()}
        )
        data = builder.as_dataset(split=split, shuffle_files=False, decoders=raw)
        for number, example in enumerate(data.as_numpy_iterator()):
            key = example[image_id] if image_id else number
            key = key.decode() if isinstance(key, bytes) else str(key)
            yield ids.without_suffix(key), f"{name}, picture {number}", example[image]


def build(found: Iterable[Picture], out: str, *, named: str = "path", on_bad: str = "error") -> int:
    """Writes a store, and tells what it holds; returns the number of bad pictures.

    Args:
      found: the pictures.
      out: new folder.
      named: of IDS; "number": an id's last number.
      on_bad: of ON_BAD.

    Raises:
      DataError: bad pictures, all of which are listed first, unless they are left out.
    """
    bad: list[DataError] = []
    shown = progress.Progress("pictures", unit="pictures")

    def checked(picture: Picture) -> tuple[Picture, tuple[int, int] | DataError]:
        try:
            return picture, writer.size_of(picture[2], picture[1])
        except DataError as error:
            return picture, error

    with (
        progress.alone(out),
        writer.PictureWriter(out) as store,
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        pictures = iter(found)
        while batch := list(itertools.islice(pictures, _AHEAD)):
            for (image_id, where, data), size in pool.map(checked, batch):
                if isinstance(size, DataError):
                    bad.append(size)
                else:
                    name = ids.number_of(image_id) if named == "number" else image_id
                    store.add(name or image_id, data, size, where)
                shown.add()
        for error in bad[:SHOWN]:
            warn(f"{'error' if on_bad == 'error' else 'left out'}: {error}")
        if bad and on_bad == "error":
            raise DataError(
                "pictures cannot be read",
                where=out,
                expected="whole pictures of at most 8 bits a channel",
                found=f"{len(bad):,} of {int(shown.done):,} that are not, listed above"
                + (f" ({SHOWN} of them)" if len(bad) > SHOWN else ""),
                fix="copy or convert them, or --on_bad=skip leaves them out",
            )
    describe(PictureStore.open(out), out)
    return len(bad)


def describe(store: PictureStore, where: str) -> None:
    """Tells what a store holds."""
    say(f"store      {where}  fingerprint {store.fingerprint}")
    say(f"pictures   {len(store):,}, {store.nbytes / 2**20:,.1f} MiB")
    say(
        f"pixels     {store.heights.min()}x{store.widths.min()} to "
        f"{store.heights.max()}x{store.widths.max()} (height x width)"
    )


def verify(where: str) -> int:
    """Reads and decodes every picture of a store; tells, and returns the number of bad ones."""
    store = PictureStore.open(where)
    bad = [store.misleading(number) for number in store.misled()]
    shown = progress.Progress("verify", len(store), unit="pictures")
    for row in range(len(store)):
        try:
            height, width = store.pixels(row).shape[:2]
            if (height, width) != (store.heights[row], store.widths[row]):
                raise DataError(
                    "a picture has another size than the index says",
                    where=store.where(row),
                    expected=f"{store.heights[row]} x {store.widths[row]}",
                    found=f"{height} x {width}",
                )
        except DataError as error:
            bad.append(error)
        shown.add()
    for error in bad[:SHOWN]:
        warn(f"error: {error}")
    describe(store, where)
    say(f"damaged    {len(bad):,}")
    return len(bad)
