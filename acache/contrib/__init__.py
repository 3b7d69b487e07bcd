"""What ties acache to other packages, one module for each; importing this one imports none of them."""

from __future__ import annotations

__all__ = ()
