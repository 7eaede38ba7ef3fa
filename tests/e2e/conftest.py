"""One fleet a module, since starting a worker costs more than running a job."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.fleet import Fleet, running_fleet


@pytest.fixture(scope="module")
def fleet_options() -> dict[str, Any]:
    """Arguments of `running_fleet`; a module may have its own."""
    return {}


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, fleet_options: dict[str, Any]
) -> Iterator[Fleet]:
    """The module's fleet."""
    with running_fleet(tmp_path_factory.mktemp("fleet"), **fleet_options) as started:
        yield started
