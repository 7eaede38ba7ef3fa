"""Bringing a stored workspace back for an attempt that goes on, and telling its agent so."""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from agentherd.layout.checkpoints import Checkpoint
from agentherd.layout.records import Claim
from agentherd_workers.checkpoints.archive import CorruptCheckpoint, unpack
from agentherd_workers.checkpoints.store import CheckpointStore
from agentherd_workers.removal import remove_tree

log = logging.getLogger(__name__)

_TRIES = 3
_PAUSE_S = 1.0
_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What of the workspace is back."""

    files: int | None = None
    """None: nothing is back but the job's input files."""
    complete: bool = False
    """All is as the attempt before left it."""
    age_s: float = 0.0
    """Else: up to so long before the interruption it was so."""
    left_out: int = 0
    """Things that are never stored."""
    too_large: str = ""
    """Why the workspace, as it was later, was not stored."""
    unreadable: bool = False
    """Something was stored, and could not be read."""

    @property
    def told(self) -> dict[str, Any]:
        """What the `restored` event says."""
        return {
            "files": self.files,
            "complete": self.complete,
            "age_s": round(self.age_s, 1),
            "too_large": self.too_large,
            "unreadable": self.unreadable,
        }


NOTHING = Restored()


async def restore(
    store: CheckpointStore, claim: Claim, directory: Path, *, max_content_bytes: int
) -> Restored:
    """Unpack what is stored of the job's workspace into `directory`, which is empty.

    Raises:
        RedisError: Redis does not answer.
    """
    checkpoint = await store.find(claim.record.job_id)
    if checkpoint is None:
        return NOTHING
    if not checkpoint.at_ms:
        return Restored(too_large=checkpoint.too_large)
    if checkpoint.complete:  # from here on someone works on the files again
        await store.note(claim, {"complete": 0})
    try:
        blob = await _load(store, claim.record.job_id, checkpoint)
        await store.in_thread(
            partial(
                unpack,
                blob,
                directory,
                sha256=checkpoint.sha256,
                max_content_bytes=min(checkpoint.content_bytes, max_content_bytes),
            )
        )
    except RedisError:
        raise
    except Exception as error:
        # Whatever it is, the agent can go on without its files; fsspec's errors have no base.
        log.warning("job %s: checkpoint not restored: %s", claim.record.job_id, store.shown(error))
        await asyncio.to_thread(_empty, directory)
        return Restored(unreadable=True)
    return _restored(checkpoint, claim)


def _restored(checkpoint: Checkpoint, claim: Claim) -> Restored:
    # The attempt before ended at some time before its job went back to the queue.
    age_ms = max(0, claim.record.released_at_ms - checkpoint.at_ms)
    return Restored(
        files=checkpoint.files,
        complete=checkpoint.complete,
        age_s=0.0 if checkpoint.complete else age_ms / 1000,
        left_out=checkpoint.left_out,
        too_large=checkpoint.too_large,
    )


async def _load(store: CheckpointStore, job_id: str, checkpoint: Checkpoint) -> bytes:
    """The blob; a store that fails now may answer in a moment."""
    for _ in range(_TRIES - 1):
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await store.load(job_id, checkpoint)
        except (CorruptCheckpoint, RedisError):
            raise
        except Exception as error:
            log.warning("job %s: checkpoint not read, trying again: %s", job_id, store.shown(error))
            await asyncio.sleep(_PAUSE_S)
    return await store.load(job_id, checkpoint)


def _empty(directory: Path) -> None:
    remove_tree(directory)
    directory.mkdir(mode=0o700)


def continue_prompt(task: str, back: Restored) -> str:
    """What an agent is asked whose work was interrupted: first, what it finds again."""
    return (
        "Your previous run at this task was interrupted. The conversation so far is above."
        f" {_about_files(back)} Check what is there, do not repeat finished steps, and complete"
        f" the task. The task was:\n\n{task}"
    )


def _about_files(back: Restored) -> str:
    if back.files is None:
        return (
            f"Of the files, {_why_none(back)}: the working directory holds only the task's input"
            " files. Processes that you had started are gone."
        )
    said = ["The working directory is back with all files as you left them."]
    if not back.complete:
        said = [
            f"The working directory is back as it was up to {back.age_s:.0f} s before the"
            " interruption: what you changed after that is missing."
        ]
    if not back.complete and back.too_large:
        said.append(f"Later it was too large to be kept ({back.too_large}).")
    if back.left_out:
        said.append(
            f"{back.left_out} things that are not kept are missing: sockets, pipes, and links"
            " that lead out of it."
        )
    said.append("Files outside of it and processes that you had started are gone.")
    return " ".join(said)


def _why_none(back: Restored) -> str:
    if back.unreadable:
        return "nothing is back, because the stored copy could not be read"
    if back.too_large:
        return f"nothing is back, because the working directory was too large ({back.too_large})"
    return "nothing is back, because no copy had been stored yet"
