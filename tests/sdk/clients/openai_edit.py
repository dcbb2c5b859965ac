"""An edit with an uploaded file."""

import base64
import io
import json

from openai import OpenAI

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mM4IScHAAK2AQUKW6YGAAAAAElFTkSuQmCC"
)
for _ in range(2):
    file = io.BytesIO(PIXEL)
    file.name = "pixel.png"
    raw = OpenAI().images.with_raw_response.edit(
        model="gpt-image-2", image=file, prompt="make it blue", size="1024x1024", quality="low"
    )
    print(json.dumps({"pictures": len(raw.parse().data), "cache": raw.headers.get("cache-status")}))
