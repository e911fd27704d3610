"""Examples of attention without a model, and small models with their stores."""

import io

import numpy as np
from PIL import Image

from inference.look import attention, content
from inference.look.attention import Map

HOSTILE = (
    '</script><script>document.title="taken"</script>',
    '<img src=x onerror="document.title=1">',
    "\"quoted\" & 'single' \\u003c <!-- <b>",
    "שלום עולם \u202e\u2028\u0085",
    "\ud800 lone, \0 null, {{ 7 }} @@CONTENT@@",
)


def probs(rs, *shape):
    """Softmax of normal numbers."""
    x = np.exp(2 * rs.standard_normal(shape)).astype(np.float32)
    return x / x.sum(-1, keepdims=True)


def one_stream(words=4, regions=3, layers=2, heads=2, seed=0):
    rs, size = np.random.RandomState(seed), words + regions + 1
    every = (0, size)
    maps = [
        Map(i, "self", f"layer {i + 1}", every, every, probs(rs, heads, size, size))
        for i in range(layers)
    ]
    states = rs.standard_normal((layers + 1, size, 16))
    return attention.Example(
        words=words,
        regions=regions,
        levels=[one.label for one in maps],
        maps=maps,
        rollout=attention.rollout(maps, size),
        stages=[(panel,) for panel in attention.panels(states, every)],
    )


def two_streams(words=4, regions=3, heads=2, seed=0):
    """Two levels: text alone, then a connection and a layer of each stream."""
    rs, size = np.random.RandomState(seed), words + regions
    text, image = (0, words), (words, size)
    maps = [
        Map(0, "text", "text layer 1", text, text, probs(rs, heads, words, words)),
        Map(1, "text_to_image", "connection 1, words look at regions", text, image,
            probs(rs, heads + 1, words, regions)),
        Map(1, "image_to_text", "connection 1, regions look at words", image, text,
            probs(rs, heads + 1, regions, words)),
        Map(1, "text", "text layer 2", text, text, probs(rs, heads, words, words)),
        Map(1, "image", "image layer 1", image, image, probs(rs, heads, regions, regions)),
    ]  # fmt: skip
    places = [
        attention.panels(rs.standard_normal((3, stop - start, 8)), (start, stop))
        for start, stop in (text, image)
    ]
    return attention.Example(
        words=words,
        regions=regions,
        levels=["text layer 1", "text layer 2, image layer 1"],
        maps=maps,
        rollout=attention.rollout(maps, size),
        stages=list(zip(*places, strict=True)),
    )


def regions_of(count, size=(120, 160), labels=None, seed=0):
    rs = np.random.RandomState(seed)
    corner = rs.uniform(0, 0.6, (count, 2))
    boxes = np.concatenate([corner, corner + rs.uniform(0.15, 0.4, (count, 2))], 1)
    boxes *= [size[1], size[0], size[1], size[0]]
    return content.Regions(
        size, boxes, labels or [f"thing {i}" for i in range(count)], [0.5] * count
    )


def page_of(example, *, title="a page", pieces=None, labels=None, notes=(), picture=None):
    pieces = pieces or ["[CLS]", *(f"word{i}" for i in range(example.words - 2)), "[SEP]"]
    regions = regions_of(example.regions - 1, labels=labels)
    return content.page(title, [title], notes, regions, picture, pieces, example)


def noise_picture(size=(480, 640)):
    """A JPEG with as much detail as a photograph."""
    rs = np.random.RandomState(0)
    small = rs.uniform(0, 255, (size[0] // 8, size[1] // 8, 3)).astype(np.uint8)
    image = Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()
