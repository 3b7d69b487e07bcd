"""Import now what other libraries import when it is first needed.

In a call on an event loop that would hold everybody up, for up to a tenth of a second. And the interpreter's own locks of imports are not
made anew in a forked child: one that is forked while another thread imports would wait for that for ever.
"""

from importlib import import_module
from typing import Final

__all__ = ()

_LATE: Final = (
    "anyio._backends._asyncio",  # by whatever of anyio first asks which loop is running
    "concurrent.futures.thread",  # by a loop that first needs its default executor
)

for _name in _LATE:
    import_module(_name)
