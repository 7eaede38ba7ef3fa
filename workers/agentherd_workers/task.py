"""The Celery task: a thin skin over the supervisor."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.exceptions import Ignore
from celery.utils.log import get_task_logger

from agentherd.contract.results import JobResult, failure_text
from agentherd.contract.states import JobState
from agentherd.errors import JobFailed
from agentherd.layout.messages import TASK_NAME
from agentherd_workers.intake import Dropped
from agentherd_workers.task_request import AgentRequest, document_of

if TYPE_CHECKING:
    from agentherd_workers.celery_app import HerdApp

log = get_task_logger(__name__)


def register(app: "HerdApp") -> None:
    """Add the task `agentherd.run` to `app`."""

    # resultrepr_maxsize: logs and Flower get the ids, not the agent's words.
    @app.task(
        name=TASK_NAME,
        bind=True,
        typing=False,
        throws=(JobFailed,),
        resultrepr_maxsize=96,
        Request=AgentRequest,
    )
    def run(self: "Task[Any, Any]", *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run one agent job; the task's id is the job's id.

        Takes `job`, the job as a JSON object, where the sender is a plain Celery client; jobs
        submitted through `Herd` are in their record. Returns the `JobResult` as a JSON object.

        Raises:
            JobFailed: the job ended without success.
            Ignore: not this message but another one ends this task.
        """
        job_id = self.request.id or ""
        queue = queue_of_request(app, {"delivery_info": self.request.delivery_info})
        settled = app.supervisor.run(job_id, document_of(args, kwargs), queue)
        if isinstance(settled, Dropped):
            log.info("job %s: message dropped: %s", job_id, settled.reason)
            raise Ignore
        return _for_celery(self, settled.result)


def queue_of_request(app: "HerdApp", request: Mapping[str, Any]) -> str:
    """The Celery queue that a task's message came from."""
    key = (request.get("delivery_info") or {}).get("routing_key")
    return str(key or app.conf.task_default_queue)


def _for_celery(task: "Task[Any, Any]", result: JobResult) -> dict[str, Any]:
    if result.state is JobState.CANCELLED:
        task.update_state(state="REVOKED")
        raise Ignore
    if not result.succeeded:
        raise JobFailed(failure_text(result))
    return result.model_dump(mode="json")
