"""What Replicate's client raises when there is no picture."""

import json

import replicate
from replicate.exceptions import ModelError, ReplicateError

try:
    replicate.run("black-forest-labs/flux-schnell", input={"prompt": "a duel"})
except ModelError as error:
    print(json.dumps({"type": "ModelError", "status": error.prediction.status, "says": error.prediction.error}))
except ReplicateError as error:
    print(json.dumps({"type": "ReplicateError", "status": error.status, "says": error.detail}))
