"""The same picture so many times with aiohttp, which reads proxy variables only where it is told to.

Arguments: how often, and options of the session as JSON.
"""

import asyncio
import base64
import json
import os
import sys

import aiohttp

URL = "https://api.openai.com/v1/images/generations"
KEY = {"authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
ASKED = {"model": "gpt-image-2", "prompt": "a brass compass", "size": "1024x1024", "quality": "low"}


async def main(times, options):
    async with aiohttp.ClientSession(headers=KEY, raise_for_status=True, **options) as session:
        for _ in range(times):
            try:
                async with session.post(URL, json=ASKED) as answer:
                    told = await answer.json()
            except aiohttp.ClientResponseError as error:
                print(json.dumps({"error": type(error).__name__, "status": error.status}))
                continue
            picture = base64.b64decode(told["data"][0]["b64_json"])
            print(json.dumps({"png": picture[:4] == b"\x89PNG", "cache": answer.headers["cache-status"]}))


asyncio.run(main(int(sys.argv[1]), json.loads(sys.argv[2])))
