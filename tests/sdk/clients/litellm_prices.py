"""What LiteLLM's own calculator makes of a picture: asks on standard input, answers on standard output, as JSON.

An ask is {provider, model, n, size?, quality?, text_in?, image_out?}. An answer is an amount in US dollars as text, or
null where LiteLLM has no price. Runs in an environment of its own: LiteLLM pins clients that other tests use.
"""

import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # the prices that came with it, and no network

import litellm
from litellm.types.utils import ImageObject, ImageResponse, ImageUsage, ImageUsageInputTokensDetails


def answer(ask):
    usage = None
    if ask.get("image_out") is not None:
        text_in = ask.get("text_in", 0)
        usage = ImageUsage(
            input_tokens=text_in,
            input_tokens_details=ImageUsageInputTokensDetails(image_tokens=0, text_tokens=text_in),
            output_tokens=ask["image_out"],
            total_tokens=text_in + ask["image_out"],
        )
    drawn = None
    if "size" in ask:
        width, height = map(int, ask["size"].split("x"))
        drawn = {"width": width, "height": height}
    picture = ImageObject(url="https://example.com/x.png", provider_specific_fields=drawn)
    pictures = ImageResponse(data=[picture] * ask["n"], usage=usage)
    pictures.size = ask.get("size")
    pictures.quality = ask.get("quality")
    cost = litellm.completion_cost(
        completion_response=pictures,
        model=ask["model"],
        custom_llm_provider=ask["provider"],
        call_type="image_generation",
        size=ask.get("size"),
        quality=ask.get("quality"),
        n=ask["n"],
        optional_params={key: ask[key] for key in ("size", "quality") if key in ask},
    )
    return f"{cost:.12f}"


def main():
    request = json.load(sys.stdin)
    known = {name: ask_known(name) for name in request.get("known", [])}
    answers = []
    for ask in request.get("asks", []):
        try:
            answers.append(answer(ask))
        except Exception as error:  # it raises all kinds where it has no price
            answers.append(None)
            print(f"{ask}: {error}", file=sys.stderr)
    json.dump({"known": known, "answers": answers}, sys.stdout)


def ask_known(name):
    row = litellm.model_cost.get(name)
    return bool(row) and row.get("mode") in ("image_generation", "image_edit")


main()
