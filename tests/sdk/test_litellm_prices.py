"""Our price book against LiteLLM's own calculator, for every model that both know.

They agree, or a line of `litellm_differences.tsv` says why not. A difference without a reason fails, and so does a
reason without a difference.
"""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from conftest import CLIENTS, HERE, PIXTOLL, TARGET

LITELLM = TARGET / "sdk" / "litellm" / "bin" / "python"
DIFFERENCES = HERE / "litellm_differences.tsv"

# What LiteLLM calls a provider, and how it writes that provider's models. Where there are several, a model is known
# under whichever has it.
PROVIDERS = {
    "openai": [("openai", "{}")],
    "azure": [("azure", "azure/{}"), ("azure_ai", "azure_ai/{}")],
    "google": [("gemini", "gemini/{}")],
    "stability": [("stability", "stability/{}")],
    "bfl": [("black_forest_labs", "black_forest_labs/{}")],
    "fal": [("fal_ai", "fal_ai/{}")],
    "bedrock": [("bedrock", "{}")],
    "recraft": [("recraft", "recraft/{}")],
    "runway": [("runwayml", "runwayml/{}")],
    "xai": [("xai", "xai/{}")],
    "fireworks": [("fireworks_ai", "fireworks_ai/{}")],
    "aimlapi": [("aiml", "aiml/{}")],
    "nscale": [("nscale", "nscale/{}")],
    "meta": [("meta", "meta/{}")],
    "tencent": [("tencent", "tencent/{}")],
}

# Operations that have other names there.
RENAMED = {
    "stability/upscale-fast": "stability/fast",
    "stability/upscale-conservative": "stability/conservative",
    "stability/upscale-creative": "stability/creative",
}
for kind, names in {
    "edit": "erase inpaint outpaint search-and-replace search-and-recolor remove-background replace-background-and-relight",
    "control": "sketch structure style style-transfer",
}.items():
    RENAMED |= {f"stability/{kind}-{name}": f"stability/{name}" for name in names.split()}

# Rows that stand under a quality and a size of their own.
BY_SIZE = {"azure/dall-e-3": [(q, s) for q in ("standard", "hd") for s in ("1024x1024", "1024x1792", "1792x1024")]}
# Models whose price goes by the tokens of a picture.
QUALITIES = {"openai": ("low", "medium", "high"), "azure": ("low", "medium", "high")}


def pixtoll(*arguments):
    done = subprocess.run([PIXTOLL, *arguments, "--json"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout, parse_float=Decimal, parse_int=Decimal)["data"]


def litellm(request):
    done = subprocess.run([LITELLM, CLIENTS / "litellm_prices.py"], input=json.dumps(request), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def candidates(model):
    provider, name = model.split("/", 1)
    for theirs, pattern in PROVIDERS.get(provider, []):
        yield theirs, RENAMED.get(model) or pattern.format(name)


def specs(model):
    """Requests for a model, in the words of `pixtoll price`."""
    provider, name = model.split("/", 1)
    if model in BY_SIZE:
        return [(f"{model} {size} {quality} n=2", {"n": 2, "size": size, "quality": quality}) for quality, size in BY_SIZE[model]]
    if "gpt-image" in name and provider in QUALITIES:
        return [(f"{model} 1024x1024 {quality} n=2", {"n": 2, "size": "1024x1024", "quality": quality}) for quality in QUALITIES[provider]]
    if any(word in model for word in ("flux/", "flux-lora", "v1.1", "FLUX.2-flex", "nscale/")) and "ultra" not in model and "aimlapi" not in model:
        sizes = ("1024x1024", "1536x1024")
        return [(f"{model} {size} n=2", {"n": 2, "size": size}) for size in sizes]
    return [(f"{model} n=1", {"n": 1}), (f"{model} n=3", {"n": 3})]


def quoted(spec):
    """Our price, and the tokens that it reckons with."""
    data = pixtoll("price", spec)
    quote = data["quote"]
    if quote is None:
        return None, {}
    counts = {line["what"]: int(line["count"]) for line in quote["lines"]}
    tokens = {"text_in": counts.get("text in", 0), "image_out": counts["image out"]} if "image out" in counts else {}
    return Decimal(quote["expected"]), tokens


@pytest.fixture(scope="module")
def compared():
    """Each request with our price and LiteLLM's."""
    names = [name for row in pixtoll("prices", "list") for name in (row["model"], *row["aliases"])]
    asked = {(model, *one) for model in names for one in candidates(model)}
    known = litellm({"known": sorted({one[2] for one in asked})})["known"]
    by_size = {(model, *next(candidates(model))) for model in BY_SIZE}
    both = sorted(by_size | {one for one in asked if known[one[2]]})
    rows = [(spec, provider, name, options) for model, provider, name in both for spec, options in specs(model)]
    with ThreadPoolExecutor(2) as pool:
        ours = list(pool.map(lambda row: quoted(row[0]), rows))
    asks = [{"provider": provider, "model": name, **options, **tokens} for (_, provider, name, options), (_, tokens) in zip(rows, ours)]
    theirs = litellm({"asks": asks})["answers"]
    return {
        (spec, name): (price, None if cost is None else Decimal(cost).quantize(Decimal("1e-9")))
        for (spec, _, name, _), (price, _), cost in zip(rows, ours, theirs)
    }


def plain(price):
    return "none" if price is None else f"{price:f}".rstrip("0").rstrip(".") if "." in f"{price:f}" else f"{price:f}"


def differing(compared):
    return {key: prices for key, prices in compared.items() if prices[0] != prices[1]}


def reasons():
    lines = [line for line in DIFFERENCES.read_text().splitlines() if line and not line.startswith("#")]
    rows = [line.split("\t") for line in lines]
    return {(spec, name): (ours, theirs, why) for spec, name, ours, theirs, why in rows}


def test_many_models_are_known_to_both(compared):
    assert len({name for _, name in compared}) >= 100
    agreed = len(compared) - len(differing(compared))
    assert agreed >= 150, f"only {agreed} of {len(compared)} agree"


def test_every_difference_has_a_reason(compared):
    named = reasons()
    found = {key: prices for key, prices in differing(compared).items() if key not in named}
    unnamed = ["\t".join((*key, *map(plain, prices))) for key, prices in found.items()]
    assert not unnamed, "no reason is given for\n" + "\n".join(unnamed)


def test_no_reason_is_stale(compared):
    found = differing(compared)
    for key, (ours, theirs, why) in reasons().items():
        assert key in found, f"{key} agrees, or is no longer asked: take its line away"
        said = tuple(map(plain, found[key]))
        assert said == (ours, theirs), f"{key}: the difference is another now: {said}"
        assert why.strip(), key
