"""Tests of an isolation level run where it can be had; in CI it must be."""

import os

import pytest

from agentherd_workers.isolation import bubblewrap_problem

LEVELS = ("process", "bubblewrap")


def require(isolation: str) -> str:
    """`isolation`, if it can be had here: else the test is skipped, and in CI fails."""
    problem = bubblewrap_problem() if isolation == "bubblewrap" else None
    if problem is not None:
        reason = f"no bubblewrap: {problem}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return isolation
