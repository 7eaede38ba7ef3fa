"""Checkpoints on a real Redis, in it and beside it: who may store, what comes back, what goes."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from agentherd import Herd, Job
from agentherd.layout import checkpoints, records
from agentherd.layout.checkpoints import Checkpoint
from agentherd.layout.records import Claim
from agentherd_workers.checkpoints import keeper as keeping
from agentherd_workers.checkpoints import restoring
from agentherd_workers.checkpoints.blobs import Blobs, BlobsUnavailable
from agentherd_workers.checkpoints.keeper import Keeper
from agentherd_workers.checkpoints.restoring import NOTHING, Restored, restore
from agentherd_workers.checkpoints.store import CheckpointStore
from agentherd_workers.devkit.redis_server import RedisServer
from agentherd_workers.settings import WorkerSettings
from agentherd_workers.sizes import MiB
from support import records as acting
from support.leaks import keys_without_ttl
from support.waiting import wait_until_async

TTL_MS = 60_000
LIMIT = 64 * MiB
GIVEN_S = 30.0


@pytest.fixture(params=["redis", "directory"])
async def store(
    request: pytest.FixtureRequest, redis_server: RedisServer, herd: Herd, tmp_path: Path
) -> AsyncIterator[CheckpointStore]:
    """A worker's store of each kind."""
    blobs = None
    if request.param == "directory":
        blobs = Blobs(SecretStr(f"file://{tmp_path}/stored"), herd.keys.prefix)
    async with Redis.from_url(redis_server.url) as redis:
        yield CheckpointStore(redis, herd.keys, blobs, ttl_ms=TTL_MS)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Where an agent works."""
    path = tmp_path / "workspace"
    path.mkdir()
    return path


class Holder:
    """A worker that holds a job."""

    def __init__(self, herd: Herd, store: CheckpointStore, workspace: Path) -> None:
        self.herd = herd
        self.store = store
        self.workspace = workspace
        self.job_id = herd.submit(Job(prompt="x")).id
        self.claim = acting.claim(herd, self.job_id)
        self.refused = 0

    def keeper(self, **settings: object) -> Keeper:
        """One that looks every second."""
        chosen = WorkerSettings.model_validate({"checkpoint_every_s": 1, **settings})
        return Keeper(self.store, self.claim, self.workspace, chosen, self._on_stale)

    def _on_stale(self) -> None:
        self.refused += 1

    def lose(self) -> Claim:
        """Give the job back and take it again, as another worker would; the new claim."""
        given = records.requeue(
            self.herd.keys, self.claim.record, delay_ms=0, reason="test", refund=False
        )
        self.herd.connection.run(given)
        return acting.claim(self.herd, self.job_id)

    def stored(self) -> Checkpoint | None:
        """What Redis knows."""
        return self.herd.connection.run(checkpoints.find(self.herd.keys, self.job_id))

    async def restored(self, claim: Claim, directory: Path) -> Restored:
        """What another attempt finds."""
        await asyncio.to_thread(directory.mkdir)
        return await restore(self.store, claim, directory, max_content_bytes=LIMIT)


@pytest.fixture
def holder(herd: Herd, store: CheckpointStore, workspace: Path) -> Holder:
    """A job that runs."""
    return Holder(herd, store, workspace)


def blobs_in(tmp_path: Path) -> list[str]:
    """The files of the store beside Redis."""
    return [path.name for path in (tmp_path / "stored").rglob("*.zst")]


async def test_the_next_attempt_finds_the_files(holder: Holder, tmp_path: Path) -> None:
    (holder.workspace / "file").write_text("made")
    await holder.keeper().store_last(GIVEN_S)
    claim = holder.lose()
    back = await holder.restored(claim, tmp_path / "next")
    assert (back.files, back.complete, back.age_s) == (1, True, 0)
    assert (tmp_path / "next" / "file").read_text() == "made"
    again = await holder.restored(claim, tmp_path / "after next")
    assert not again.complete, "someone may have worked on the files since"


async def test_what_changes_is_stored_beside_the_agent(holder: Holder) -> None:
    """And only that: not the input files, nor what was stored before."""
    (holder.workspace / "given").write_text("input")

    async def stored() -> bool:
        return holder.stored() is not None

    keeper = holder.keeper()
    await keeper.start(fresh=True)
    try:
        (holder.workspace / "made").write_text("one")
        await wait_until_async(stored, "the change is stored", GIVEN_S)
        first = holder.stored()
        assert first is not None
        (holder.workspace / "made").write_text("two")

        async def newer() -> bool:
            found = holder.stored()
            return found is not None and found.sha256 != first.sha256

        await wait_until_async(newer, "the next change is stored", GIVEN_S)
    finally:
        await keeper.stop()
    assert holder.refused == 0


async def test_nothing_is_stored_where_nothing_changed(holder: Holder) -> None:
    (holder.workspace / "given").write_text("input")
    keeper = holder.keeper()
    await keeper.start(fresh=True)
    await keeper._round(complete=False)
    await keeper.stop()
    assert holder.stored() is None
    await keeper.store_last(GIVEN_S)
    first = holder.stored()
    assert first is not None
    await keeper.store_last(GIVEN_S)
    assert holder.stored() == first, "the same files need no second copy"


async def test_a_worker_that_lost_the_job_stores_nothing(holder: Holder, tmp_path: Path) -> None:
    (holder.workspace / "file").write_text("good")
    await holder.keeper().store_last(GIVEN_S)
    good = holder.stored()
    claim = holder.lose()
    (holder.workspace / "file").write_text("late")
    await holder.keeper().store_last(GIVEN_S)
    assert holder.refused == 1
    assert holder.stored() == good
    await holder.restored(claim, tmp_path / "next")
    assert (tmp_path / "next" / "file").read_text() == "good"


async def test_one_blob_a_job_and_none_after_it(
    holder: Holder, store: CheckpointStore, tmp_path: Path
) -> None:
    for content in ("one", "two", "three"):
        (holder.workspace / "file").write_text(content)
        await holder.keeper().store_last(GIVEN_S)
    found = holder.stored()
    assert found is not None
    assert len(blobs_in(tmp_path)) == bool(found.location)
    assert acting.finish(holder.herd, holder.claim.record) is not None
    await store.forget(holder.job_id)
    assert holder.stored() is None
    assert blobs_in(tmp_path) == []
    assert keys_without_ttl(holder.herd.connection.redis) == []


async def test_what_others_ended_is_swept(
    holder: Holder, store: CheckpointStore, herd: Herd, workspace: Path, tmp_path: Path
) -> None:
    """Of a job that runs nothing is taken."""
    runs, gone = (Holder(herd, store, workspace) for _ in range(2))
    for one in (holder, runs, gone):
        (workspace / "file").write_text(one.job_id)
        await one.keeper().store_last(GIVEN_S)
    assert acting.finish(herd, holder.claim.record) is not None
    herd.connection.redis.delete(herd.keys.job(gone.job_id))
    await store.sweep()
    found = runs.stored()
    assert found is not None
    assert [path.name for path in (tmp_path / "stored" / "agentherd").glob("*")] == (
        [runs.job_id] if found.location else []
    )
    back = await runs.restored(runs.lose(), tmp_path / "next")
    assert back.files == 1


async def test_a_checkpoint_ends_even_if_its_record_vanishes(holder: Holder) -> None:
    await holder.keeper().store_last(GIVEN_S)
    key = holder.herd.keys.checkpoint(holder.job_id)
    left_ms = holder.herd.connection.redis.pttl(key)
    assert isinstance(left_ms, int)
    assert 0 < left_ms <= TTL_MS


async def test_too_large_is_noted_and_told(holder: Holder, tmp_path: Path) -> None:
    (holder.workspace / "file").write_text("x" * 100_000)
    await holder.keeper(max_checkpoint_bytes=100).store_last(GIVEN_S)
    back = await holder.restored(holder.lose(), tmp_path / "next")
    assert back.files is None
    assert "compressed" in back.too_large
    assert not list((tmp_path / "next").iterdir())


async def test_the_last_that_fitted_stays(holder: Holder, tmp_path: Path) -> None:
    keeper = holder.keeper(max_checkpoint_bytes=1000)
    (holder.workspace / "small").write_text("kept")
    await keeper._round(complete=False)
    (holder.workspace / "large").write_bytes(os.urandom(5000))
    await keeper._round(complete=False)
    back = await holder.restored(holder.lose(), tmp_path / "next")
    assert back.files == 1
    assert "compressed" in back.too_large


async def test_a_corrupt_copy_is_no_copy(holder: Holder, tmp_path: Path) -> None:
    (holder.workspace / "file").write_text("made")
    await holder.keeper().store_last(GIVEN_S)
    found = holder.stored()
    assert found is not None
    if found.location:
        path = tmp_path / "stored" / "agentherd" / found.location
        path.write_bytes(path.read_bytes()[:-1])
    else:
        key = holder.herd.keys.checkpoint(holder.job_id)
        holder.herd.connection.redis.hset(key, "content", b"something else")
    back = await holder.restored(holder.lose(), tmp_path / "next")
    assert back == Restored(unreadable=True)
    assert not list((tmp_path / "next").iterdir())


async def test_a_copy_that_is_gone_is_no_copy(
    holder: Holder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "_PAUSE_S", 0.01)
    (holder.workspace / "file").write_text("made")
    await holder.keeper().store_last(GIVEN_S)
    holder.herd.connection.redis.hdel(holder.herd.keys.checkpoint(holder.job_id), "content")
    for path in (tmp_path / "stored").rglob("*.zst"):
        path.unlink()
    back = await holder.restored(holder.lose(), tmp_path / "next")
    assert back == Restored(unreadable=True)


async def test_never_stored_is_nothing(holder: Holder, tmp_path: Path) -> None:
    assert await holder.restored(holder.lose(), tmp_path / "next") == NOTHING


async def test_zero_stores_nothing(holder: Holder) -> None:
    keeper = holder.keeper(max_checkpoint_bytes=0)
    await keeper.start(fresh=True)
    (holder.workspace / "file").touch()
    await keeper.stop()
    await keeper.store_last(GIVEN_S)
    assert holder.stored() is None


async def test_a_store_that_fails_hurts_nobody_and_is_tried_again(
    holder: Holder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (holder.workspace / "file").touch()
    keeper = holder.keeper()
    away = CheckpointStore(
        Redis.from_url("redis://127.0.0.1:1"), holder.herd.keys, None, ttl_ms=TTL_MS
    )
    monkeypatch.setattr(keeper, "_store", away)
    await keeper.store_last(GIVEN_S)
    assert "checkpoint not stored" in caplog.text
    monkeypatch.setattr(keeper, "_store", holder.store)
    await keeper.store_last(GIVEN_S)
    assert holder.stored() is not None


async def test_the_end_does_not_wait_for_a_store_that_hangs(
    holder: Holder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The attempt ends, and others get their turn."""

    async def hang(*_args: object, **_options: object) -> bool:
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(holder.store, "keep", hang)
    (holder.workspace / "file").touch()
    async with asyncio.timeout(GIVEN_S):
        await holder.keeper().store_last(0.05)
        assert "no time for a last checkpoint" in caplog.text
        monkeypatch.setattr(keeping, "STORE_TIMEOUT_S", 0.05)
        await holder.keeper().store_last(GIVEN_S)
    assert "not stored in time" in caplog.text
    assert not holder.store.turn.locked()


