"""The same picture twice by BFL's API, as its documentation shows it: submit, poll, fetch."""

import json
import os
import time

import requests

KEY = {"x-key": os.environ["BFL_API_KEY"]}
BODY = {"prompt": "a brass compass", "width": 1024, "height": 1024, "output_format": "png"}

for _ in range(2):
    job = requests.post("https://api.bfl.ai/v1/flux-2-pro", headers=KEY, json=BODY, timeout=60).json()
    while True:
        told = requests.get(job["polling_url"], headers=KEY, timeout=60).json()
        if told["status"] != "Pending":
            break
        time.sleep(0.1)
    picture = requests.get(told["result"]["sample"], timeout=60).content
    print(json.dumps({"status": told["status"], "png": picture[:4] == b"\x89PNG", "cost": job.get("cost")}))
