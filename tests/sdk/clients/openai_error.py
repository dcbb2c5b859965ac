"""An error must reach the app as the SDK's own exception."""

import json
import sys

import openai

try:
    openai.OpenAI(max_retries=int(sys.argv[2])).images.generate(model="gpt-image-2", prompt=sys.argv[1], quality="low")
except openai.APIStatusError as error:
    print(json.dumps({"type": type(error).__name__, "status": error.status_code, "code": error.code}))
except openai.APIConnectionError as error:
    print(json.dumps({"type": type(error).__name__, "status": None, "code": None}))
