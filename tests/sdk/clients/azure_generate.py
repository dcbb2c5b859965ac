"""Asks a deployment at Azure for the same picture twice; tells the client's own error where there is none."""

import base64
import json

from openai import APIStatusError, AzureOpenAI

client = AzureOpenAI(api_version="2025-04-01-preview", max_retries=0)
for _ in range(2):
    try:
        answer = client.images.with_raw_response.generate(
            model="gpt-image-2.5-flare", prompt="a brass compass", size="1024x1024", quality="low"
        )
    except APIStatusError as error:
        print(json.dumps({"error": type(error).__name__, "code": error.code}))
        continue
    picture = base64.b64decode(answer.parse().data[0].b64_json)
    print(json.dumps({"png": picture.startswith(b"\x89PNG"), "cache": answer.headers.get("cache-status", "")}))
