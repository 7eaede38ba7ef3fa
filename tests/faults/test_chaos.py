"""A short form of `make drill-chaos`: other moments each time."""

import pytest
from drills import chaos


@pytest.mark.timeout(300)
def test_no_job_is_lost_and_none_runs_twice_at_once() -> None:
    found = chaos.run(seed=None, jobs=30, workers=2, lease_s=3.0, longest_s=4.0)
    assert found.passed, f"repeat it: make drill-chaos ARGS='--seed {found.seed}'\n{found.text()}"
