"""A page of a listing while jobs move: the operation is driven here with answers of our own."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentherd import JobPage, JobState
from agentherd.layout import listing
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Pipeline

STATES = [JobState.QUEUED, JobState.RUNNING]
Index = dict[str, int]


class FakeRedis:
    """Sorted sets and records, as far as listing asks for them."""

    def __init__(self, *indexes: Index) -> None:
        keys = Keys()
        names = [keys.state_index(state) for state in STATES]
        self.indexes = dict(zip(names, indexes, strict=True))
        self.known = {keys.job(job_id): job_id for index in indexes for job_id in index}
        self.removed: list[tuple[str, str]] = []

    def answer(self, *command: Any) -> Any:
        match command:
            case ("ZRANGE", name, top, "-inf", "BYSCORE", "REV", "LIMIT", 0, count, "WITHSCORES"):
                newest = float("inf") if top == "+inf" else int(top)
                pairs = [(s, i) for i, s in self.indexes[name].items() if s <= newest]
                return [[job_id, score] for score, job_id in sorted(pairs, reverse=True)[:count]]
            case ("HMGET", key, *fields):
                return [self._field(self.known.get(key), field) for field in fields]
            case ("ZREM", name, job_id):
                self.removed.append((name, job_id))
                return 1
        raise AssertionError(command)

    def _field(self, job_id: str | None, name: str) -> bytes | None:
        if job_id is None:
            return None
        fields = {
            "job_id": job_id, "state": "queued", "tenant": "t", "session_id": "s",
            "attempt": "0", "submitted_at_us": "1",
        }  # fmt: skip
        return fields[name].encode() if name in fields else None

    def page(self, limit: int, cursor: str | None = None) -> JobPage:
        operation = listing.list_jobs(
            Keys(), states=STATES, tenant=None, since=None, until=None, limit=limit, cursor=cursor
        )
        try:
            request = next(operation)
            while True:
                assert isinstance(request, Pipeline)
                request = operation.send(
                    [self.answer(*command.arguments) for command in request.requests]  # type: ignore[union-attr]
                )
        except StopIteration as end:
            page: JobPage = end.value
            return page

    def all_ids(self, limit: int) -> list[str]:
        found: list[str] = []
        cursor = None
        while True:
            page = self.page(limit, cursor)
            assert len(page.jobs) <= limit
            found += [job.job_id for job in page.jobs]
            cursor = page.cursor
            if cursor is None:
                return found


indexes = st.dictionaries(
    st.integers(0, 999).map(lambda n: f"j{n:03}"), st.integers(1, 6), max_size=60
)


@given(indexes, indexes, st.integers(1, 7))
def test_pages_together_are_every_job_once_the_newest_first(
    queued: Index, running: Index, limit: int
) -> None:
    scores = queued | {job_id: queued.get(job_id, score) for job_id, score in running.items()}
    running = {job_id: scores[job_id] for job_id in running}  # one time of submit a job
    expected = [
        job_id for score, job_id in sorted(((s, i) for i, s in scores.items()), reverse=True)
    ]
    assert FakeRedis(queued, running).all_ids(limit) == expected


def test_hundreds_of_jobs_of_one_microsecond_are_all_listed() -> None:
    queued = {f"j{n:03}": 5 for n in range(300)}
    running = {f"r{n:03}": 4 for n in range(50)}
    found = FakeRedis(queued, running).all_ids(10)
    assert found == sorted(queued, reverse=True) + sorted(running, reverse=True)


def test_a_job_that_moves_between_two_reads_is_listed_once() -> None:
    found = FakeRedis({"a": 3, "b": 2}, {"a": 3}).all_ids(10)
    assert found == ["a", "b"]


def test_entries_without_record_are_removed_and_do_not_end_the_listing() -> None:
    redis = FakeRedis({"a": 3, "b": 2, "c": 1}, {})
    for job_id in ("a", "b"):
        del redis.known[Keys().job(job_id)]
    page = redis.page(2)
    assert page.jobs == ()
    assert [job.job_id for job in redis.page(2, page.cursor).jobs] == ["c"]
    assert [job_id for _index, job_id in redis.removed] == ["a", "b"]


@given(
    st.datetimes(
        datetime(1970, 1, 2), datetime(9999, 1, 1),  # noqa: DTZ001 - the zone is the other one's
        timezones=st.integers(-1000, 1000).map(lambda m: timezone(timedelta(minutes=m))),
    )
)  # fmt: skip
def test_times_are_exact_to_the_microsecond(moment: datetime) -> None:
    microseconds = listing._unix_us(moment)
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds) == moment


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a time zone"):
        listing._unix_us(datetime(2030, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("cursor", ["", "x", ":", "1:", ":a", "-1:a", "1.5:a"])
def test_a_cursor_of_elsewhere_is_refused(cursor: str) -> None:
    with pytest.raises(ValueError, match="not one that a listing returned"):
        FakeRedis({}, {}).page(1, cursor)
