"""All that talks to the Claude Agent SDK. Nothing else in agentherd imports it."""
