"""How large and how deep an object may be that becomes part of a key.

The limits keep one careless argument (a cycle, a list of lists of lists that doubles at each level, a whole data set) from
holding the event loop or the memory of the process: encoding stops with an error instead.
"""

from __future__ import annotations

from typing import Final

__all__ = ("INLINE_SIZE", "ITEM_SIZE", "MAX_DEPTH", "MAX_SIZE")

#: Containers inside one another. A cycle is deeper than any limit.
MAX_DEPTH: Final = 200

#: Bytes one key may be made of, counted before large payloads are hashed.
MAX_SIZE: Final = 2**30

#: Bytes that each item of a container counts at least: a key has room for some four million items, which take a second.
#: More than that belongs in an array, or behind a ``__cache_key__()``.
ITEM_SIZE: Final = 256

#: A text, a number or a buffer longer than this many bytes stands in the encoding as its length and SHA-256.
INLINE_SIZE: Final = 4096
