"""Faults that a running whole must survive; `python -m tests.soak` makes them happen and counts."""
