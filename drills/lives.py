"""Looking at agents' processes while they come and go."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from agentherd_workers.processes import by_mark, is_alive, worker_of
from drills.fleet import Fleet

_LOOK_EVERY_S = 0.1


@dataclass
class Lives:
    """What was seen of the agents' processes meanwhile."""

    marks: set[int] = field(default_factory=set)
    """Of all workers."""
    twice: set[str] = field(default_factory=set)
    """Sessions of which two CLIs were seen alive at once."""


@contextmanager
def watching_lives(fleet: Fleet) -> Iterator[Lives]:
    lives = Lives()
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(fleet, lives, over))
    thread.start()
    try:
        yield lives
    finally:
        over.set()
        thread.join()


def _watch(fleet: Fleet, lives: Lives, over: threading.Event) -> None:
    sessions: dict[int, str] = {}
    while not over.wait(_LOOK_EVERY_S):
        folders = (path for path in (fleet.root / "workers").iterdir() if path.is_dir())
        lives.marks |= {int(path.name, 16) for path in folders}
        alive: defaultdict[str, set[int]] = defaultdict(set)
        for mark, pids in by_mark().items():
            if worker_of(mark) not in lives.marks:
                continue
            session = sessions.get(mark) or _session_of(pids)
            if session:
                sessions[mark] = session
                if any(map(is_alive, pids)):
                    alive[session].add(mark)
        lives.twice |= {session for session, marks in alive.items() if len(marks) > 1}


def _session_of(pids: Sequence[int]) -> str | None:
    """The session that a CLI among these processes was started with."""
    for pid in pids:
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            for option in (b"--session-id", b"--resume"):
                if option in words:
                    return words[words.index(option) + 1].decode()
    return None
