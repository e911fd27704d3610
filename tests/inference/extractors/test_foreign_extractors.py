"""Adapters to libraries of others, with random weights; skipped where a library is not installed.

pip install torch torchvision transformers timm
"""

import importlib
import json
import sys

import numpy as np
import pytest

from core.errors import DataError
from input_pipeline.regions import extract, extractors

PICTURE = np.random.RandomState(0).randint(0, 256, (48, 80, 3)).astype(np.uint8)


def library(name):
    # A wheel for CUDA beside a PyTorch for CPUs fails in ways of its own.
    return pytest.importorskip(name, reason=f"needs {name}", exc_type=(ImportError, RuntimeError))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """The hub cannot be reached, and nothing has been downloaded before."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def checked(name, **options):
    """What an extractor of a short name finds, held to what it declares."""
    extractors.load.cache_clear()
    made = extractors.load(name, json.dumps(options))
    found = extract.regions_of(made, PICTURE, "a test")
    boxes = np.asarray(found.boxes)
    assert len(boxes) >= 1
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= [80.001, 48.001]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    if found.class_probs is not None:
        np.testing.assert_allclose(found.class_probs.sum(1), 1, atol=1e-4)
    again = extract.regions_of(made, PICTURE, "a test")
    np.testing.assert_array_equal(found.features, again.features)
    assert np.isfinite(found.features).all()
    assert found.features.std() > 0
    return made, found


def test_torchvision_detector(tmp_path, monkeypatch):
    torch, torchvision = library("torch"), library("torchvision")
    from torchvision.models import detection

    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    torch.manual_seed(0)
    made = detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    torch.save(made.state_dict(), tmp_path / "weights.pth")
    extractor, found = checked(
        "torchvision_detector", model=name, checkpoint=str(tmp_path / "weights.pth"), boxes=5
    )
    assert (extractor.feature_dim, extractor.num_classes) == (1024, 91)
    assert extractor.class_names[:2] == ("__background__", "person")
    assert 1 <= len(found.boxes) <= 5
    scores = found.class_probs[:, 1:].max(1)
    assert (np.diff(scores) <= 0).all()
    assert torchvision.__version__ in extractor.name
    with pytest.raises(DataError, match="weights cannot be loaded"):
        checked("torchvision_detector", model="no_such_model")

    def unreachable(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(DataError, match=r"(?s)no network.*checkpoint"):
        checked("torchvision_detector", model=name)


def saved(model, processor, folder):
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def test_yolos_has_distributions(tmp_path):
    library("torchvision")
    transformers = library("transformers")
    config = transformers.YolosConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[32, 64],
        patch_size=16,
        num_detection_tokens=6,
        id2label={i: f"class {i}" for i in range(4)},
    )
    processor = transformers.YolosImageProcessor(size={"shortest_edge": 32, "longest_edge": 64})
    folder = saved(transformers.YolosForObjectDetection(config), processor, tmp_path / "yolos")
    extractor, found = checked("transformers_detector", model=folder, boxes=4)
    assert (extractor.feature_dim, extractor.num_classes) == (16, 5)
    assert extractor.background_class == 4
    assert extractor.class_names[-1] == "__background__"
    assert len(found.boxes) <= 4
    assert (np.diff(found.class_probs[:, :-1].max(1)) <= 0).all()


def test_detectors_without_distributions(tmp_path):
    library("torchvision")
    transformers = library("transformers")
    backbone = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 8, 8],
        depths=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
    )
    config = transformers.ConditionalDetrConfig(
        backbone_config=backbone,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=7,
        id2label={i: f"class {i}" for i in range(4)},
    )
    model = transformers.ConditionalDetrForObjectDetection(config)
    processor = transformers.ConditionalDetrImageProcessor(
        size={"shortest_edge": 64, "longest_edge": 128}
    )
    folder = saved(model, processor, tmp_path / "detr")
    extractor, found = checked("transformers_detector", model=folder, boxes=3)
    assert (extractor.feature_dim, extractor.num_classes) == (16, 0)
    assert found.class_probs is None
    assert len(found.boxes) == 3


def small_vision(**options):
    return dict(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=16,
        **options,
    )


def test_patches_of_clip_siglip_and_dinov2(tmp_path):
    library("torchvision")
    transformers = library("transformers")
    text = dict(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        vocab_size=20, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    clip = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=small_vision(), projection_dim=8)
    )
    siglip = transformers.SiglipModel(
        transformers.SiglipConfig(text_config=text, vision_config=small_vision())
    )
    dino = transformers.Dinov2Model(transformers.Dinov2Config(**small_vision(), mlp_ratio=1))
    for name, model, processor in (
        ("clip", clip, transformers.CLIPImageProcessor(crop_size=32, size={"shortest_edge": 32})),
        ("siglip", siglip, transformers.SiglipImageProcessor(size={"height": 32, "width": 32})),
        ("dino", dino, transformers.BitImageProcessor(crop_size=32, size={"shortest_edge": 40})),
    ):
        folder = saved(model, processor, tmp_path / name)
        extractor, found = checked("patch_encoder", model=folder)
        assert (extractor.feature_dim, len(found.boxes)) == (16, 4), name
        assert found.boxes[0].tolist() == [0, 0, 40, 24]
        assert found.global_feature.shape == (16,)
        # A change of the right edge's pixels reaches the patches: nothing is cropped.
        other = PICTURE.copy()
        other[:, -4:] = 255 - other[:, -4:]
        changed = extract.regions_of(extractor, other, "a test")
        assert not np.allclose(changed.features, found.features), name
        _, larger = checked("patch_encoder", model=folder, size=64)
        assert len(larger.boxes) == 16, name


def test_timm_grid(tmp_path):
    torch, timm = library("torch"), library("timm")
    model = timm.create_model("test_resnet", pretrained=False)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    path = str(tmp_path / "weights.pth")
    extractor, found = checked("timm_grid", model="test_resnet", checkpoint=path, size=64)
    assert len(found.boxes) == 4
    assert extractor.feature_dim == model.num_features
    assert timm.__version__ in extractor.name
    vit = timm.create_model("test_vit", pretrained=False)
    torch.save(vit.state_dict(), path)
    with pytest.raises(DataError, match="no feature map"):
        checked("timm_grid", model="test_vit", checkpoint=path)


@pytest.mark.parametrize("name", ["transformers_detector", "patch_encoder", "timm_grid"])
def test_offline_they_say_what_to_download(name, offline):
    library("torch")
    for package in ("torchvision", "transformers") if name != "timm_grid" else ("timm",):
        library(package)
    with pytest.raises(DataError, match="hf download"):
        checked(name)


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "inference.extractors.timm_grid", raising=False)
    extractors.load.cache_clear()
    with pytest.raises(DataError, match=r"(?s)package.*not installed.*pip install"):
        extractors.load("timm_grid", "")
