"""Programs that show what acache is for. Read them in this order.

1. ``quickstart.py``: memoize a function, async or not, in memory and on disk.
2. ``sync_callers.py``: the same cache from plain threads.
3. ``testing_with_acache.py``: tests of code that caches, with a clock that stands still and a tier that breaks.
4. ``isolation.py``: a compiler that is upgraded, another target, and what made a call miss.
5. ``deterministic_workers.py``: processes that measure for themselves and use the same results, now and in the next run.
6. ``torch_autotune.py``: settings of PyTorch as a part of the key; needs torch.
7. ``compiler.py``, ``cached_compiler.py`` (the part that caches) and ``compile_service.py``: an HTTP service that
   compiles each unit once. ``compile_demo.py``, with ``service_process.py`` and ``demo_report.py``, puts it under load
   and checks every promise.

Run each from the repository's root, as its first lines say.
"""
