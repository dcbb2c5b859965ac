"""What fal's client raises for a job that moderation stopped."""

import json

import fal_client

try:
    fal_client.subscribe("fal-ai/flux/dev", arguments={"prompt": "a duel"})
except fal_client.FalClientHTTPError as error:
    print(json.dumps({"status": error.status_code, "type": error.response.json()["detail"][0]["type"]}))
