"""Guards: the lines that keep a promise, and the tests that must notice when one is gone.

``python -m benchmarks.reliability.guards`` takes away one at a time, in a copy of the tree, and runs its tests. The
guards stand in the ``.toml`` files beside this, one file for each part of the promise.
"""
