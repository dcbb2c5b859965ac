"""Generate and repeat with `requests` or `httpx`, which know nothing of image calls."""

import json
import os
import sys

library = __import__(sys.argv[1])
for _ in range(2):
    answer = library.post(
        "https://api.openai.com/v1/images/generations",
        json={"model": "gpt-image-2", "prompt": "a brass compass", "size": "1024x1024", "quality": "low"},
        headers={"authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"},
    )
    print(json.dumps({"status": answer.status_code, "cache": answer.headers["cache-status"], "images": len(answer.json()["data"])}))
