"""A client that does not wait: it times out, retries as the SDK does, and is answered in the end."""

import json

from openai import OpenAI

client = OpenAI(timeout=1.0, max_retries=8)
raw = client.images.with_raw_response.generate(model="gpt-image-2", prompt="a slow castle", size="1024x1024", quality="low")
print(json.dumps({"pictures": len(raw.parse().data), "cache": raw.headers.get("cache-status")}))
