"""agentherd: run Claude agents on your own machines, from a queue.

from agentherd import Herd, Job

with Herd("redis://127.0.0.1:6379/0") as herd:
    handle = herd.submit(Job(prompt="Summarise README.md", files={"README.md": text},
                             allowed_tools=["Read"]))
    print(handle.result(timeout_s=600).raise_for_failure().text)
"""

from agentherd.client.asynchronous import AsyncHerd, AsyncJobHandle
from agentherd.client.blocking import Herd, JobHandle
from agentherd.client.requests import SubmitRules
from agentherd.contract.cancelling import Cancellation, CancelOutcome
from agentherd.contract.events import EventKind, JobEvent
from agentherd.contract.failures import FailureKind
from agentherd.contract.files import InputFile
from agentherd.contract.hosts import BreakerReport, GateReport, WorkerReport
from agentherd.contract.job import (
    ForkSession,
    Job,
    NewSession,
    RemoteServer,
    ResumeSession,
    RetryPolicy,
    StdioServer,
    Subagent,
    SystemPrompt,
)
from agentherd.contract.listing import JobPage, JobSummary
from agentherd.contract.results import Artifact, Failure, JobResult, Resources, Usage
from agentherd.contract.states import JobState
from agentherd.errors import (
    AgentherdError,
    ArtifactNotFound,
    BrokerUnavailable,
    ClassNotServed,
    IdempotencyConflict,
    InvalidJob,
    InvalidSettings,
    JobFailed,
    JobNotFound,
    NotRetryable,
    ResultTimeout,
    SessionBusy,
    SubmitIncomplete,
    UnknownWireVersion,
)

__version__ = "0.1.0"

__all__ = [
    "AgentherdError",
    "Artifact",
    "ArtifactNotFound",
    "AsyncHerd",
    "AsyncJobHandle",
    "BreakerReport",
    "BrokerUnavailable",
    "CancelOutcome",
    "Cancellation",
    "ClassNotServed",
    "EventKind",
    "Failure",
    "FailureKind",
    "ForkSession",
    "GateReport",
    "Herd",
    "IdempotencyConflict",
    "InputFile",
    "InvalidJob",
    "InvalidSettings",
    "Job",
    "JobEvent",
    "JobFailed",
    "JobHandle",
    "JobNotFound",
    "JobPage",
    "JobResult",
    "JobState",
    "JobSummary",
    "NewSession",
    "NotRetryable",
    "RemoteServer",
    "Resources",
    "ResultTimeout",
    "ResumeSession",
    "RetryPolicy",
    "SessionBusy",
    "StdioServer",
    "Subagent",
    "SubmitIncomplete",
    "SubmitRules",
    "SystemPrompt",
    "UnknownWireVersion",
    "Usage",
    "WorkerReport",
]
