"""The same from an asyncio service: nothing here blocks the event loop."""

import asyncio
import os

from agentherd import AsyncHerd, Job


async def main() -> None:
    """Submit three jobs and take their answers as they come."""
    url = os.environ.get("AGENTHERD_REDIS_URL", "redis://127.0.0.1:6379/0")
    async with AsyncHerd(url) as herd:
        handles = await herd.submit_many(
            Job(prompt=f"What is {n} squared?", idempotency_key=f"square-{n}") for n in (3, 4, 5)
        )
        for result in await asyncio.gather(*(handle.result(300) for handle in handles)):
            print(result.job_id, result.state, result.text)


asyncio.run(main())
