"""Region features, stored once per image: write them, describe them, read them."""

from input_pipeline.regions.region_writer import RegionWriter
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.regions.store import RegionStore

__all__ = ["FeatureSpec", "RegionStore", "RegionWriter"]
