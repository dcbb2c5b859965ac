"""The same picture twice by Replicate's client: waited for, and created and polled.

The client pays no heed to proxy variables, so it is led to pixtoll by its base URL.
"""

import json
import os
import urllib.request
from urllib.parse import urlsplit

import replicate

proxy = urlsplit(os.environ["HTTPS_PROXY"])
client = replicate.Client(base_url=f"http://{proxy.hostname}:{proxy.port}/replicate")
INPUT = {"prompt": "a brass compass", "output_format": "png", "seed": 5}

(output,) = client.run("black-forest-labs/flux-schnell", input=INPUT)
picture = urllib.request.urlopen(str(output)).read()  # the address of a file, or an object that reads it
print(json.dumps({"png": picture[:4] == b"\x89PNG"}))

prediction = client.models.predictions.create("black-forest-labs/flux-schnell", input=INPUT)
prediction.wait()
print(json.dumps({"status": prediction.status, "pictures": len(prediction.output)}))
