"""One attempt at one job: from a held claim to a finished, failed or given-back record."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from redis.exceptions import RedisError

from agentherd.contract.events import EventKind
from agentherd.contract.failures import FailureKind
from agentherd.contract.job import ForkSession, Job, ResumeSession
from agentherd.contract.results import Artifact, Failure, JobResult, Resources, Usage
from agentherd.contract.states import JobState
from agentherd.layout.records import Claim
from agentherd.layout.transcripts import CorruptTranscript
from agentherd_workers import artifacts
from agentherd_workers.agent.options import AttemptPlan, build_options
from agentherd_workers.agent.outcome import Stop, Verdict, verdict
from agentherd_workers.agent.run import AgentRun, Notes, stderr_tail
from agentherd_workers.agent.session_store import RedisSessionStore
from agentherd_workers.breaker import concerns_all
from agentherd_workers.ceilings.meter import Ceiling, Exceeded, Excess
from agentherd_workers.checkpoints.keeper import Keeper
from agentherd_workers.checkpoints.restoring import Restored, continue_prompt, restore
from agentherd_workers.confinement import Confinement
from agentherd_workers.held_job import HeldJob
from agentherd_workers.host import Host
from agentherd_workers.lease import LeaseLost
from agentherd_workers.redaction import Redaction
from agentherd_workers.reporter import Reporter
from agentherd_workers.retrying import Again, another_attempt
from agentherd_workers.workspace import DirectoryInUse, Workspace

log = logging.getLogger(__name__)

DIRECTORY_WAIT_S = 10.0
"""How long the attempt before, on this host, may take to leave the session's directory."""
RETRY_S = 0.2
BEHIND_S = 1.0
"""A job that the model API refuses waits so long: what was scheduled goes behind what is queued,
so that another one is tried next."""
STOP_FOR = {
    Exceeded.MEMORY: Stop.OUT_OF_MEMORY,
    Exceeded.PROCESSES: Stop.TOO_MANY_PROCESSES,
    Exceeded.DISK: Stop.DISK_FULL,
}
LAST_CHECKPOINT_S = 30.0
"""How long the workspace may take to be stored once its agent has ended,"""
DRAIN_CHECKPOINT_S = 2.0
"""and where the worker is shutting down."""
_LEAST_BUDGET_USD = 1e-6
_LEAST_TIME_S = 1.0


@dataclass(frozen=True)
class GivenBack:
    """The attempt ended without an end of the job: it waits for another one."""

    reason: str


