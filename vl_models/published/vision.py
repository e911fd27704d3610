"""Names of the Fast R-CNN branch of VL-BERT's end-to-end checkpoints, and of plain ResNets."""

from vl_models.published.rule import Rule


def conv_norm(conv: str, norm: str, ours: str) -> list[Rule]:
    """A `resnet.ConvNorm`, by the published names of its convolution and of its norm."""
    return [
        Rule(f"{conv}.weight", f"{ours}/kernel", "conv"),
        Rule(f"{norm}.weight", f"{ours}/scale"),
        Rule(f"{norm}.bias", f"{ours}/bias"),
        Rule(f"{norm}.running_mean", f"{ours}/mean"),
        Rule(f"{norm}.running_var", f"{ours}/variance"),
    ]


def _bottlenecks(torch: str, ours: str) -> list[Rule]:
    """Blocks of a stage of a ResNet, in torchvision's names; both strings end before a number."""
    torch, ours = f"{torch}.{{i}}", f"{ours}/block_{{i}}"
    return [
        *(
            rule
            for n in (1, 2, 3)
            for rule in conv_norm(f"{torch}.conv{n}", f"{torch}.bn{n}", f"{ours}/conv{n}")
        ),
        *conv_norm(f"{torch}.downsample.0", f"{torch}.downsample.1", f"{ours}/shortcut"),
    ]


def _resnet(torch: str, head: str) -> tuple[Rule, ...]:
    """The Fast R-CNN branch: `torch` is its prefix up to C4, `head` is C5."""
    return (
        *conv_norm(f"{torch}conv1", f"{torch}bn1", "trunk/vision/backbone/stem"),
        *(
            rule
            for n in (1, 2, 3)
            for rule in _bottlenecks(f"{torch}layer{n}", f"trunk/vision/backbone/res{n + 1}")
        ),
        *_bottlenecks(head, "trunk/vision/head/res5"),
    )


_REGION_HEAD = "image_feature_extractor.roi_head_feature_extractor"
VLBERT = _resnet("image_feature_extractor.backbone.", _REGION_HEAD)
# Classifiers of torchvision, and the files of VL-BERT that are made of a detector.
RESNET = _resnet("", "layer4")

# VL-BERT stores the head on regions a second time: (alias, the name it repeats).
ALIAS = "image_feature_extractor.head.0"
HEAD_TIES = tuple(
    (name.replace(_REGION_HEAD, ALIAS), name)
    for i in range(3)
    for rule in _bottlenecks(_REGION_HEAD, "")
    for name in [rule.torch.replace("{i}", str(i))]
)

COUNTER, VARIANCE = "num_batches_tracked", "running_var"  # of a norm
COUNTERS = (rf".*\.{COUNTER}", "a count of batches, no parameter")
IMAGE_CLASSES = (r"fc\.(weight|bias)", "the classes of whole pictures")
