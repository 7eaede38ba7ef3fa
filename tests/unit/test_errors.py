"""The error tree: as drawn, documented, and whole after a trip to another process."""

import inspect
import pickle
import re

import pytest

import agentherd
from agentherd import (
    AgentherdError,
    ArtifactNotFound,
    BrokerUnavailable,
    Failure,
    FailureKind,
    IdempotencyConflict,
    InvalidJob,
    InvalidSettings,
    JobFailed,
    JobNotFound,
    JobResult,
    JobState,
    NotRetryable,
    ResultTimeout,
    SessionBusy,
    SubmitIncomplete,
    UnknownWireVersion,
    errors,
)

RESULT = JobResult(
    job_id="j",
    state=JobState.FAILED,
    session_id="s",
    failure=Failure(kind=FailureKind.CRASHED, message="gone"),
)
EXAMPLES: list[AgentherdError] = [
    InvalidJob([("prompt", "must not be blank"), ("tenant", "no")]),
    UnknownWireVersion([("version", "9 is unknown here")]),
    InvalidSettings([("AGENTHERD_TIMEOUT_S", "greater than 0")]),
    IdempotencyConflict("key", "j"),
    NotRetryable("j", "running"),
    SessionBusy("s", "j"),
    SubmitIncomplete({0: "a", 2: "c"}, {1: SessionBusy("s", "j")}),
    BrokerUnavailable("Redis does not answer"),
    JobNotFound("j"),
    ArtifactNotFound("j", "a.txt"),
    ResultTimeout("j", "running", 2.5),
    JobFailed("job j: failed", RESULT),
    JobFailed("job j: failed"),
]


def classes() -> list[type[AgentherdError]]:
    """Every public error."""
    return [
        found
        for name, found in vars(errors).items()
        if inspect.isclass(found) and issubclass(found, AgentherdError) and name[0] != "_"
    ]


def drawn() -> dict[str, tuple[str, set[str]]]:
    """Class → its parent and its builtin bases, as the module's docstring draws them."""
    tree: dict[str, tuple[str, set[str]]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)(\s+\((?P<base>\w+)\))?", line)
        if found is None or not (found["name"] == "AgentherdError" or found["indent"]):
            continue
        depth = len(found["indent"]) // 4
        del path[depth:]
        tree[found["name"]] = (path[-1] if path else "Exception", {found["base"]} - {None})
        path.append(found["name"])
    return tree


def real() -> dict[str, tuple[str, set[str]]]:
    """The same of the classes themselves."""
    tree: dict[str, tuple[str, set[str]]] = {}
    for cls in classes():
        ancestors = [base for base in cls.__mro__[1:] if base in classes() or base is Exception]
        builtin = {base.__name__ for base in cls.__mro__ if base.__module__ == "builtins"} & {
            "ValueError",
            "LookupError",
            "ConnectionError",
            "TimeoutError",
        }
        parent = ancestors[0].__name__
        inherited = tree[parent][1] if parent in tree else set()
        tree[cls.__name__] = (parent, builtin - inherited)
    return tree


def test_the_tree_is_as_drawn() -> None:
    assert drawn() == real()


def test_the_examples_have_every_class() -> None:
    assert {type(example) for example in EXAMPLES} | {AgentherdError} == set(classes())


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_every_class_is_documented_and_public(cls: type[AgentherdError]) -> None:
    assert cls.__doc__
    assert "__doc__" in vars(cls)
    assert getattr(agentherd, cls.__name__) is cls
    assert cls.__name__ in errors.__all__


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: AgentherdError) -> None:
    read = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    assert type(read) is type(error)
    assert str(read) == str(error)
    # By their text where they hold errors, which are only equal to themselves.
    assert {name: repr(value) for name, value in vars(read).items()} == {
        name: repr(value) for name, value in vars(error).items()
    }


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_the_text_holds_what_a_caller_can_act_on(error: AgentherdError) -> None:
    shown = [value for value in vars(error).values() if isinstance(value, str | float)]
    assert all(f"{value:g}" in str(error) for value in shown if isinstance(value, float))
    assert all(value in str(error) for value in shown if isinstance(value, str))


def test_every_problem_is_in_the_text() -> None:
    text = str(EXAMPLES[0])
    assert text == "2 invalid job field(s):\n  prompt: must not be blank\n  tenant: no"


def test_of_many_refused_jobs_the_first_are_named() -> None:
    busy: dict[int, AgentherdError] = {at: SessionBusy(f"s{at}", "j") for at in range(12)}
    text = str(SubmitIncomplete({12: "a"}, busy))
    assert text.startswith("1 job(s) queued, 12 refused:\n  job 0: session s0 is in use by job j")
    assert "s9" in text
    assert "s10" not in text
    assert text.endswith("\n  and 2 more")


def test_a_failed_result_raises_itself() -> None:
    with pytest.raises(JobFailed, match="job j: failed, crashed: gone") as caught:
        RESULT.raise_for_failure()
    assert caught.value.result is RESULT


def test_a_succeeded_result_returns_itself() -> None:
    good = RESULT.model_copy(update={"state": JobState.SUCCEEDED, "failure": None})
    assert good.raise_for_failure() is good


def test_a_result_without_failure_still_says_how_it_ended() -> None:
    with pytest.raises(JobFailed, match=r"^job j: cancelled$"):
        RESULT.model_copy(update={"state": JobState.CANCELLED, "failure": None}).raise_for_failure()
