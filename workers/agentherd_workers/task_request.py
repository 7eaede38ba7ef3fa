"""A Celery message for `agentherd.run`: the job in it, and what may be shown of that."""

import json
from typing import Any

from celery.worker.request import Request

from agentherd.layout.submissions import prompt_preview
from agentherd_workers.intake import PREVIEW_CHARS

_SHOWN = ("tenant", "model", "prompt")


class AgentRequest(Request):
    """Its arguments are described as `submit` describes a job's: a prompt is nobody else's.

    What a plain Celery client sent would else be in every event that Flower and others read.
    """

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        document = document_of(tuple(self.request_dict["args"]), self.request_dict["kwargs"])
        if document is not None:
            self._argsrepr, self._kwargsrepr = "()", description_of(document)
            self.request_dict.update(argsrepr=self._argsrepr, kwargsrepr=self._kwargsrepr)

    def info(self, safe: bool = True) -> Any:
        """What `celery inspect` shows; always the safe form."""
        del safe
        return super().info(safe=True)


def document_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The job that a plain Celery client sent, or None. Anything odd is kept, to be refused."""
    match args, kwargs:
        case (), {} if not kwargs:
            return None
        case (), {"job": job} if len(kwargs) == 1 and job is not None:
            return job
        case (job,), {} if not kwargs and job is not None:
            return job
        case _:
            return {"args": list(args), **kwargs}


def description_of(document: Any) -> str:
    """Tenant, model and the prompt's first words as JSON; the document was not checked yet."""
    fields = document if isinstance(document, dict) else {}
    texts = {name: fields.get(name) for name in _SHOWN}
    return json.dumps(
        {
            name: prompt_preview(text, PREVIEW_CHARS) if isinstance(text, str) else None
            for name, text in texts.items()
        }
    )
