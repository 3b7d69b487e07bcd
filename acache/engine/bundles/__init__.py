"""Bundles: one file with many entries, which a run dumps and later runs load, to come to the same results.

From the bottom up: *format* (the layout, and what vouches for what), *layout* (entries to bytes), *place* (where a
bundle may lie), *reading* (an open bundle, in a thread), *merging* (a dump, in a thread), *bundle* and *dump* (for users), *tier* (loaded bundles among a cache's tiers).
"""

from acache.engine.bundles.bundle import Bundle as Bundle
from acache.engine.bundles.dump import dump_bundle as dump_bundle

__all__ = ("Bundle", "dump_bundle")
