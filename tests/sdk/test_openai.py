"""The real clients behind `pixtoll run`, with nothing but the environment that it sets."""

import json
import subprocess
import sys

import pytest
from conftest import CLIENTS

ICONS = {"plugins": [{"use": "icons_to_cheap", "with": {"to": "stability/sd3.5-medium"}}]}
CHAIN = {"plugins": [{"use": "retry_chain", "with": {"chain": ["stability/sd3.5-medium"]}}]}


def nano(decisions):
    return round(sum(decision["cost"] for decision in decisions) * 1_000_000_000)


def test_generate_and_a_repeat_from_memory(rig):
    first, second = rig.python("openai_generate.py", "a brass compass", 2)
    assert first["png"] and first["size"] == [1024, 1024]
    assert "hit" not in first["headers"]["cache-status"]
    assert second["headers"]["cache-status"].startswith("pixtoll; hit")
    assert first["headers"]["x-pixtoll-route"] == "openai/gpt-image-2"
    assert len(rig.sim.bills()) == 1
    assert nano(rig.decisions()) == sum(bill["nano_usd"] for bill in rig.sim.bills())
    assert "2 calls · 1 from memory" in rig.stderr


def test_twenty_equal_calls_at_once_are_bought_once(rig):
    rig.sim.script("openai", "slow delay_ms=1500")
    assert rig.python("openai_many.py") == [1]
    assert len(rig.sim.bills()) == 1
    statuses = [decision["cache"]["status"] for decision in rig.decisions()]
    assert statuses.count("miss") == 1 and set(statuses) <= {"miss", "collapsed", "hit"} and len(statuses) == 20


def test_a_rule_moves_a_call_and_the_answer_is_openais(rig):
    rig.configure(**ICONS)
    (answer,) = rig.python("openai_generate.py", "flat icon of a fox", 1, '{"quality": "medium"}')
    assert answer["png"] and answer["headers"]["x-pixtoll-route"] == "stability/sd3.5-medium"
    (bill,) = rig.sim.bills()
    assert bill["provider"] == "stability"
    (decision,) = rig.decisions()
    assert decision["rules"][0]["plugin"] == "icons_to_cheap" and decision["rules"][0]["applied"]
    assert decision["answered"]["model"] == "stability/sd3.5-medium"


def test_a_streamed_call(rig):
    (types,) = rig.python("openai_stream.py")
    assert types == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    (decision,) = rig.decisions()
    assert decision["asked"]["stream"] and nano([decision]) == rig.sim.bills()[0]["nano_usd"]


def test_an_edit_with_an_uploaded_file_and_its_repeat(rig):
    first, second = rig.python("openai_edit.py")
    assert first["pictures"] == second["pictures"] == 1
    assert "hit" in second["cache"]
    assert len(rig.sim.bills()) == 1
    assert rig.decisions()[0]["operation"] == "edit" and rig.decisions()[0]["asked"]["inputs"]


def test_a_safety_block_follows_the_chain_that_a_rule_names(rig, tmp_path):
    rule = tmp_path / "soften.lua"
    rule.write_text(
        """return { on_failure = function(call, failure)
             if failure.kind == "safety" then return call:route("stability/sd3.5-medium", { reason = "safety block" }) end
           end }"""
    )
    rig.configure(plugins=[str(rule)])
    rig.sim.script("openai", "safety")
    (answer,) = rig.python("openai_generate.py", "a duel", 1)
    assert answer["headers"]["x-pixtoll-route"] == "stability/sd3.5-medium"
    (decision,) = rig.decisions()
    assert [attempt["outcome"] for attempt in decision["attempts"]] == ["failed", "ok"]
    assert decision["attempts"][0]["failure"]["kind"] == "safety"
    assert len(rig.sim.bills()) == 1


def test_an_overloaded_provider_is_left_along_the_chain(rig):
    rig.configure(**CHAIN)
    rig.sim.script("openai", *["overloaded"] * 3)
    (answer,) = rig.python("openai_generate.py", "a bowl of pears", 1)
    assert answer["headers"]["x-pixtoll-route"] == "stability/sd3.5-medium"
    assert len(rig.sim.bills()) == 1


@pytest.mark.parametrize(
    "behaviour, expected",
    [
        ("safety", {"type": "BadRequestError", "status": 400, "code": "moderation_blocked"}),
        ("auth", {"type": "AuthenticationError", "status": 401, "code": "invalid_api_key"}),
        ("rate_limited retry_after=0", {"type": "RateLimitError", "status": 429, "code": "rate_limit_exceeded"}),
    ],
)
def test_an_error_is_the_sdks_own_exception(rig, behaviour, expected):
    rig.sim.script("openai", *[behaviour] * 4)
    assert rig.python("openai_error.py", "a kite", 0) == [expected]
    assert rig.sim.bills() == []


def test_an_answer_that_was_lost_is_not_paid_for_again(rig):
    rig.sim.script("openai", "drop")
    (told,) = rig.python("openai_error.py", "a kite", 2)
    assert told["status"] == 502
    assert len(rig.sim.bills()) == 1, "the SDK was told not to retry what may have been billed"
    (decision,) = rig.decisions()
    assert decision["attempts"][0]["outcome"] == "unknown" and decision["causes"]["unknown"] > 0


