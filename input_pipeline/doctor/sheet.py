"""A contact sheet: pictures with their best boxes drawn on them."""

import filecmp
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from core import disk, pictures, remote
from core.errors import DataError
from core.messages import printable
from core.spacing import evenly_spaced
from input_pipeline.datasets.reading.pictures import SUFFIXES, PictureFolder
from input_pipeline.doctor.sources import Sample

COLUMNS, ROWS = 4, 3
CELL, PICTURE_HEIGHT, STRIP, GAP = 440, 330, 24, 10  # pixels of a cell and of its parts
BOXES = 8  # drawn on a picture
MOST_OF_ID, MOST_OF_NAME = 100, 60  # characters of an image's id and a class's name
COLOURS = ("#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#42d4f4", "#f032e6", "#bfef45")
DARK_TEXT = {"#ffe119", "#42d4f4", "#bfef45", "#f58231", "#3cb44b"}  # colours too light for white


class Pictures:
    """The pictures of --pictures, by image id.

    Where several that differ answer to an id, none is taken.
    """

    def __init__(self, folder: str):
        remote.refuse(folder, "the folder of --pictures", "copy some with gcloud storage cp")
        root = pathlib.Path(folder)
        if root.is_dir():
            self._folder = PictureFolder(root)
        if not root.is_dir() or not len(self._folder):
            raise DataError(
                "no pictures",
                where=folder,
                expected=f"a folder of {', '.join(SUFFIXES)} files",
                found="none there" if root.is_dir() else "no such folder",
                fix="check --pictures",
            )

    def find(self, image_id: str) -> pathlib.Path | None:
        """Its file, or None."""
        first, *others = self._folder.find(image_id) or [None]
        same = all(filecmp.cmp(first, other, shallow=False) for other in others)
        return first if same else None

    def has(self, image_id: str) -> bool:
        """Whether there is one."""
        return self.find(image_id) is not None

    def size(self, image_id: str) -> tuple[int, int] | None:
        """(height, width) in pixels of the picture held upright, None where there is none."""
        path = self.find(image_id)
        if path is None:
            return None
        with pictures.opened(path) as picture:
            return pictures.size(picture)


