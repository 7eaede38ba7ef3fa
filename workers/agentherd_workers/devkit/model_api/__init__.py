"""A simulated Messages API: deterministic, scripted by the prompt, good enough for the real CLI."""

from agentherd_workers.devkit.model_api.server import LoggedRequest, ModelServer
from agentherd_workers.devkit.model_api.steps import Step, ToolCall

__all__ = ["LoggedRequest", "ModelServer", "Step", "ToolCall"]