def test_urls_that_can_not_be_used_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for url in ("nosuch://x", f"file://{tmp_path}/file/below"):
        with pytest.raises(BlobsUnavailable, match="AGENTHERD_CHECKPOINT_URL"):
            Blobs(SecretStr(url), "agentherd")


def test_what_a_url_holds_is_never_told() -> None:
    with pytest.raises(BlobsUnavailable) as refused:
        Blobs(SecretStr("nosuch://user:pw-of-mine@host/x"), "agentherd")
    assert "pw-of-mine" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_blobs_by_any_url(tmp_path: Path) -> None:
    """`memory://` stands for what has no folders."""
    for url in ("memory://checkpoints", f"file://{tmp_path}"):
        blobs = Blobs(SecretStr(url), "a")
        other = Blobs(SecretStr(url), "b")
        first, second = (blobs.put("job", f"1-{n}.tar.zst", b"%d" % n) for n in (1, 2))
        other.put("elsewhere", "1-1.tar.zst", b"x")
        assert (blobs.get(first), blobs.job_ids()) == (b"1", ["job"])
        blobs.keep_only("job", second)
        with pytest.raises(FileNotFoundError):
            blobs.get(first)
        blobs.forget("job")
        blobs.forget("job")
        with pytest.raises(FileNotFoundError):
            blobs.get(second)
        assert other.job_ids() == ["elsewhere"]
        other.forget("elsewhere")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_a_lost_job_is_told_as_old_as_it_may_be(herd: Herd, store: CheckpointStore) -> None:
    job_id = herd.submit(Job(prompt="x")).id
    claim = acting.claim(herd, job_id)
    record = replace(claim.record, released_at_ms=100_000)
    back = restoring._restored(Checkpoint(at_ms=88_000, files=3), replace(claim, record=record))
    assert (back.files, back.complete, back.age_s) == (3, False, 12.0)
