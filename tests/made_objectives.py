"""What objectives are built with in tests that need none of it in particular."""

import dataclasses

import jax

from input_pipeline.schema import SpecialIds
from objectives import base

DATA_INFO = base.DataInfo(
    SpecialIds(0, 1, 2, 3, 4, 40), max_text=10, feature_dim=6, num_classes=0, stored_mean=True
)


class MadeTrunk:
    """Widths of states, for heads that are built on no trunk in particular."""

    packs, image_margin, fixed, grounds_words = False, 0, (), False
    init = init_with_output = apply = None

    def __init__(self, sizes, region_sizes=None, pooled_width=0):
        self.sizes, self.region_sizes = sizes, region_sizes or sizes
        self.pooled_width = pooled_width or sizes.hidden


def data_info(**changes):
    return dataclasses.replace(DATA_INFO, **changes)


def keys(count=2):
    return jax.random.split(jax.random.key(0), count)
