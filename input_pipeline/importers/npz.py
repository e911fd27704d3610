"""Region features in .npz files -> region store.

  python -m input_pipeline.importers.npz --out STORE a.npz b.npz --detector NAME

Keys of a file with N images, n boxes in all, F features and C classes:

  paths     [N] text         image ids; texts refer to images by these
  hw        [N, 2] integer   height and width of the image in pixels
  offset    [N + 1] integer  boxes of image i are offset[i] : offset[i + 1]
  boxes     [n, 4] float     xyxy in pixels of the image
  feat      [n + N, F] float one row more an image than boxes: image i's rows are
                             offset[i] + i : offset[i + 1] + i + 1, the first is the whole image
  cls_prob  [n, C] float     class distribution of each box, column 0 = background; optional, but
                             in all files or in none. Rows in half precision may sum to 1 +- 1e-2
                             and are normalised after the check.

Other keys (objects_id, objects_conf: the best class and its score) follow from these and are not
read. `--global_feature stored` keeps the whole-image row of the file, `mean` (VL-BERT's choice)
replaces it by the mean of the regions. Pickled arrays are refused.
"""

import argparse
import sys
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from input_pipeline.progress import Progress
from input_pipeline.region_writer import RegionWriter
from input_pipeline.schema import DataError
from input_pipeline.spec import DTYPES, GLOBAL_FEATURES, FeatureSpec

REQUIRED = ("paths", "hw", "offset", "boxes", "feat")


def load(path: str) -> dict[str, np.ndarray]:
    """Reads and checks the arrays of one file.

    Raises:
      DataError: naming file and key: unreadable, missing, of the wrong shape or kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            found = sorted(file.files)
            arrays = {key: file[key] for key in (*REQUIRED, "cls_prob") if key in found}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            "not a readable .npz file",
            where=path,
            expected="an .npz archive without pickled objects",
            found=f"{type(error).__name__}: {error}",
            fix="check the path, or copy the file again",
        ) from error
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise DataError(
            "an .npz file lacks keys",
            where=f"{path}, key {missing[0]!r}",
            expected=list(REQUIRED),
            found=found,
            fix="rename the arrays as `python -m input_pipeline.importers.npz --help` describes",
        )
    images, boxes = len(arrays["paths"]), len(arrays["boxes"])
    kinds = {"paths": "U", "hw": "iu", "offset": "iu"}
    shapes = {
        "paths": (images,),
        "hw": (images, 2),
        "offset": (images + 1,),
        "boxes": (boxes, 4),
        "feat": (boxes + images, None),
        "cls_prob": (boxes, None),
    }
    for key, array in arrays.items():
        shape = shapes[key]
        fits = array.ndim == len(shape) and all(
            want in (None, have) for want, have in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype.kind not in kinds.get(key, "f"):
            kind = {"U": "text", "iu": "integers"}.get(kinds.get(key), "floats")
            raise DataError(
                f"the array {key!r} has the wrong shape or type",
                where=f"{path}, key {key!r}",
                expected=f"{kind} {shape} for {images} images and {boxes} boxes (None = any)",
                found=f"{array.dtype} {array.shape}",
            )
    offset = arrays["offset"]
    if offset[0] != 0 or offset[-1] != boxes or (np.diff(offset) < 0).any():
        raise DataError(
            "the array 'offset' does not divide the boxes",
            where=f"{path}, key 'offset'",
            expected=f"from 0 to {boxes}, never falling",
            found=f"from {offset[0]} to {offset[-1]}, smallest step {np.diff(offset).min()}",
        )
    return arrays


def convert(
    files: Sequence[str],
    out: str,
    *,
    detector: str = "unknown",
    global_feature: str = "mean",
    dtype: str = "bfloat16",
    top_k: int = 16,
    max_regions: int = 100,
    background_class: int | None = 0,
) -> FeatureSpec:
    """Writes one store from .npz files, whole or not at all.

    Args:
      files: .npz files, see the module.
      out: folder to write.
      detector: name for the feature spec.
      global_feature: row 0 is the "mean" of the regions, or as "stored" in the file.
      dtype: of the features on disk.
      top_k: class probabilities kept a region.
      max_regions: most boxes an image may have.
      background_class: column of cls_prob, None where there is none.

    Returns:
      The feature spec of the store.

    Raises:
      DataError: naming file, image or key, what was expected and found.
    """
    if not files:
        raise DataError("no files to import", expected="one or more .npz files", found="none")
    spec, images = None, 0
    for path in files:  # shapes of all files are compared before anything is written
        arrays = load(path)
        classes = arrays["cls_prob"].shape[1] if "cls_prob" in arrays else 0
        here = FeatureSpec(
            detector=detector,
            feature_dim=arrays["feat"].shape[1],
            num_classes=classes,
            background_class=background_class if classes else None,
            global_feature=global_feature,
            dtype=dtype,
            top_k=top_k,
            max_regions=max_regions,
        )
        if spec is not None:
            spec.require_match(here, files[0], path)
        spec = spec or here
        images += len(arrays["paths"])
    progress = Progress("import", images, unit="images")
    with RegionWriter(out, spec) as writer:
        for path in files:
            arrays = load(path)
            for i, image_id in enumerate(arrays["paths"].tolist()):
                first, last = arrays["offset"][i : i + 2].tolist()
                feat = arrays["feat"][first + i : last + i + 1]
                height, width = arrays["hw"][i].tolist()
                writer.add(
                    image_id,
                    boxes=arrays["boxes"][first:last],
                    features=feat[1:],
                    height=height,
                    width=width,
                    class_probs=arrays["cls_prob"][first:last] if spec.num_classes else None,
                    global_feature=feat[0] if global_feature == "stored" else None,
                    source=path,
                )
                progress.add()
    return spec


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", help=".npz files")
    parser.add_argument("--out", required=True, help="folder of the new region store")
    parser.add_argument("--detector", default="unknown", help="name kept in the feature spec")
    parser.add_argument("--global_feature", default="mean", choices=GLOBAL_FEATURES)
    parser.add_argument("--dtype", default="bfloat16", choices=list(DTYPES))
    parser.add_argument("--top_k", type=int, default=16, help="class probabilities kept a region")
    parser.add_argument("--max_regions", type=int, default=100, help="most boxes an image may have")
    parser.add_argument(
        "--background_class", type=int, default=0, help="column of cls_prob, -1: there is none"
    )
    args = vars(parser.parse_args(argv))
    if args["background_class"] < 0:
        args["background_class"] = None
    files, out = args.pop("files"), args.pop("out")
    try:
        spec = convert(files, out, **args)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {out}: {spec}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
