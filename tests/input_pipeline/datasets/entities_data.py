"""Files of Flickr30k Entities and of Visual Genome's region descriptions, made by hand."""

import json

# {image: (its sentences, (width, height), [(numbers, box or a flag)])}, boxes counted from 1.
IMAGES = {
    "1007": (
        [
            "[/EN#1/people A man] in [/EN#2/clothing a blue  shirt] climbs "
            "[/EN#3/other a ladder] .",
            "[/EN#4/people/other Two men] near [/EN#5/scene a house] , [/EN#0/notvisual one] above "
            "[/EN#4/people the other] .",
            "It rains .",
        ],
        (100, 80),
        [
            ("1", (11, 11, 40, 60)),
            ("2", (15, 21, 35, 40)),
            ("4", (11, 11, 40, 60)),
            ("4", (51, 6, 90, 70)),
            ("3", "nobndbox"),
            ("5", "scene"),
        ],
    ),
    "42": (
        ["[/EN#7/animals Dogs] with [/EN#9/other  a ball]run at [/EN#7/animals  each other ] ."],
        (60, 50),
        # One box of two numbers; one that reaches over the edges.
        [("7 8", (1, 1, 20, 30)), ("7", (30, 10, 61, 52)), ("9", (0, 5, 9, 9))],
    ),
}


def xml(size, objects, name="1007"):
    """An annotation file."""

    def inside(what):
        if isinstance(what, str):
            flags = {"scene": 0, "nobndbox": 0} | {what: 1}
            return "".join(f"<{flag}>{value}</{flag}>" for flag, value in flags.items())
        sides = zip(("xmin", "ymin", "xmax", "ymax"), what, strict=True)
        return "<bndbox>" + "".join(f"<{k}>{v}</{k}>" for k, v in sides) + "</bndbox>"

    body = "".join(
        "\n\t<object>" + "".join(f"<name>{n}</name>" for n in names.split()) + inside(what)
        + "</object>"
        for names, what in objects
    )  # fmt: skip
    width, height = size
    return (
        f"<annotation>\n\t<filename>{name}.jpg</filename>\n\t<size><width>{width}</width>"
        f"<height>{height}</height><depth>3</depth></size>{body}\n</annotation>\n"
    )


def write_entities(folder, images=IMAGES, **splits):
    """The files of images, and lists of splits; returns the folder."""
    for name in ("Sentences", "Annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for image, (sentences, size, objects) in images.items():
        (folder / "Sentences" / f"{image}.txt").write_text("\n".join(sentences) + "\n")
        (folder / "Annotations" / f"{image}.xml").write_text(xml(size, objects, image))
    for split, names in splits.items():
        (folder / f"{split}.txt").write_text("\n".join(names))
    return str(folder)


def region(number, image=4, phrase="the clock is green", box=(2, 3, 10, 20), **changes):
    """A region description; the box is x, y, width, height."""
    sides = dict(zip(("x", "y", "width", "height"), box, strict=True))
    return dict(region_id=number, image_id=image, phrase=phrase, **sides) | changes


def write_regions(folder, images, sizes=None):
    """The two files of images, {image: regions}, all of 80 x 60 pixels; returns the folder."""
    folder.mkdir(exist_ok=True)
    entries = [dict(id=image, regions=regions) for image, regions in images.items()]
    (folder / "region_descriptions.json").write_text(json.dumps(entries))
    data = [dict(image_id=i, width=80, height=60, coco_id=None) for i in images]
    (folder / "image_data.json").write_text(json.dumps(data if sizes is None else sizes))
    return str(folder)
