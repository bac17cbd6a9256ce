"""Benchmarks: each a module to run, each beside a peer in the same run."""
