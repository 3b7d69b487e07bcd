"""Files that a cache can trust: private directories, atomic publication, bounded waits, one seam for every system call.

Nothing here knows an entry or a codec. :class:`~acache.files.shelf.Shelf` is the whole; a
:class:`~acache.files.shard.Verdict` on a stored file is all it asks of its user.
"""

from acache.files.blob import Blob
from acache.files.choosing import DISK_POLICIES, DiskPolicy
from acache.files.culling import Culled, Limits
from acache.files.keeping import Keeper, size_of
from acache.files.quarantine import QUARANTINE, QUARANTINE_LIMIT
from acache.files.shard import Judge, Published, Verdict
from acache.files.shelf import Shelf
from acache.files.stamps import FLOOR_DIGITS, LATEST, MAX_STAMPS, StampFiles
from acache.files.stock import DAMAGED, EXPIRED
from acache.files.sweeping import LOCKS
from acache.files.system import FileSystem
from acache.files.temporary import ABANDONED, TEMPORARY
from acache.files.threads import in_thread, in_thread_to_the_end, long_in_thread, long_in_thread_to_the_end
from acache.files.warm import WARM_LIMIT

__all__ = (
    "ABANDONED",
    "DAMAGED",
    "DISK_POLICIES",
    "EXPIRED",
    "FLOOR_DIGITS",
    "LATEST",
    "LOCKS",
    "MAX_STAMPS",
    "QUARANTINE",
    "QUARANTINE_LIMIT",
    "TEMPORARY",
    "WARM_LIMIT",
    "Blob",
    "Culled",
    "DiskPolicy",
    "FileSystem",
    "Judge",
    "Keeper",
    "Limits",
    "Published",
    "Shelf",
    "StampFiles",
    "Verdict",
    "in_thread",
    "in_thread_to_the_end",
    "long_in_thread",
    "long_in_thread_to_the_end",
    "size_of",
)
