"""What an agent is told of its files when it goes on."""

import pytest

from agentherd_workers.checkpoints.restoring import NOTHING, Restored, continue_prompt

LARGE = "more than 64 MiB compressed"


@pytest.mark.parametrize(
    ("back", "said"),
    [
        (NOTHING, "no copy had been stored yet: the working directory holds only"),
        (Restored(too_large=LARGE), f"was too large ({LARGE}): the working directory holds only"),
        (Restored(unreadable=True), "could not be read: the working directory holds only"),
        (Restored(files=2, complete=True), "back with all files as you left them."),
        (Restored(files=2, age_s=12.4), "as it was up to 12 s before the interruption"),
        (
            Restored(files=2, age_s=9, too_large=LARGE),
            f"Later it was too large to be kept ({LARGE})",
        ),
        (Restored(files=2, complete=True, left_out=3), "3 things that are not kept are missing"),
    ],
)
def test_it_says_what_is_back(back: Restored, said: str) -> None:
    prompt = continue_prompt("Paint it blue.", back)
    assert said in prompt
    assert "do not repeat finished steps" in prompt
    assert prompt.endswith("The task was:\n\nPaint it blue.")


def test_it_says_no_more_than_is_so() -> None:
    prompt = continue_prompt("x", Restored(files=2, complete=True))
    assert "too large" not in prompt
    assert "missing" not in prompt
