"""What a producer, and the CLI, can be told by the environment: `AGENTHERD_*`."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from agentherd.client.connection import Prefix, TimeoutS, check_url
from agentherd.contract.base import problems_of
from agentherd.errors import InvalidSettings, Problem
from agentherd.layout.records import DEFAULT_RETENTION_S

PREFIX = "AGENTHERD_"


def _check_secret_url(url: SecretStr) -> SecretStr:
    try:
        check_url(url.get_secret_value())
    except InvalidSettings as error:
        raise ValueError(error.problems[0].message) from None
    return url


RedisUrl = Annotated[SecretStr, AfterValidator(_check_secret_url)]
"""May hold a password, so it never prints itself."""


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [name for name in (part.strip() for part in value.split(",")) if name]


NameList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Names in one variable: `A,B`, or a JSON list."""


class CheckedSettings(BaseSettings):
    """Settings whose errors are one `InvalidSettings` that names every variable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InvalidSettings(
                [Problem(f"{PREFIX}{field.upper()}", text) for field, text in problems_of(error)]
            ) from None


class HerdSettings(CheckedSettings):
    """What producers, the command line and workers are told alike."""

    redis_url: RedisUrl = SecretStr("redis://127.0.0.1:6379/0")
    """Redis with queues and records: `redis://`, `rediss://` or `unix://`."""
    prefix: Prefix = "agentherd"
    """Of every key and queue; the same for all producers and workers of a fleet."""
    timeout_s: TimeoutS = 5.0
    """Longest wait for Redis to answer one call."""
    retention_s: Annotated[float, Field(ge=60, le=365 * 24 * 3600)] = DEFAULT_RETENTION_S
    """How long records, events and artifacts of ended jobs are kept."""
