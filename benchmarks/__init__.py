"""Measurements against the alternatives; never tests. See docs/benchmarks.md.

make bench                          all of them
make bench ARGS="submit latency"    some
"""
