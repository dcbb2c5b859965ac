"""The Responses API with its image tool: `whole` or `stream`, how often, further fields as JSON."""

import base64
import json
import sys

import openai

how, times, *rest = sys.argv[1:]
fields = {
    "model": "gpt-5.2",
    "input": "a brass compass",
    "tools": [{"type": "image_generation", "model": "gpt-image-2.6-flare", "size": "1024x1024", "quality": "low", "partial_images": 2}],
    "tool_choice": {"type": "image_generation"},
} | (json.loads(rest[0]) if rest else {})
client = openai.OpenAI(max_retries=0)


def told(response):
    drawn = [item for item in response.output if item.type == "image_generation_call"]
    return {
        "pictures": [base64.b64decode(item.result)[:4] == b"\x89PNG" for item in drawn if item.result],
        "failed": [item.error.code for item in drawn if item.status == "failed"],
        "says": response.output_text,
    }


for _ in range(int(times)):
    try:
        if how == "stream":
            events = list(client.responses.create(stream=True, **fields))
            partials = sum(event.type == "response.image_generation_call.partial_image" for event in events)
            print(json.dumps({"partials": partials, "last": events[-1].type} | told(events[-1].response)))
        else:
            print(json.dumps(told(client.responses.create(**fields))))
    except openai.APIError as error:
        print(json.dumps({"error": type(error).__name__, "code": error.code}))
