"""An examination as text."""

from input_pipeline.doctor.examine import Examination
from input_pipeline.importers.arrange import OBJECT_CLASSES


def _background(classes: dict, stated: int | None) -> str:
    found = classes["background"]
    evidence = (
        f"largest mean probability {classes['largest_mean_mass']:.3f} in column "
        f"{classes['largest_column']}; first column {classes['mean_mass_first']:.3f}, in "
        f"{classes['present_first']:.0%} of regions; last {classes['mean_mass_last']:.3f}, in "
        f"{classes['present_last']:.0%}"
    )
    if stated is not None and classes["count"] in OBJECT_CLASSES:
        return f"none of the {classes['count']:,} columns, to judge by their number ({evidence})"
    said = "none" if stated is None else f"column {stated}"
    guess = "cannot be determined" if found is None else f"looks like column {found}"
    return f"stated {said}, {guess} ({evidence})"


def text(result: Examination) -> str:
    """All statistics and findings, one per line, the verdict last."""
    statistics = result.statistics
    f, b, c, r = (statistics[key] for key in ("features", "boxes", "classes", "regions"))
    pixels, spec = statistics["pixels"], statistics["spec"]
    unreadable = statistics["unreadable"]
    seen = "all of them" if statistics["all"] else "evenly spread"
    lines = [
        ("source", f"{statistics['source']}: {statistics['kind']}"),
        ("looked at", f"{statistics['images']:,} images of {statistics['total']}, {seen}"
         + (f"; {unreadable:,} more cannot be read" if unreadable else "")),
    ]  # fmt: skip
    if spec:
        lines.append(("stated", ", ".join(f"{name}={value!r}" for name, value in spec.items())))
    quantiles = f["norm_quantiles"]
    order = f"falling {r['order']}" if r["order"] else "none"
    shares = ", ".join(f"{name} {share:.0%}" for name, share in r["falling"].items())
    lines += [
        ("regions", f"{r['count']:,}; " + (f"always {r['min']}" if r["min"] == r["max"] else
         f"{r['min']} to {r['max']}, mean {r['mean']:.1f}") + " per image"),
        ("order", f"{order} (neighbours that do not rise: {shares})"),
        ("images", f"height {pixels['height'][0]} to {pixels['height'][1]}, width "
         f"{pixels['width'][0]} to {pixels['width'][1]} pixels"),
        ("features", f"{' or '.join(map(str, f['dim']))} x {' or '.join(f['dtype'])}"
         + (f", {f['range'][0]:.4g} to {f['range'][1]:.4g}" if f["range"] else "")
         + f"; {f['zeros']:.1%} zeros, {f['negatives']:.1%} negative"),
        ("norms", f"mean {f['norm_mean']:.3f}; quantiles "
         + ", ".join(f"{float(q):.0%} {value:.2f}" for q, value in quantiles.items())),
        ("repeats", f"{f['equal_regions']:,} regions equal to another of their image, "
         f"{f['equal_images']:,} images to another"),
    ]  # fmt: skip
    whole, images = f["whole_image"], statistics["images"]
    lines.append(("whole image", f"stored in {whole['stored']:,} of {images:,}, the mean of the "
                  f"regions in {whole['equal_to_mean']:,}"))  # fmt: skip
    if b["range"]:
        fits = ", ".join(f"{name} {share:.1%}" for name, share in b["fits"].items())
        lines += [
            ("boxes", f"{b['convention']}" + (", sizes swapped" if b["swapped_size"] else "")
             + f", {' or '.join(map(str, b['columns']))} numbers, {b['range'][0]:.4g} to "
             f"{b['range'][1]:.4g}; {b['without_area']:,} without area"),
            ("  evidence", f"in order as xyxy {b['ordered']['xyxy']:.1%}; inside the image as "
             f"{fits}; outermost reach {b['reach'][0]:.0%} of the width, {b['reach'][1]:.0%} of "
             "the height"),
        ]  # fmt: skip
    if c["count"] and "sums" in c:
        sums = f"{c['sums'][0]:.4f} to {c['sums'][1]:.4f}" if c["sums"] else "no numbers"
        lines += [
            ("classes", f"{c['count']:,}; {c['best_somewhere']:,} are best somewhere; sums {sums}; "
             f"{c['mass_kept']:.2%} of the probability kept"),
            ("background", _background(c, statistics["background_class"])),
        ]  # fmt: skip
    else:
        lines.append(("classes", "none: masked regions cannot be trained by class"))
    for hint in statistics["looks_like"]:
        lines.append(("looks like", hint))
    for finding in result.findings:
        lines.append((finding.level, finding.text))
    lines.append(("verdict", result.verdict))
    return "\n".join(f"{name:12}{value}" for name, value in lines)
