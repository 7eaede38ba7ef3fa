"""Processes of a test that look like a job's."""

import resource
from collections.abc import Callable


def carry(mark: int) -> Callable[[], None]:
    """For `preexec_fn`: let the new process carry `mark`, as the launcher does."""
    return lambda: resource.setrlimit(resource.RLIMIT_RTTIME, (mark, mark))
