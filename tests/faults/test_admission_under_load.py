"""A short form of `make drill-admission`: fewer jobs, and ceilings held in one way."""

from drills import admission


def test_agents_that_grow_hurt_only_themselves() -> None:
    found = admission.drill(rounds=12, enforcements=("auto",), openings=2)
    assert found.passed, f"seed {found.seed}\n{found.text()}"
