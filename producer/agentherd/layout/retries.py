"""Dead letters: jobs that failed for good, and the jobs that try them again."""

from collections.abc import Collection, Sequence
from datetime import datetime

from agentherd.contract.failures import FailureKind
from agentherd.contract.listing import JobPage, JobSummary
from agentherd.contract.states import TERMINAL, JobState
from agentherd.layout import listing
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Operation, Script

FAILED = (JobState.FAILED, JobState.TIMED_OUT, JobState.EXPIRED)
"""What failed for good; who cancelled a job knows about it."""
RETRIED = TERMINAL - {JobState.SUCCEEDED}
"""What can be tried again."""


def failed_jobs(
    keys: Keys,
    *,
    kinds: Collection[FailureKind] = (),
    tenant: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 50,
    cursor: str | None = None,
    retried: bool = False,
) -> Operation[JobPage]:
    """One page of jobs that failed for good, the newest first.

    Args:
        kinds: only these; empty: all.
        retried: those too that another job tries again.
    """
    found: list[JobSummary] = []
    while len(found) < limit:
        page = yield from listing.list_jobs(
            keys,
            states=FAILED,
            tenant=tenant,
            since=since,
            until=until,
            limit=limit - len(found),
            cursor=cursor,
        )
        found += _chosen(page.jobs, kinds, retried=retried)
        cursor = page.cursor
        if cursor is None:
            break
    return JobPage(jobs=tuple(found), cursor=cursor)


def _chosen(
    jobs: Sequence[JobSummary], kinds: Collection[FailureKind], *, retried: bool
) -> list[JobSummary]:
    return [
        job
        for job in jobs
        if (not kinds or job.failure_kind in kinds) and (retried or job.retried_as is None)
    ]


def note_retry(keys: Keys, job_id: str, retried_as: str) -> Operation[bool]:
    """Note on an ended job which one tries it again. See note_retry.lua."""
    noted = yield Script(
        "note_retry", keys={"record": keys.job(job_id)}, args={"retried_as": retried_as}
    )
    return bool(noted)
