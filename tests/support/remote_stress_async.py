"""What the stress test awaits in nodes."""
import asyncio


async def waiting(number, seconds):
    await asyncio.sleep(seconds)
    return number
