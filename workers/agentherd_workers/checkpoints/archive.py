"""A workspace as one blob, tar in zstd, and back.

What is packed is an agent's, and the agent may be changing it meanwhile: each file is stored
with the size that it had when it was opened, and what has vanished is left out. What is unpacked
is checked as if a stranger had made it.
"""

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import zstandard

from agentherd_workers import folders
from agentherd_workers.checkpoints.survey import (
    MAX_ENTRIES,
    Interrupted,
    TooLarge,
    is_too_deep,
    never,
    walk,
)
from agentherd_workers.folders import Parts
from agentherd_workers.sizes import size_text

LEVEL = 3
"""zstd's own default; one thread, which costs about 3 ms a MiB."""
_PIECE_BYTES = 1024 * 1024
_HEADER_BYTES = 64 * 1024
"""No file's header takes more, whatever its name."""
_MODES = 0o777
"""Permissions that are kept: no setuid, setgid, sticky."""
_NO_NAMES = {"", ".", ".."}


class CorruptCheckpoint(Exception):
    """A blob that is not what was stored, or holds what is never stored. Says what."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A packed workspace."""

    blob: bytes
    files: int
    """Regular files and links in it."""
    left_out: int
    """Devices, sockets, links out of the workspace, over-long paths, and what can't be read."""
    content_bytes: int
    """Size of the tar archive."""

    @property
    def sha256(self) -> str:
        """Of the blob."""
        return digest(self.blob)


def digest(blob: bytes) -> str:
    """What a blob is verified by."""
    return hashlib.sha256(blob).hexdigest()


def pack(
    directory: Path,
    *,
    max_blob_bytes: int,
    max_content_bytes: int,
    interrupted: Callable[[], bool] = never,
) -> Packed:
    """All below `directory` as a blob. Reads the agent's files; call it from a thread.

    Args:
        interrupted: asked again and again; True ends it.

    Raises:
        TooLarge: over either limit.
        Interrupted: it was told to end.
    """
    sink = _Sink(max_blob_bytes, interrupted)
    with zstandard.ZstdCompressor(level=LEVEL).stream_writer(sink, closefd=False) as compressed:
        tar = _Meter(compressed, max_content_bytes, interrupted)
        packer = _Packer(directory, tar)
        packer.pack()
    return Packed(
        blob=sink.getvalue(),
        files=packer.files,
        left_out=packer.left_out,
        content_bytes=tar.written_bytes,
    )


class _Sink(io.BytesIO):
    """The blob as it grows, up to its cap."""

    def __init__(self, max_bytes: int, interrupted: Callable[[], bool]) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self._interrupted = interrupted

    def write(self, piece: "bytes | bytearray | memoryview", /) -> int:  # type: ignore[override]
        if self._interrupted():
            raise Interrupted
        if self.tell() + len(piece) > self._max_bytes:
            raise TooLarge(f"more than {size_text(self._max_bytes)} compressed")
        return super().write(piece)


class _Meter:
    """Counts what goes into the compressor."""

    def __init__(self, target: IO[bytes], max_bytes: int, interrupted: Callable[[], bool]) -> None:
        self.written_bytes = 0
        self._target = target
        self._max_bytes = max_bytes
        self._interrupted = interrupted

    def write(self, piece: bytes) -> int:
        if self._interrupted():
            raise Interrupted
        self.written_bytes += len(piece)
        if self.written_bytes > self._max_bytes:
            raise TooLarge(f"more than {size_text(self._max_bytes)} of files")
        return self._target.write(piece)


