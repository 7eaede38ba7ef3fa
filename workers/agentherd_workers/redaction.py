"""The model API key kept out of what a job leaves in Redis: events, transcript, result.

An agent has the key in its environment and may print it. Here the key as it stands is replaced;
an agent that encodes it first can't be kept from telling it.
"""

import json
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from pydantic import SecretStr

T = TypeVar("T")

PLACEHOLDER = "[model API key]"
LEAST_SECRET_CHARS = 8
"""What is shorter is a gateway's dummy, and would be found in ordinary words."""


class Redaction:
    """Gives a value without the key: in texts at any depth, also as it is escaped in JSON."""

    def __init__(self, key: SecretStr | None) -> None:
        secret = key.get_secret_value() if key else ""
        escaped = (json.dumps(secret, ensure_ascii=only)[1:-1] for only in (False, True))
        known = {secret, *escaped} if len(secret) >= LEAST_SECRET_CHARS else set()
        self._forms = sorted(known, key=len, reverse=True)

    def __call__(self, value: T) -> T:
        """`value` itself, or a copy: of texts, lists, dicts and dataclasses."""
        redacted: T = self._redacted(value) if self._forms else value
        return redacted

    def _redacted(self, value: Any) -> Any:
        match value:
            case str():
                return self._text(value)
            case dict():
                return {self._redacted(name): self._redacted(one) for name, one in value.items()}
            case list() | tuple():
                return type(value)([self._redacted(one) for one in value])
            case _ if is_dataclass(value) and not isinstance(value, type):
                parts = {part.name: getattr(value, part.name) for part in fields(value)}
                return replace(value, **self._redacted(parts))
            case _:
                return value

    def _text(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, PLACEHOLDER)
        return text
