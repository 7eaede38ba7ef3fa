"""What a job of the demo left, read back from Redis the way any service would."""

from collections.abc import Mapping
from dataclasses import dataclass

from agentherd import AsyncJobHandle, JobResult
from agentherd.layout import transcripts
from agentherd.layout.transcripts import Entry, SessionKeys


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A job that has ended."""

    result: JobResult
    conversation: tuple[Entry, ...]
    """The session's main transcript at the job's end, as the CLI wrote it."""
    subagents: Mapping[str, int]
    """Entries of each subagent's transcript."""
    transcript_bytes: int
    """All transcripts of the session together, as stored."""
    files: Mapping[str, bytes]
    """The artifacts."""

    @property
    def entries(self) -> int:
        """Of all transcripts of the session."""
        return len(self.conversation) + sum(self.subagents.values())


async def read_outcome(handle: AsyncJobHandle) -> Outcome:
    """Wait for the job's end and read all that it left."""
    result = await handle.result()
    record = await handle.record()
    herd = handle.herd
    session = SessionKeys(record.tenant, record.session_id, herd.keys.prefix)
    subagents = {}
    for subpath in await herd.connection.run(transcripts.list_subpaths(session)):
        entries = await herd.connection.run(transcripts.load(session, subpath))
        subagents[subpath] = len(entries or ())
    return Outcome(
        result=result,
        conversation=tuple(await handle.transcript()),
        subagents=subagents,
        transcript_bytes=await herd.connection.run(transcripts.size_bytes(session)),
        files={one.name: await handle.artifact(one.name) for one in result.artifacts},
    )