class _Packer:
    def __init__(self, directory: Path, target: _Meter) -> None:
        self.files = 0
        self.left_out = 0
        self._directory = directory
        self._target = target

    def pack(self) -> None:
        for parts, name, status in walk(self._directory):
            try:
                if is_too_deep(parts, name) or not self._add(parts, name, status):
                    self.left_out += 1
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone meanwhile
            except OSError:
                self.left_out += 1
        self._target.write(b"\0" * 2 * tarfile.BLOCKSIZE)

    def _add(self, parts: Parts, name: str, status: os.stat_result) -> bool:
        """Store one thing; False: it is of no kind that is stored."""
        header = tarfile.TarInfo("/".join((*parts, name)))
        header.mode = stat.S_IMODE(status.st_mode) & _MODES
        header.mtime = status.st_mtime
        if stat.S_ISDIR(status.st_mode):
            header.type = tarfile.DIRTYPE
            self._write(header)
            return True
        if stat.S_ISLNK(status.st_mode):
            return self._add_link(header, parts, name)
        return stat.S_ISREG(status.st_mode) and self._add_file(header, parts, name)

    def _add_link(self, header: tarfile.TarInfo, parts: Parts, name: str) -> bool:
        with folders.opened(self._directory, parts) as folder:
            target = os.readlink(name, dir_fd=folder)
        if not stays_inside(target, len(parts)):
            return False
        header.type, header.linkname = tarfile.SYMTYPE, target
        self._write(header)
        self.files += 1
        return True

    def _add_file(self, header: tarfile.TarInfo, parts: Parts, name: str) -> bool:
        with (
            folders.opened(self._directory, parts) as folder,
            folders.closing(os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)) as handle,
        ):
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):  # something else took its place
                return False
            with open(_reading(handle), "rb") as stream:
                header.size, header.mtime = status.st_size, status.st_mtime
                self._write(header)
                self._write_content(stream, status.st_size)
        self.files += 1
        return True

    def _write(self, header: tarfile.TarInfo) -> None:
        self._target.write(header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def _write_content(self, stream: IO[bytes], size_bytes: int) -> None:
        """As many bytes as the header says: what grew is cut, what shrank is filled up."""
        left_bytes = size_bytes
        while left_bytes:
            wanted_bytes = min(left_bytes, _PIECE_BYTES)
            piece = _read(stream, wanted_bytes).ljust(wanted_bytes, b"\0")
            self._target.write(piece)
            left_bytes -= wanted_bytes
        self._target.write(b"\0" * (-size_bytes % tarfile.BLOCKSIZE))


def _reading(handle: int) -> int:
    """A descriptor to read what `handle` stands for: a path could lead to a pipe by now."""
    path = f"/proc/self/fd/{handle}"
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags)
    except PermissionError:
        with folders.permitted(handle, stat.S_IRUSR):
            return os.open(path, flags)


def _read(stream: IO[bytes], size_bytes: int) -> bytes:
    with suppress(OSError):
        return stream.read(size_bytes)
    return b""


