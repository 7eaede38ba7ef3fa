"""The client a service imports: `Herd` for blocking callers, `AsyncHerd` for asyncio."""
