"""acache against its peers: one module for each thing that must hold. ``python -m benchmarks --help`` says how to run.

A benchmark measures everything it compares in one run, in turns (A B C, B C A, …), with the garbage collector off, and
speaks of medians and of ratios: those hold on another machine too, absolute times do not.
"""
