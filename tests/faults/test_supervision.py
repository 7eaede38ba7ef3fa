"""A short form of `make drill-supervision`: another few rounds each time."""

from drills import supervision


def test_nothing_of_a_job_is_left_however_it_ends() -> None:
    found = supervision.drill(rounds=8)
    assert found.passed, (
        f"repeat it: make drill-supervision ARGS='--seed {found.seed} --rounds 8'\n{found.text()}"
    )
