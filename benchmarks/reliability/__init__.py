"""Fault runs, real processes and real signals: ``python -m benchmarks.reliability``.

Each scenario opens calls, breaks something, and then accounts for every call and every record. The suite
runs the same scenarios in a small size (`tests/reliability`). The oracle shares no code with what it judges.
"""
