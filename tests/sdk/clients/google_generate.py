"""Google's real SDK: what to do, a prompt, how often; prints what came back."""

import asyncio
import json
import sys

from google import genai
from google.genai import errors, types

KEY = "sk-canary-of-the-app"
MODEL = "gemini-nano-banana-2.1"


def size(picture):
    return [int.from_bytes(picture[at : at + 4], "big") for at in (16, 20)] if picture[:4] == b"\x89PNG" else None


def told(response, pictures):
    headers = (response.sdk_http_response.headers if response.sdk_http_response else None) or {}
    return {
        "sizes": [size(picture) for picture in pictures],
        "headers": {name.lower(): value for name, value in headers.items()},
    }


def content(client, prompt):
    config = types.GenerateContentConfig(
        response_modalities=["IMAGE"], image_config=types.ImageConfig(aspect_ratio="16:9")
    )
    response = client.models.generate_content(model=MODEL, contents=prompt, config=config)
    parts = [part for candidate in response.candidates or [] for part in (candidate.content and candidate.content.parts) or []]
    feedback, usage = response.prompt_feedback, response.usage_metadata
    return told(response, [part.inline_data.data for part in parts if part.inline_data]) | {
        "block": feedback and feedback.block_reason,
        "finish": [candidate.finish_reason for candidate in response.candidates or []],
        "tokens": usage and usage.candidates_token_count,
    }


def later(client, prompt):
    """The same through the asynchronous half of the SDK, which speaks by another HTTP library."""
    config = types.GenerateContentConfig(response_modalities=["IMAGE"])
    response = asyncio.run(client.aio.models.generate_content(model=MODEL, contents=prompt, config=config))
    return told(response, [part.inline_data.data for part in response.parts if part.inline_data])


def edit(client, prompt):
    chat = client.chats.create(model=MODEL)
    first = chat.send_message(prompt)
    second = chat.send_message("now in blue")
    return [len([part for part in answer.parts if part.inline_data]) for answer in (first, second)]


def stream(client, prompt):
    chunks = list(client.models.generate_content_stream(model=MODEL, contents=prompt))
    parts = [part for chunk in chunks for part in (chunk.candidates[0].content.parts or [])]
    return {"chunks": len(chunks), "sizes": [size(part.inline_data.data) for part in parts if part.inline_data]}


def images(client, prompt):
    config = types.GenerateImagesConfig(number_of_images=1, aspect_ratio="16:9", include_rai_reason=True)
    response = client.models.generate_images(model="imagen-4.0-generate-001", prompt=prompt, config=config)
    drawn = response.generated_images or []
    return told(response, [image.image.image_bytes for image in drawn if image.image and image.image.image_bytes]) | {
        "filtered": [image.rai_filtered_reason for image in drawn if image.rai_filtered_reason],
    }


def text(client, prompt):
    response = client.models.generate_content(model="gemini-2.5-flash", contents=prompt)
    return {"text": response.text, "headers": dict(response.sdk_http_response.headers)}


what, prompt, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
vertex = what == "images"  # which this SDK offers on Vertex AI alone
client = genai.Client(vertexai=vertex, api_key=KEY)
for _ in range(times):
    try:
        print(json.dumps(globals()[what](client, prompt)))
    except errors.APIError as error:
        print(json.dumps({"type": type(error).__name__, "code": error.code, "status": error.status}))
