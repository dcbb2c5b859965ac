"""The same picture twice by fal's queue, as its client submits and follows; then once at once."""

import json
import urllib.request

import fal_client

ARGUMENTS = {"prompt": "a brass compass", "image_size": "square_hd", "output_format": "png", "seed": 5}


def told(result):
    picture = urllib.request.urlopen(result["images"][0]["url"]).read()
    return {"png": picture[:4] == b"\x89PNG", "images": len(result["images"]), "seed": result.get("seed")}


for _ in range(2):
    handle = fal_client.submit("fal-ai/flux/dev", arguments=ARGUMENTS)
    stages = [type(event).__name__ for event in handle.iter_events(interval=0.1)]
    print(json.dumps({"id": handle.request_id, "last": stages[-1]} | told(handle.get())))

print(json.dumps(told(fal_client.run("fal-ai/flux/schnell", arguments=ARGUMENTS))))
