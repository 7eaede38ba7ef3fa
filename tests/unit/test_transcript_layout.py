"""Keys and the pure rules of transcripts."""

import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.cluster import key_slot  # type: ignore[attr-defined]

from agentherd.layout import transcripts
from agentherd.layout.operations import Script
from agentherd.layout.transcripts import BLOCK_BYTES, BLOCK_ENTRIES, SessionKeys

PARTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text(
    ":/{}%", max_size=6
)


@given(st.tuples(PARTS, PARTS), st.tuples(PARTS, PARTS))
def test_different_sessions_have_different_keys(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    first, second = SessionKeys(*one), SessionKeys(*other)
    assert (first.session == second.session) == (one == other)
    assert (first.index == second.index) == (one[0] == other[0])


@given(PARTS, PARTS)
def test_the_hash_tag_is_the_session(tenant: str, session_id: str) -> None:
    name = SessionKeys(tenant, session_id).session
    assert name.count("{") == name.count("}") == name.count("/") == 1
    assert name.count(":") == 2
    tag = name[name.index("{") + 1 : name.index("}")]
    assert key_slot(name.encode()) == key_slot(tag.encode())


@pytest.mark.parametrize("name", sorted((files("agentherd.layout") / "lua").iterdir(), key=str))
def test_each_script_has_one_key_and_so_one_slot(name: Any) -> None:
    if name.name.startswith("transcript_"):
        assert name.read_text().count("-- KEYS[") == 1


ENTRIES = st.lists(
    st.dictionaries(st.sampled_from(["uuid", "n", "text"]), st.text(max_size=3) | st.integers()),
    max_size=8,
)


@given(ENTRIES)
def test_doubles_are_left_out_and_the_rest_keeps_its_order(entries: list[dict[str, Any]]) -> None:
    kept = transcripts.without_doubles(entries)
    uuids = [entry["uuid"] for entry in kept if isinstance(entry.get("uuid"), str)]
    assert len(uuids) == len(set(uuids))
    assert set(uuids) == {e["uuid"] for e in entries if isinstance(e.get("uuid"), str)}
    positions = [next(n for n, e in enumerate(entries) if e is one) for one in kept]
    assert positions == sorted(positions)


def blocks_of(entries: list[dict[str, Any]]) -> list[bytes]:
    request = next(
        transcripts.append(SessionKeys("t", "s"), "", entries, fence=0, ttl_ms=1, max_bytes=1)
    )
    assert isinstance(request, Script)
    blocks = [block for block in request.rest if isinstance(block, bytes)]
    assert len(blocks) == len(request.rest)
    return blocks


@pytest.mark.parametrize(
    ("count", "size"),
    [(1, 1), (1, 2 * BLOCK_BYTES), (BLOCK_ENTRIES + 1, 1), (90, BLOCK_BYTES // 9)],
)
def test_blocks_hold_all_entries_in_order_and_are_bounded(count: int, size: int) -> None:
    entries: list[dict[str, Any]] = [{"n": n, "text": "x" * size} for n in range(count)]
    raw_blocks = blocks_of(entries)
    blocks = [json.loads(raw) for raw in raw_blocks]
    assert [entry for block in blocks for entry in block] == entries
    for block, raw in zip(blocks, raw_blocks, strict=True):
        assert len(block) == 1 or (len(block) <= BLOCK_ENTRIES and len(raw) <= BLOCK_BYTES)


def test_half_a_surrogate_pair_can_be_stored() -> None:
    (block,) = blocks_of([{"text": "cut \ud83d"}])
    assert json.loads(block.decode()) == [{"text": "cut \ud83d"}]


def test_an_entry_that_is_not_json_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(TypeError):
        blocks_of([{"bad": object()}])
