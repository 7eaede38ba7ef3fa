"""What other services import: a name that goes missing breaks them."""

import ast
from pathlib import Path

import agentherd

PROMISED = {
    "AgentherdError", "Artifact", "ArtifactNotFound", "AsyncHerd", "AsyncJobHandle",
    "BreakerReport", "BrokerUnavailable", "CancelOutcome", "Cancellation", "ClassNotServed",
    "EventKind", "Failure", "FailureKind", "ForkSession",
    "GateReport", "Herd", "IdempotencyConflict", "InputFile", "InvalidJob", "InvalidSettings",
    "Job", "JobEvent", "JobFailed", "JobHandle", "JobNotFound", "JobPage", "JobResult",
    "JobState", "JobSummary", "NewSession", "NotRetryable", "RemoteServer", "Resources",
    "ResultTimeout", "ResumeSession", "RetryPolicy", "SessionBusy", "StdioServer", "Subagent",
    "SubmitIncomplete", "SubmitRules", "SystemPrompt", "UnknownWireVersion", "Usage",
    "WorkerReport",
}  # fmt: skip


def test_the_promised_names_are_there() -> None:
    assert set(agentherd.__all__) >= PROMISED
    assert all(hasattr(agentherd, name) for name in agentherd.__all__)


def test_a_new_name_is_promised_on_purpose() -> None:
    """Add it to PROMISED, and it stays."""
    assert set(agentherd.__all__) <= PROMISED


def test_the_names_are_sorted_and_all_that_is_imported() -> None:
    assert agentherd.__all__ == sorted(agentherd.__all__)
    tree = ast.parse(Path(agentherd.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == set(agentherd.__all__)


def test_every_public_name_is_documented() -> None:
    assert [name for name in agentherd.__all__ if not getattr(agentherd, name).__doc__] == []