class Attempt:
    """Runs a claimed job. `run` is awaited to its end; `stop` may be called meanwhile."""

    def __init__(self, host: Host, claim: Claim, job: Job, claimed_at_s: float) -> None:
        self.host = host
        self.claim = claim
        self.job = job
        self.record = claim.record
        # Redis's clock and this host's may differ: the wait is Redis's, the rest is ours.
        self._released_at_ms = _unix_ms(claimed_at_s) - claim.waited_ms
        self._stop: Stop | None = None
        self._agent: AgentRun | None = None
        self._confinement: Confinement | None = None
        self._resources = Resources()
        self._began_s: float | None = None
        self._closing: asyncio.Task[None] | None = None
        self._held = HeldJob(
            host,
            claim,
            claimed_at_s=claimed_at_s,
            on_lost=self._on_lease_lost,
            on_cancel=partial(self.stop, Stop.CANCELLED),
        )
        self._reporter = Reporter(self._held.report, self._held.lose)

    def stop(self, reason: Stop, detail: str = "") -> None:
        """End the agent soon; call from the event loop."""
        self._stop = self._stop or reason
        if self._agent is not None:
            self._agent.stop(reason, detail)

    @property
    def memory_bytes(self) -> int:
        """What its processes take, as last measured."""
        return self._confinement.memory_bytes if self._confinement else 0

    def sample(self, pids_by_mark: Mapping[int, Sequence[int]]) -> Excess | None:
        """Measure it; which ceiling it is over, if any. From any thread."""
        return self._confinement.sample(pids_by_mark) if self._confinement else None

    def _on_lease_lost(self) -> None:
        self._reporter.abandon()
        self.stop(Stop.LEASE_LOST)

    async def run(self) -> JobResult | GivenBack:
        """The job's result, once it is written; no process and no directory is left.

        Raises:
            LeaseLost: someone else owns the job; nothing was written.
        """
        try:
            notes, ended, kept = await self._outcome()
            await self._reporter.close(self._held.lease_s)
            self._held.check()
            return await self._settle(notes, ended, kept)
        except LeaseLost:
            raise
        except DirectoryInUse as error:
            # A worker of this host that was stopped has it; another host would not wait.
            again = Again(reason=str(error), delay_s=DIRECTORY_WAIT_S, refund=True)
            return await self._give_back(self._result(Notes(), _host_failure(error), []), again)
        except Exception as error:
            # Whatever it is: the job must not stay `running` with nobody at it.
            log.exception("job %s: attempt failed on this host", self.record.job_id)
            return await self._settle(Notes(), _host_failure(error), [])
        finally:
            self._reporter.abandon()
            await self._held.release()

    async def _outcome(self) -> tuple[Notes, Verdict, list[Artifact]]:
        """What the agent did, what it means, and what was kept of it."""
        goes_on = await self._goes_on()
        workspace = await self._make_workspace()
        try:
            back = await self._bring_files(workspace) if goes_on else None
            if back is None or back.files is None:
                await asyncio.to_thread(workspace.put, self.job.files)
            keeper = self._keeper(workspace)
            await keeper.start(fresh=back is None or back.files is None)
            try:
                notes = await self._run_agent(workspace, back)
            finally:
                await keeper.stop()
            ended = verdict(notes.observed)
            kept: list[Artifact] = []
            if self._stop is not Stop.LEASE_LOST:
                ended, kept = await self._keep_artifacts(workspace, ended)
            if self._goes_on_after(ended):
                drained = self._stop is Stop.DRAINED
                await keeper.store_last(DRAIN_CHECKPOINT_S if drained else LAST_CHECKPOINT_S)
            return notes, ended, kept
        finally:
            await asyncio.to_thread(workspace.remove)

    async def _goes_on(self) -> bool:
        """Whether there is a conversation to go on with, readable or not."""
        if not self.claim.again:
            return False
        try:
            return await self._held.has_conversation()
        except CorruptTranscript:
            return True  # its load fails, which ends the job with the reason

    def _keeper(self, workspace: Workspace) -> Keeper:
        return Keeper(
            self.host.checkpoints,
            self.claim,
            workspace.cwd,
            self.host.settings,
            on_stale=self._held.lose,
        )

    async def _bring_files(self, workspace: Workspace) -> Restored:
        """Files of the attempt before, as far as they were stored."""
        while True:
            try:
                back = await restore(
                    self.host.checkpoints,
                    self.claim,
                    workspace.cwd,
                    max_content_bytes=int(self.host.settings.job_disk_bytes),
                )
            except RedisError as error:
                log.warning("job %s: Redis does not answer: %s", self.record.job_id, error)
                self._held.check()
                await asyncio.sleep(RETRY_S)
                continue
            self._reporter.add([(EventKind.RESTORED, back.told)])
            return back

    async def _make_workspace(self) -> Workspace:
        root = self.host.settings.workspace_root
        deadline_s = time.monotonic() + DIRECTORY_WAIT_S
        while True:
            try:
                workspace = await asyncio.to_thread(
                    Workspace.make, root, self.record.tenant, self.record.session_id
                )
            except DirectoryInUse:
                if time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(RETRY_S)
                continue
            return workspace

    async def _run_agent(self, workspace: Workspace, back: Restored | None) -> Notes:
        plan = self._plan(goes_on=back is not None)
        prompt = self.job.prompt if back is None else continue_prompt(self.job.prompt, back)
        settings = self.host.settings
        ceiling = Ceiling(
            memory_bytes=self.host.ceilings.get(self.record.queue, settings.session_ceiling_bytes),
            processes=settings.job_processes,
            disk_bytes=settings.job_disk_bytes,
        )
        confinement = Confinement(self.host.means, ceiling, workspace)
        self._confinement = confinement
        try:
            with self._held.guarded(confinement.mark):
                notes = await self._converse(workspace, plan, prompt, confinement)
            excess = await asyncio.to_thread(partial(confinement.sample, last=True))
            if excess is not None and notes.observed.stop is None:
                # The kernel was faster than our watch.
                notes.observed = replace(
                    notes.observed, stop=STOP_FOR[excess.what], stop_detail=excess.detail
                )
            return notes
        finally:
            self._resources = confinement.resources
            self._confinement = None
            await asyncio.to_thread(confinement.close)

    async def _converse(
        self, workspace: Workspace, plan: AttemptPlan, prompt: str, confinement: Confinement
    ) -> Notes:
        stderr = stderr_tail()
        redact = Redaction(self.host.settings.api_key())
        options = build_options(
            plan,
            workspace,
            self.host.settings,
            launcher=self.host.launcher,
            launch=confinement.launch,
            store=RedisSessionStore(
                self.host.redis,
                prefix=self.host.keys.prefix,
                project_key=self.record.tenant,
                ttl_s=int(self.host.settings.session_ttl_s),
                max_session_bytes=self.host.settings.max_session_bytes,
                fence=self.claim.fence,
                goes_on_with=self.record.session_id,
                redact=redact,
                holds=lambda: self._held.is_held,
            ),
            on_stderr=stderr.append,
        )
        self._agent = AgentRun(
            options,
            confinement=confinement,
            prompt=prompt,
            idle_timeout_s=self.job.idle_timeout_s,
            wants_output=self.job.output_schema is not None,
            released_at_ms=self._released_at_ms,
            on_events=self._reporter.add,
            on_answer=self._on_answer,
            on_spent=self._on_spent,
            redact=redact,
            stderr=stderr,
        )
        if self._stop is not None:
            self._agent.stop(self._stop)
        self._began_s = time.monotonic()
        return await self._agent.run(max(_LEAST_TIME_S, self.job.timeout_s - self.record.ran_s))

    def _plan(self, *, goes_on: bool) -> AttemptPlan:
        """Whether the session starts, goes on or is copied, and what is left of the limits."""
        session = self.job.session
        resume: str | None = None
        if goes_on:
            resume = self.record.session_id
        elif isinstance(session, ResumeSession | ForkSession):
            resume = str(session.id)
        return AttemptPlan(
            job=self.job,
            job_id=self.record.job_id,
            attempt=self.record.attempt,
            session_id=self.record.session_id,
            resume=resume,
            fork=isinstance(session, ForkSession) and not goes_on,
            # What attempts before spent counts; the CLI takes no limit of nothing.
            max_turns=max(1, self.job.max_turns - self.record.turns),
            max_budget_usd=max(
                _LEAST_BUDGET_USD, self.job.max_budget_usd - self.record.usage.cost_usd
            ),
        )

    async def _keep_artifacts(
        self, workspace: Workspace, ended: Verdict
    ) -> tuple[Verdict, list[Artifact]]:
        """Store what the patterns match, also of a failed run."""
        if not self.job.artifacts:
            return ended, []
        cap_bytes = self.host.settings.max_artifacts_bytes
        found = await asyncio.to_thread(
            artifacts.collect, workspace.cwd, self.job.artifacts, cap_bytes
        )
        for artifact, content in found.files:
            await self._held.keep_artifact(artifact.name, content)
        if found.refused:
            log.warning("job %s: not kept, no regular file: %s", self.record.job_id, found.refused)
        excess = found.excess(cap_bytes)
        if excess is not None and ended.state is JobState.SUCCEEDED:
            failure = Failure(kind=FailureKind.ARTIFACTS_TOO_LARGE, message=excess[:2000])
            ended = Verdict(JobState.FAILED, failure)
        return ended, [artifact for artifact, _ in found.files]

    async def _settle(
        self, notes: Notes, ended: Verdict, kept: list[Artifact]
    ) -> JobResult | GivenBack:
        """Write how the attempt ended: given back for another one, or the job's result."""
        result = self._result(notes, ended, kept)
        again = self._again(ended) or await self._after_refusal(ended)
        if again is not None:
            return await self._give_back(result, again)
        finished = await self._held.finish(result)
        await self.host.checkpoints.forget(self.record.job_id)
        return finished

    async def _give_back(self, result: JobResult, again: Again) -> JobResult | GivenBack:
        return await self._held.give_back(result, self._ran_s, again) or GivenBack(again.reason)

    def _goes_on_after(self, ended: Verdict) -> bool:
        """Whether another attempt will follow, or may."""
        if self._stop is Stop.LEASE_LOST:
            return False
        return self._again(ended) is not None or concerns_all(ended)

    def _again(self, ended: Verdict) -> Again | None:
        return another_attempt(self.job, self.record, self._stop, ended)

    async def _after_refusal(self, ended: Verdict) -> Again | None:
        """Where the API refuses all jobs of the fleet, this one waits until it no longer does."""
        if ended.failure is None or not concerns_all(ended):
            return None
        if not await self._held.trip_breaker(ended.failure):
            return None
        reason = f"{ended.failure.kind}: {ended.failure.message}"
        return Again(reason=reason, delay_s=BEHIND_S, refund=True)

    @property
    def _ran_s(self) -> float:
        """How long the job's agents ran, this one included."""
        here_s = 0.0 if self._began_s is None else time.monotonic() - self._began_s
        return self.record.ran_s + here_s

    def _on_spent(self, spent: Usage, turns: int) -> None:
        """Note it in the record, where it counts if this worker is lost."""
        usage = self.record.usage + spent
        self._reporter.note(
            {
                "usage": usage.model_dump_json(),
                "turns": str(self.record.turns + turns),
                "ran_s": f"{self._ran_s:.3f}",
            }
        )

    def _on_answer(self) -> None:
        """The model answers: where no worker took jobs for want of that, they do again."""
        if self.host.breaker.report is not None:
            self._closing = asyncio.create_task(self._close_breaker())

    async def _close_breaker(self) -> None:
        with suppress(LeaseLost):
            await self._held.close_breaker()

    def _result(self, notes: Notes, ended: Verdict, kept: list[Artifact]) -> JobResult:
        seen = notes.observed.result
        # A run that crashed tells nothing, or zeros.
        spent = seen.usage if seen and seen.usage.cost_usd >= notes.spent.cost_usd else notes.spent
        turns = seen.turns if seen else notes.turns
        # No turn: it may be asked for days until the API accepts the fleet's key.
        refused = concerns_all(ended) and not notes.answered
        return JobResult(
            job_id=self.record.job_id,
            state=ended.state,
            failure=ended.failure,
            text=seen.text if seen else None,
            structured_output=seen.structured_output if seen else None,
            session_id=self.record.session_id,
            session_degraded=notes.degraded,
            model=notes.model,
            stop_reason=seen.stop_reason if seen else None,
            turns=self.record.turns + (0 if refused else turns),
            usage=self.record.usage + spent,
            resources=self.record.resources.followed_by(self._resources),
            attempts=self.record.attempt,
            artifacts=tuple(kept),
            permission_denials=notes.denials,
            submitted_at_ms=self.record.submitted_at_us // 1000,
            started_at_ms=self.record.started_at_ms,
        )


def _unix_ms(at_s: float) -> float:
    """A moment of `time.monotonic()` as Unix time on this host's clock."""
    return (time.time() - time.monotonic() + at_s) * 1000


def _host_failure(error: Exception) -> Verdict:
    """This host could not run the job; another may."""
    message = f"host: {type(error).__name__}: {error}"
    failure = Failure(kind=FailureKind.INTERNAL, message=message[:2000], retryable=True)
    return Verdict(JobState.FAILED, failure)
