"""Model blocks of the configs: every model at every size."""

# Transformer sizes. `mini` and `small` are for CPUs and are trained from scratch, so they start
# with a larger init and visual LayerNorm gains above 0: with the paper's 0.02 and 0 a short run
# learns next to no grounding. The text's gain is the smaller one, or the picture would drown the
# words. `base` and `large` are the paper's (VL-BERT, section 4.1).
SIZES = {
    "mini": dict(
        hidden=64,
        layers=3,
        heads=4,
        intermediate=256,
        positions=128,  # rows of the position table
        init_range=0.1,  # standard deviation of kernels and tables
        dropout=0.0,
        text_visual_gain=0.1,  # initial gain of the visual LayerNorms
        region_visual_gain=1.0,
        geometry_dim=256,  # width of the box embedding
    ),
    "small": dict(
        hidden=256,
        layers=4,
        heads=4,
        intermediate=1024,
        positions=128,
        init_range=0.05,
        dropout=0.1,
        text_visual_gain=0.1,
        region_visual_gain=1.0,
        geometry_dim=512,
    ),
    "base": dict(
        hidden=768,
        layers=12,
        heads=12,
        intermediate=3072,
        positions=512,
        init_range=0.02,
        dropout=0.1,
        text_visual_gain=0.0,
        region_visual_gain=0.0,
        geometry_dim=2048,
    ),
    "large": dict(
        hidden=1024,
        layers=24,
        heads=16,
        intermediate=4096,
        positions=512,
        init_range=0.02,
        dropout=0.1,
        text_visual_gain=0.0,
        region_visual_gain=0.0,
        geometry_dim=2048,
    ),
}
CPU_SIZES = ("mini", "small")

# The image stream beside each text size; `connections` layers join the two.
IMAGE = {
    "mini": dict(hidden=48, heads=4, intermediate=48, connections=2),
    "small": dict(hidden=256, heads=4, intermediate=256, connections=2),
    "base": dict(hidden=1024, heads=8, intermediate=1024, connections=6),
    "large": dict(hidden=1024, heads=8, intermediate=1024, connections=6),
}
# How the numbers of a box are spread, see `vl_models.embeddings.Geometry`. Small models need them
# centred and wide: with the published values the place of an object is a few thousandths of the
# variance of its region's state, and is not learned in a short run.
PUBLISHED = dict(
    vlbert=dict(offset=(0.0, 0.0), scale=(100.0, 100.0), base=1000.0),
    vilbert=dict(offset=(0.0, 0.0), scale=(1.0, 1.0)),
)
SPREAD = dict(
    vlbert=dict(offset=(0.5, 0.2), scale=(6.28, 20.0), base=30.0),
    vilbert=dict(offset=(0.5, 0.045), scale=(20.0, 120.0)),
)
# Convolutions of features="pixels". The published ones are a ResNet-101 that was trained as a
# detector on Visual Genome; at CPU sizes a small one learns from scratch.
RESNET_101 = dict(
    blocks=(3, 4, 23, 3),  # of res2 to res5
    width=64,  # channels of the stem; a region's features are 32 times as wide
    stride_in_1x1=True,  # a stage is narrowed by its first 1x1 convolution; torchvision: by the 3x3
    max_pool="torch",  # after the stem: rounded down at the border, or up as "caffe" does
    dilated=True,  # res5 keeps its 14 x 14 cells, with dilated convolutions
    frozen_stages=2,  # lowest ones that do not train: 1 is the stem, 2 res2, ..., 5 everything
    frozen_norm=True,  # scale and bias of the norms do not train either
    remat=False,  # the backward pass computes each block again, to save memory
)
RESNET_MINI = RESNET_101 | dict(
    blocks=(1, 1, 1, 1), width=8, dilated=False, frozen_stages=0, frozen_norm=False
)
# Two streams and their connections in as many parameters as VL-BERT's mini has.
NARROW = dict(hidden=48, intermediate=144)


def block(model: str, size: str, *, connections: int = 0, pooler: bool = False) -> dict:
    """The model block of a config.

    Args:
      model: "vlbert", "vilbert" or "single_stream".
      size: key of SIZES.
      connections: co-attention layers of ViLBERT, 0: the size's own.
      pooler: whether VL-BERT has one (original: none in pre-training and VQA).
    """
    text, cpu = dict(SIZES[size]), size in CPU_SIZES
    geometry = dict((SPREAD if cpu else PUBLISHED)["vlbert" if model == "vlbert" else "vilbert"])
    if model == "vlbert":
        return dict(
            name=model,
            **text,
            pooler=pooler,
            geometry=geometry,
            # Factor of the initial weights that read the features (original: 1).
            region_feature_gain=2.0 if cpu else 1.0,
            # Where the features of regions come from: the region "store", or the "pixels" of
            # pictures, by convolutions that are trained with the rest (docs/pixels.md)
            features="store",
            vision=dict(RESNET_MINI if cpu else RESNET_101),
        )
    for name in ("text_visual_gain", "region_visual_gain", "geometry_dim"):  # VL-BERT's
        del text[name]
    if model == "single_stream":
        return dict(name=model, **text, geometry=geometry)
    text |= NARROW if size == "mini" else {}
    return _two_streams(size, connections, text | dict(geometry=geometry))


def require_vlbert(args) -> None:
    """Raises ValueError where another model than VL-BERT is to see pixels."""
    if args.features == "pixels" and args.model != "vlbert":
        raise ValueError(
            "config argument 'features' must be 'store' but for model=vlbert, which alone makes "
            f"features of pictures; found model={args.model}"
        )


def see(config, size: str, *, flip: str) -> None:
    """Has a VL-BERT config make its features of pictures, as the paper trains it, in place.

    Args:
      config: of any task.
      size: key of SIZES.
      flip: of its streams of images, which may be mirrored now.
    """
    config.model.features = "pixels"
    config.model.vision.remat = size not in CPU_SIZES
    for stream in config.streams.values():
        if stream.images:
            stream.flip = flip


def _two_streams(size: str, connections: int, text: dict) -> dict:
    """The model block of ViLBERT."""
    image = dict(IMAGE[size])
    connections = connections or image["connections"]
    del image["connections"]
    return dict(
        name="vilbert",  # a module of vl_models
        **text,
        image=dict(
            **image,
            layers=connections,
            fixed_layers=0,  # lowest layers that do not train
        ),
        connect=dict(
            hidden=image["hidden"],
            heads=image["heads"],
            # Connection k stands before these layers (released t_/v_biattention_id).
            text_at=tuple(range(text["layers"] - connections, text["layers"])),
            image_at=tuple(range(connections)),
            coattention=True,  # False: the paper's ablation without connections
        ),
        fusion="mul",  # of the pooled streams; or "sum"
        dynamic_attention=False,  # 12-in-1: the text scales the image's queries and keys
        tasks=0,  # rows of the task table (12-in-1's task tokens), 0 = none
        fixed_text_layers=0,  # lowest layers that do not train
    )
