"""Packed workspaces outside Redis: a directory or a bucket, by an fsspec URL.

    <url>/<prefix>/<job id>/<fence>-<number>.tar.zst

Which of them counts is in Redis, written under the job's fence: a worker that has lost a job may
leave a blob here, and it is never read. All calls block.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import SecretStr

from agentherd.contract.job import check_job_id
from agentherd.errors import InvalidJob

_BLOB = re.compile(r"\d+-\d+\.tar\.zst")


class BlobsUnavailable(OSError):
    """The place for checkpoints can't be used. Says what to change."""


class Blobs:
    """The blobs of one fleet, which must have the place for itself."""

    def __init__(self, url: SecretStr, prefix: str) -> None:
        self._secret = "@" in urlsplit(url.get_secret_value()).netloc
        try:
            self._files, root = fsspec.url_to_fs(url.get_secret_value())
            self._root = f"{root.rstrip('/')}/{prefix}"
            if isinstance(self._files, LocalFileSystem):
                # Workspaces are closed to others; so are copies of them.
                Path(self._root).mkdir(mode=0o700, parents=True, exist_ok=True)
        except Exception as error:
            raise BlobsUnavailable(f"AGENTHERD_CHECKPOINT_URL: {self.shown(error)}") from None

    def shown(self, error: BaseException) -> str:
        """What went wrong, without what the URL may hold."""
        kind = type(error).__name__
        return kind if self._secret else f"{kind}: {error}"

    def put(self, job_id: str, name: str, content: bytes) -> str:
        """Store a blob; where."""
        location = f"{job_id}/{name}"
        self._files.makedirs(f"{self._root}/{job_id}", exist_ok=True)
        self._files.pipe_file(f"{self._root}/{location}", content)
        return location

    def get(self, location: str) -> bytes:
        """A blob."""
        return cast("bytes", self._files.cat_file(f"{self._root}/{location}"))

    def keep_only(self, job_id: str, location: str) -> None:
        """Remove the job's other blobs."""
        for path in self._blobs_of(job_id):
            if not path.endswith(f"/{location}"):
                self._files.rm_file(path)

    def forget(self, job_id: str) -> None:
        """Remove all blobs of the job."""
        for path in self._blobs_of(job_id):
            self._files.rm_file(path)
        with suppress(OSError):  # object stores have no folders, and this one may hold more
            self._files.rmdir(f"{self._root}/{job_id}")

    def job_ids(self) -> list[str]:
        """The jobs that have a folder here."""
        return [name for path in self._list(self._root) if _is_job_id(name := _name(path))]

    def _blobs_of(self, job_id: str) -> list[str]:
        paths = self._list(f"{self._root}/{job_id}")
        return [path for path in paths if _BLOB.fullmatch(_name(path))]

    def _list(self, path: str) -> list[str]:
        self._files.invalidate_cache()
        try:
            found: list[Any] = self._files.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return [str(one) for one in found]


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _is_job_id(name: str) -> bool:
    try:
        check_job_id(name)
    except InvalidJob:
        return False
    return True
