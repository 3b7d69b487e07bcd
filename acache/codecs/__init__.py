"""Values as bytes: what a value is written with, what it is signed with, and the frame around it on disk and on wires.

Everything here is pure but the choice of a signer by the settings: no I/O, no clock, no tier. ``values`` turns a value into bytes, ``signing`` vouches for bytes,
``frame`` puts an entry's facts around them and decides, before anything is decoded, whether they can be believed.
"""

from acache.codecs.configured import configured_signer
from acache.codecs.frame import (
    FORMAT,
    HEADER_SIZE,
    FrameHeader,
    decode_frame,
    encode_frame,
    read_header,
    verify_frame,
    version_digest,
)
from acache.codecs.meta import MAX_META, Meta, unpack_meta
from acache.codecs.signing import Signer
from acache.codecs.values import (
    BytesLike,
    Codec,
    JsonCodec,
    PickleCodec,
    RawCodec,
    get_codec,
    try_pickle_key,
    try_pickle_value,
    try_unpickle_value,
)

__all__ = (
    "FORMAT",
    "HEADER_SIZE",
    "MAX_META",
    "BytesLike",
    "Codec",
    "FrameHeader",
    "JsonCodec",
    "Meta",
    "PickleCodec",
    "RawCodec",
    "Signer",
    "configured_signer",
    "decode_frame",
    "encode_frame",
    "get_codec",
    "read_header",
    "try_pickle_key",
    "try_pickle_value",
    "try_unpickle_value",
    "unpack_meta",
    "verify_frame",
    "version_digest",
)
