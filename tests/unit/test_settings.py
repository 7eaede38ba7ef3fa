"""Settings from the environment: every bad value in one error, no secret in any text."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agentherd import AsyncHerd, Herd, InvalidSettings
from agentherd.client.connection import check_url, display_url
from agentherd.settings import HerdSettings
from agentherd_workers.settings import WorkerSettings

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test sets."""
    for name in ("REDIS_URL", "PREFIX", "TIMEOUT_S"):
        monkeypatch.delenv(f"AGENTHERD_{name}", raising=False)


def wrong(monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, str]:
    """What is said about each variable."""
    for name, value in variables.items():
        monkeypatch.setenv(f"AGENTHERD_{name}", value)
    with pytest.raises(InvalidSettings) as caught:
        WorkerSettings()
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    return dict(caught.value.problems)


def test_every_bad_value_is_in_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    said = wrong(
        monkeypatch,
        REDIS_URL=f"http://user:{SECRET}@host",
        PREFIX="a b",
        TIMEOUT_S="0",
        LEASE_S="soon",
        RETENTION_S="1",
        SESSION_TTL_S="inf",
        CONCURRENCY="0",
        API_KEY_FILE="relative/key",
        WORKSPACE_ROOT="here",
        MODEL="not a model",
        MODEL_BASE_URL="ftp://x",
        SESSION_CEILING_BYTES="1",
        MAX_ARTIFACTS_BYTES="-1",
        JOB_ENV_ALLOW='["A"',
    )
    assert said.keys() == {
        f"AGENTHERD_{name}"
        for name in (
            "REDIS_URL", "PREFIX", "TIMEOUT_S", "LEASE_S", "RETENTION_S", "SESSION_TTL_S",
            "CONCURRENCY", "API_KEY_FILE", "WORKSPACE_ROOT", "MODEL", "MODEL_BASE_URL",
            "SESSION_CEILING_BYTES", "MAX_ARTIFACTS_BYTES", "JOB_ENV_ALLOW",
        )
    }  # fmt: skip
    assert "redis://host:6379/0" in said["AGENTHERD_REDIS_URL"]


@pytest.mark.parametrize("user", [f"user:{SECRET}", SECRET, f":{SECRET}"])
def test_a_gateway_with_a_password_is_refused(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    said = wrong(monkeypatch, MODEL_BASE_URL=f"http://{user}@gateway/v1")
    assert "must not hold a user or a password" in said["AGENTHERD_MODEL_BASE_URL"]
    monkeypatch.setenv("AGENTHERD_MODEL_BASE_URL", "http://gateway/@v1")
    assert WorkerSettings().model_base_url == "http://gateway/@v1"


@pytest.mark.parametrize(
    ("value", "names"),
    [("", ()), ("A", ("A",)), ("APP_*, B,", ("APP_*", "B")), ('["A", "B"]', ("A", "B"))],
)
def test_lists_are_written_with_commas_or_as_json(
    monkeypatch: pytest.MonkeyPatch, value: str, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("AGENTHERD_JOB_ENV_ALLOW", value)
    monkeypatch.setenv("AGENTHERD_PASS_ENV", value)
    settings = WorkerSettings()
    assert settings.job_env_allow == settings.pass_env == names


def test_a_job_may_set_what_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTHERD_JOB_ENV_ALLOW", "APP_*,EXACT")
    settings = WorkerSettings()
    assert settings.allows_env("APP_X")
    assert settings.allows_env("EXACT")
    assert not settings.allows_env("app_x")
    assert not settings.allows_env("EXACTLY")


def test_secrets_do_not_print(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(f"{SECRET}\n")
    monkeypatch.setenv("AGENTHERD_REDIS_URL", f"redis://:{SECRET}@host/1")
    monkeypatch.setenv("AGENTHERD_API_KEY_FILE", str(key_file))
    settings = WorkerSettings()
    assert settings.redis_url.get_secret_value() == f"redis://:{SECRET}@host/1"
    key = settings.api_key()
    assert key is not None
    assert key.get_secret_value() == SECRET
    for text in (repr(settings), str(settings), str(settings.model_dump()), repr(key)):
        assert SECRET not in text
    assert SECRET not in settings.model_dump_json()


def test_without_a_key_file_there_is_no_key() -> None:
    assert WorkerSettings().api_key() is None


def test_settings_are_frozen() -> None:
    settings = HerdSettings()
    with pytest.raises(ValueError, match="frozen"):
        settings.timeout_s = 1  # type: ignore[misc]


def test_the_shell_of_a_developer_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    settings = WorkerSettings()
    assert settings.api_key() is None
    assert settings.model_base_url is None


@pytest.mark.parametrize(
    "url",
    ["", "host", "http://h", "redis://", "redis:///0", "redis://h:abc", "redis://h:99999",
     "redis://[::1", "sentinel://h"],
)  # fmt: skip
def test_urls_that_lead_nowhere_are_refused(url: str) -> None:
    for refuse in (check_url, Herd):
        with pytest.raises(InvalidSettings, match="must look like redis://"):
            refuse(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://:{SECRET}@h:1/0", "redis://h:1/0"),
        (f"rediss://u:{SECRET}@h", "rediss://h"),
        (f"redis://h/0?password={SECRET}", "redis://h/0"),
        (f"unix://:{SECRET}@/run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_a_shown_url_has_no_password(url: str, shown: str) -> None:
    assert display_url(check_url(url)) == shown


@pytest.mark.parametrize("client", [Herd, AsyncHerd])
def test_a_client_checks_what_the_settings_check(client: Callable[..., object]) -> None:
    with pytest.raises(InvalidSettings) as caught:
        client(f"http://user:{SECRET}@host", prefix="a b{", timeout_s=0)
    assert [field for field, _ in caught.value.problems] == ["redis_url", "prefix", "timeout_s"]
    assert SECRET not in str(caught.value)
    for timeout_s in (301, float("nan"), -1):
        with pytest.raises(InvalidSettings, match="timeout_s"):
            client("redis://host", timeout_s=timeout_s)
