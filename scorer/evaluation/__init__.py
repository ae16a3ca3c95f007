"""Benchmarks, metrics and baselines: how good a router is, and how sure we are of it."""
