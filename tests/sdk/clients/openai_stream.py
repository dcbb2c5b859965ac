"""A streamed call with partial pictures."""

import json

from openai import OpenAI

stream = OpenAI().images.generate(
    model="gpt-image-2", prompt="a paper crane", size="1024x1024", quality="low", stream=True, partial_images=2
)
print(json.dumps([event.type for event in stream]))
