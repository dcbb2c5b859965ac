"""Generates with the real SDK: prompt, times; prints what came back."""

import base64
import json
import sys

from openai import OpenAI

prompt, times, *rest = sys.argv[1:]
client = OpenAI()
for _ in range(int(times)):
    fields = {"size": "1024x1024", "quality": "low"} | (json.loads(rest[0]) if rest else {})
    raw = client.images.with_raw_response.generate(model="gpt-image-2", prompt=prompt, **fields)
    answer = raw.parse()
    picture = base64.b64decode(answer.data[0].b64_json)
    headers = {name: value for name, value in raw.headers.items() if name.startswith(("x-pixtoll", "cache-status"))}
    size = [int.from_bytes(picture[at : at + 4], "big") for at in (16, 20)]
    print(json.dumps({"png": picture[:4] == b"\x89PNG", "size": size, "headers": headers, "bytes": len(picture)}))
