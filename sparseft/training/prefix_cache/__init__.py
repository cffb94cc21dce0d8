"""The frozen-prefix activation cache: see `PrefixCache`."""

from sparseft.training.prefix_cache.cache import PrefixCache, replay
from sparseft.training.prefix_cache.run import CacheOfRun, build_for_run

__all__ = ["CacheOfRun", "PrefixCache", "build_for_run", "replay"]