def class_names(path: str) -> list[str]:
    """Names, one per line; of several for one class, separated by commas, the first."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "class names cannot be read", where=path, expected="a text file", found=str(error)
        ) from error
    if lines[-1] == "":  # behind the last line's end
        lines.pop()
    return [line.split(",")[0].strip() for line in lines]


def names_by_column(names: Sequence[str], classes: int, background: int | None) -> list[str]:
    """A name for each column of class distributions.

    Args:
      names: of all columns, or of all but the background.
      classes: C.
      background: its column.

    Raises:
      DataError: another number of names.
    """
    if not names:
        return [f"class {column}" for column in range(classes)]
    if len(names) == classes:
        return list(names)
    if len(names) == classes - 1 and background is not None:
        return [*names[:background], "background", *names[background:]]
    raise DataError(
        "class names and classes disagree",
        where="--class_names",
        expected=f"{classes} names"
        + (f", or {classes - 1} without the background's" if background is not None else ""),
        found=f"{len(names)} names",
    )


class Sheet:
    """Collects images that have a picture, and draws some of them."""

    def __init__(self, pictures: Pictures, names: Sequence[str], background: int | None):
        self._pictures, self._names, self._background = pictures, names, background
        self.named = False  # whether the names were of any use
        self._cells: list[tuple[str, int, int, int, np.ndarray, list[str]]] = []

    def add(self, sample: Sample) -> None:
        """Remembers an image's boxes and labels."""
        boxes = sample.boxes[:, :4]
        if sample.probs is None:
            top, labels = np.arange(len(boxes))[:BOXES], [str(i) for i in range(BOXES)]
        else:
            probs = np.nan_to_num(sample.probs)
            self.named = True
            names = names_by_column(self._names, probs.shape[1], self._background)
            if self._background is not None:
                probs[:, self._background] = -1
            score, best = probs.max(1), probs.argmax(1)
            top = np.argsort(-score, kind="stable")[:BOXES]
            labels = [f"{names[best[i]][:MOST_OF_NAME]} {score[i]:.2f}" for i in top]
        self._cells.append(
            (sample.image_id, sample.height, sample.width, len(boxes), boxes[top], labels)
        )

    def draw(self, path: str) -> int:
        """Writes the sheet; returns the number of pictures on it.

        Raises:
          DataError: none of the images looked at has a picture.
        """
        if not self._cells:
            raise DataError(
                "no picture of the images looked at",
                where="--pictures",
                expected="files named by image id (path, name or COCO number)",
                found="no such file",
                fix="check the folder, or look at more images (--images all)",
            )
        chosen = [self._cells[i] for i in evenly_spaced(len(self._cells), COLUMNS * ROWS)]
        columns = min(COLUMNS, len(chosen))
        rows = -(-len(chosen) // columns)
        high = PICTURE_HEIGHT + STRIP
        sheet = Image.new(
            "RGB", (columns * (CELL + GAP) + GAP, rows * (high + GAP) + GAP), "#202124"
        )
        for number, cell in enumerate(chosen):
            row, column = divmod(number, columns)
            sheet.paste(self._cell(*cell), (GAP + column * (CELL + GAP), GAP + row * (high + GAP)))
        with disk.explained(path):
            sheet.save(path)
        return len(chosen)

    def _cell(
        self,
        image_id: str,
        height: int,
        width: int,
        count: int,
        boxes: np.ndarray,
        labels: list[str],
    ) -> Image.Image:
        cell = Image.new("RGB", (CELL, PICTURE_HEIGHT + STRIP), "#303134")
        try:
            with pictures.opened(self._pictures.find(image_id)) as file:
                picture = pictures.upright(file).convert("RGB")
        except DataError:  # one damaged behind its header: its boxes are drawn all the same
            picture = Image.new("RGB", (CELL, PICTURE_HEIGHT), "#000000")
        picture = ImageOps.contain(picture, (CELL, PICTURE_HEIGHT), Image.Resampling.LANCZOS)
        left, top = (CELL - picture.width) // 2, (PICTURE_HEIGHT - picture.height) // 2
        cell.paste(picture, (left, top))
        draw, font = ImageDraw.Draw(cell), ImageFont.load_default(size=13)
        # Boxes are drawn as a model would read them, xyxy in pixels of the stored size: what is
        # wrong with them shows.
        scale = np.asarray([picture.width / max(width, 1), picture.height / max(height, 1)] * 2)
        corners = np.nan_to_num(boxes) * scale + [left, top, left, top]
        corners = np.clip(corners, 0, [CELL - 1, PICTURE_HEIGHT - 1] * 2)
        taken: list[tuple[float, float, float, float]] = []
        for i in reversed(range(len(corners))):  # the best on top
            colour = COLOURS[i % len(COLOURS)]
            low, far = np.minimum(corners[i, :2], corners[i, 2:]), corners[i]
            far = np.maximum(far[:2], far[2:])
            draw.rectangle([*low, *far], outline=colour, width=2)
        for i, (x, y) in enumerate(corners[:, :2]):
            colour = COLOURS[i % len(COLOURS)]
            wide = draw.textlength(labels[i], font=font) + 6
            # Above its box where there is room, so that small objects stay visible.
            x, y = min(x, CELL - wide), y - 17 if y >= 17 else y
            while any(x < t[2] and t[0] < x + wide and y < t[3] and t[1] < y + 17 for t in taken):
                y += 17  # below a label that is there
            if y > PICTURE_HEIGHT - 17:
                continue
            taken.append((x, y, x + wide, y + 17))
            draw.rectangle(taken[-1], fill=colour)
            draw.text(
                (x + 3, y), labels[i], fill="black" if colour in DARK_TEXT else "white", font=font
            )
        size = f"  {width}x{height}, {count} regions"
        name = printable(image_id[-MOST_OF_ID:])
        while draw.textlength(name + size, font=font) > CELL - 12 and len(name) > 4:
            name = "…" + name[2:]
        draw.text((6, PICTURE_HEIGHT + 4), name + size, fill="#e8eaed", font=font)
        return cell
