"""Calls that are no image calls pass untouched."""

import json

from openai import OpenAI

client = OpenAI()
models = client.models.with_raw_response.list()
chat = client.chat.completions.with_raw_response.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
stream = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}], stream=True)
touched = [name for raw in (models, chat) for name in raw.headers if name.startswith(("x-pixtoll", "cache-status"))]
print(json.dumps({"models": len(models.parse().data), "chat": chat.parse().choices[0].message.role, "chunks": len(list(stream)), "touched": touched}))