def stays_inside(target: str, depth: int) -> bool:
    """Whether a link in a folder so deep below the workspace leads to something in it.

    `..` counts at its beginning only: behind a name, which may be a link, nobody can tell where
    it leads.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    upwards = 0
    while upwards < len(parts) and parts[upwards] == "..":
        upwards += 1
    return not target.startswith("/") and upwards <= depth and ".." not in parts[upwards:]


def unpack(blob: bytes, directory: Path, *, sha256: str, max_content_bytes: int) -> int:
    """Restore a packed workspace into `directory`, which is empty; how many files came back.

    Raises:
        CorruptCheckpoint: it is not to be trusted; some of it may have been written.
        OSError: the files can't be written.
    """
    if digest(blob) != sha256:
        raise CorruptCheckpoint("its digest is not that of what was stored")
    with zstandard.ZstdDecompressor().stream_reader(blob) as stream:
        limited = _Limited(stream, max_content_bytes)
        unpacker = _Unpacker(directory, limited)
        try:
            with tarfile.open(fileobj=limited, mode="r|", errorlevel=2) as tar:
                unpacker.unpack(tar)
        except (tarfile.TarError, zstandard.ZstdError, ValueError, OverflowError) as error:
            raise CorruptCheckpoint(f"not an archive: {error}") from error
    return unpacker.files


class _Limited(io.RawIOBase):
    """Gives what was allowed so far and no more, so that no header and no bomb fills the memory."""

    def __init__(self, stream: IO[bytes], max_bytes: int) -> None:
        self._stream = stream
        self._left_bytes = max_bytes
        self._allowed_bytes = 0

    def allow(self, size_bytes: int) -> None:
        """Let so many bytes be read from here, and the buffer of who reads."""
        self._allowed_bytes = size_bytes + _HEADER_BYTES

    def read(self, size: int = -1, /) -> bytes:
        piece = self._stream.read(size)
        self._left_bytes -= len(piece)
        self._allowed_bytes -= len(piece)
        if self._left_bytes < 0:
            raise CorruptCheckpoint("it holds more bytes than it may")
        if self._allowed_bytes < 0:
            raise CorruptCheckpoint("a header in it is too long")
        return piece


class _Unpacker:
    """Writes what comes. Links come last, so that no path goes through one."""

    def __init__(self, directory: Path, source: _Limited) -> None:
        self.files = 0
        self._directory = directory
        self._source = source
        self._source.allow(0)
        self._links: list[tarfile.TarInfo] = []
        self._folders: list[tarfile.TarInfo] = []

    def unpack(self, tar: tarfile.TarFile) -> None:
        while (member := tar.next()) is not None:
            if self.files + len(self._folders) >= MAX_ENTRIES:
                raise CorruptCheckpoint("it holds more files than it may")
            self._source.allow(member.size)
            with _in_place(member):
                self._put(tar, member)
            tar.members = []  # type: ignore[attr-defined]  # of no use here
        for link in self._links:
            with _in_place(link):
                self._path(link).symlink_to(link.linkname)
            self._date(link)
        # The deepest first: a mode may close a folder, and what is made in it changes its time.
        for folder in reversed(self._folders):
            self._date(folder)
            self._path(folder).chmod(folder.mode & _MODES)

    def _put(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if member.isdir():
            self._path(member).mkdir(mode=0o700)
            self._folders.append(member)
            return
        if member.issym() and stays_inside(member.linkname, member.name.count("/")):
            self._links.append(member)
        elif member.type == tarfile.REGTYPE and not member.issparse() and member.size >= 0:
            self._write(tar, member)
        else:
            raise CorruptCheckpoint(f"{_shown(member)} is no file, folder or link inside")
        self.files += 1

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        content = tar.extractfile(member)
        if content is None:
            raise CorruptCheckpoint(f"{_shown(member)} has no content")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(self._path(member), flags, 0o600), "wb") as target:  # noqa: PTH123
            while piece := content.read(_PIECE_BYTES):
                if piece.count(0) == len(piece):
                    target.seek(len(piece), os.SEEK_CUR)  # a hole stays one
                else:
                    target.write(piece)
            target.truncate(member.size)
            os.fchmod(target.fileno(), member.mode & _MODES)
        self._date(member)

    def _path(self, member: tarfile.TarInfo) -> Path:
        parts = member.name.split("/")
        if is_too_deep(tuple(parts[:-1]), parts[-1]) or not _NO_NAMES.isdisjoint(parts):
            raise CorruptCheckpoint(f"{_shown(member)} is no path in a workspace")
        return self._directory / member.name

    def _date(self, member: tarfile.TarInfo) -> None:
        with suppress(OverflowError):
            times = (member.mtime, member.mtime)
            os.utime(self._path(member), times, follow_symlinks=False)


@contextmanager
def _in_place(member: tarfile.TarInfo) -> Iterator[None]:
    """Nothing is there yet, and the folder is."""
    try:
        yield
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise CorruptCheckpoint(f"{_shown(member)} is out of place: {error.strerror}") from None


def _shown(member: tarfile.TarInfo) -> str:
    return repr(member.name[:200])
