"""Asks a deployment at Azure for the same picture twice."""

import base64
import json

from openai import AzureOpenAI

client = AzureOpenAI(api_version="2025-04-01-preview", max_retries=0)
for _ in range(2):
    answer = client.images.with_raw_response.generate(
        model="gpt-image-2.5-flare", prompt="a brass compass", size="1024x1024", quality="low"
    )
    picture = base64.b64decode(answer.parse().data[0].b64_json)
    print(json.dumps({"png": picture.startswith(b"\x89PNG"), "cache": answer.headers.get("cache-status", "")}))
