"""The same picture twice by Replicate's client: waited for, and created and polled.

The client pays no heed to proxy variables; the base URL that `run` sets leads it to pixtoll.
"""

import json
import urllib.request

import replicate

INPUT = {"prompt": "a brass compass", "output_format": "png", "seed": 5}

(output,) = replicate.run("black-forest-labs/flux-schnell", input=INPUT)
picture = urllib.request.urlopen(str(output)).read()  # the address of a file, or an object that reads it
print(json.dumps({"png": picture[:4] == b"\x89PNG"}))

prediction = replicate.models.predictions.create("black-forest-labs/flux-schnell", input=INPUT)
prediction.wait()
print(json.dumps({"status": prediction.status, "pictures": len(prediction.output)}))