@pytest.mark.parametrize("behaviour, status", [("server billed=yes", 500), ("html billed=yes", 502), ("cut", None)])
def test_a_failure_that_may_have_been_billed_is_not_bought_again_by_the_sdk(rig, behaviour, status):
    rig.sim.script("openai", *[behaviour] * 3)
    (told,) = rig.python("openai_error.py", "a kite", 2)
    assert told["status"] == status or status is None
    assert len(rig.sim.bills()) == 1 and len(rig.sim.requests()) == 1
    charges = [attempt["charge"] for decision in rig.decisions() for attempt in decision["attempts"]]
    assert len(charges) == 1 and charges[0] >= rig.sim.bills()[0]["nano_usd"] / 1e9


def test_a_client_that_times_out_and_retries_pays_once(rig):
    rig.sim.script("openai", "slow delay_ms=3500")
    (answer,) = rig.python("openai_timeout.py")
    assert answer["pictures"] == 1
    assert len(rig.sim.bills()) == 1
    decisions = rig.decisions()
    assert len(decisions) > 1 and sum(len(decision["attempts"]) for decision in decisions) == 1


def test_chat_and_models_pass_untouched(rig):
    (told,) = rig.python("openai_others.py")
    assert told["models"] > 0 and told["chat"] == "assistant" and told["chunks"] > 1
    assert told["touched"] == []
    assert rig.decisions() == []


@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_libraries_that_know_nothing_of_images(rig, library):
    first, second = rig.python("plain_generate.py", library)
    assert first["status"] == second["status"] == 200 and first["png"] and second["png"]
    assert "hit" not in first["cache"] and "hit" in second["cache"]
    assert len(rig.sim.bills()) == 1


@pytest.mark.parametrize("library, raised", [("requests", "HTTPError"), ("httpx", "HTTPStatusError")])
def test_an_error_is_what_their_own_check_raises(rig, library, raised):
    rig.sim.script("openai", "quota", "retired")
    spent, gone = rig.python("plain_generate.py", library)
    assert spent == {"error": raised, "status": 429, "code": "insufficient_quota"}
    assert gone == {"error": raised, "status": 404, "code": "model_not_found"}
    assert rig.sim.bills() == []


@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_what_another_provider_draws_for_them_is_openais_answer(rig, library):
    rig.rule('return { on_request = function(call) return call:route("stability/sd3.5-medium") end }')
    first, second = rig.python("plain_generate.py", library)
    assert first["png"] and second["png"] and "hit" in second["cache"]
    (bill,) = rig.sim.bills()
    assert bill["provider"] == "stability" and rig.booked() == bill["nano_usd"]


def test_curl(rig):
    body = json.dumps({"model": "gpt-image-2", "prompt": "a brass compass", "size": "1024x1024", "quality": "low"})
    command = ["curl", "-sS", "-D", "-", "-o", "answer.json", "https://api.openai.com/v1/images/generations"]
    command += ["-H", "content-type: application/json", "-H", "authorization: Bearer sk-canary-of-the-app", "-d", body]
    first, second = (rig.run(*command).stdout.lower() for _ in range(2))
    assert "cache-status: pixtoll; fwd=uri-miss; stored" in first or "cache-status: pixtoll; fwd=uri-miss" in first
    assert len(json.loads((rig.directory / "answer.json").read_text())["data"]) == 1
    # Each `run` has a memory of its own, so the second process buys again: the bill says so too.
    assert len(rig.sim.bills()) == 2 and "200" in second


def test_exit_codes_are_the_commands_own(rig):
    assert rig.run("sh", "-c", "exit 7", check=False).returncode == 7
    assert rig.run("sh", "-c", "kill -TERM $$", check=False).returncode == 143
    assert rig.run("no-such-command-here", check=False).returncode == 127
    assert rig.run(CLIENTS / "node_clients.mjs", check=False).returncode == 126
    rig.config.write_text("cache: {tll: 1h}")
    broken = rig.run("true", check=False)
    assert broken.returncode == 125 and "ttl" in broken.stderr


def test_a_run_without_calls_says_so(rig):
    done = rig.run("true")
    assert "no image calls seen" in done.stderr and "`pixtoll doctor`" in done.stderr


def test_a_retired_model_is_named_with_its_cure(rig):
    client = "from openai import OpenAI, NotFoundError\ntry: OpenAI().images.generate(model='dall-e-3', prompt='x')\nexcept NotFoundError: pass"
    done = rig.run(sys.executable, "-c", client)
    assert "openai/dall-e-3 is gone" in done.stderr and "--plugin retired_models" in done.stderr


def test_a_refused_certificate_is_told_with_its_cure(rig):
    """A client with roots of its own, which no variable reaches."""
    client = """import certifi, ssl, urllib.request as web
try: web.urlopen("https://api.openai.com/v1/models", context=ssl.create_default_context(cafile=certifi.where()))
except web.URLError: pass"""
    done = rig.run(sys.executable, "-c", client)
    assert "did not accept pixtoll's certificate for api.openai.com" in done.stderr and "`pixtoll doctor`" in done.stderr


def test_a_simulation_takes_no_key_and_says_that_nothing_was_billed(rig):
    """`--sim`: the client finds a key that opens nothing, and an app's own key is not lent to it."""
    del rig.environment["OPENAI_API_KEY"]
    shows = "import os; from openai import OpenAI; OpenAI().images.generate(model='gpt-image-2', prompt='x'); print(os.environ['OPENAI_API_KEY'])"
    for own in ({}, {"OPENAI_API_KEY": "sk-canary-of-the-app"}):
        keys = {name: value for name, value in rig.environment.items() if "canary" not in value}
        rig.environment = keys | own
        done = rig.run(sys.executable, "-c", shows, options=["--sim"])
        assert done.stdout == "sk-simulated\n" and "nothing was billed" in done.stderr
    assert rig.sim.bills() == []
