"""Generate and repeat with `requests` or `httpx`, which know nothing of image calls."""

import base64
import json
import os
import sys

library = __import__(sys.argv[1])
for _ in range(2):
    answer = library.post(
        "https://api.openai.com/v1/images/generations",
        json={"model": "gpt-image-2", "prompt": "a brass compass", "size": "1024x1024", "quality": "low"},
        headers={"authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"},
        timeout=60,
    )
    try:
        answer.raise_for_status()
    except library.HTTPError as error:
        print(json.dumps({"error": type(error).__name__, "status": error.response.status_code, "code": error.response.json()["error"]["code"]}))
        continue
    (drawn,) = answer.json()["data"]
    png = base64.b64decode(drawn["b64_json"])[:4] == b"\x89PNG"
    print(json.dumps({"status": answer.status_code, "cache": answer.headers["cache-status"], "png": png}))
