"""Keys: from functions, arguments and any other objects to digests that every process agrees on.

Pure: nothing here reads a file, a clock or a setting. From the bottom up: *walk* (one encoding under way), *plain*, *loose*,
*standard*, *references*, *arrays*, *instances*, *reduction* (encoders by type), *registry* (from a class to its encoder), *encoding* (the
functions for users), *identity* and *fingerprint* (which function), *binding*, *template* and *selection* (what of a call
counts), *recipe* (from calls to keys), *tags* (from calls to groups).
"""

from __future__ import annotations

from acache.keys import limits as limits
from acache.keys.encoding import canonical as canonical
from acache.keys.encoding import canonical_result as canonical_result
from acache.keys.encoding import encode_key as encode_key
from acache.keys.fingerprint import differs as differs
from acache.keys.fingerprint import fingerprint as fingerprint
from acache.keys.identity import FunctionIdentity as FunctionIdentity
from acache.keys.identity import identify as identify
from acache.keys.recipe import KeyRecipe as KeyRecipe
from acache.keys.recipe import namespace_prefix as namespace_prefix
from acache.keys.registry import register_key_type as register_key_type
from acache.keys.tags import TagRecipe as TagRecipe
from acache.keys.tags import Tags as Tags
from acache.keys.tags import check_tags as check_tags

__all__ = (
    "FunctionIdentity",
    "KeyRecipe",
    "TagRecipe",
    "Tags",
    "canonical",
    "canonical_result",
    "check_tags",
    "differs",
    "encode_key",
    "fingerprint",
    "identify",
    "limits",
    "namespace_prefix",
    "register_key_type",
)
