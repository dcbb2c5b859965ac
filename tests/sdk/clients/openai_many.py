"""Twenty equal calls at once, with the SDK's async client."""

import asyncio
import json

from openai import AsyncOpenAI


async def main():
    client = AsyncOpenAI()
    call = lambda: client.images.generate(model="gpt-image-2", prompt="a lighthouse", size="1024x1024", quality="low")
    answers = await asyncio.gather(*(call() for _ in range(20)))
    print(json.dumps(len({answer.data[0].b64_json for answer in answers})))


asyncio.run(main())
