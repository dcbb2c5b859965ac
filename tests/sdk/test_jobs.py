"""Real clients of other providers, most of which work on jobs, behind `pixtoll run`."""

import sys

import pytest


def nano(decisions):
    return round(sum(decision["cost"] or 0 for decision in decisions) * 1_000_000_000)


def test_fal_submits_follows_and_repeats_from_memory(rig):
    first, second, at_once = rig.python("fal_jobs.py")
    assert first["png"] and first["last"] == second["last"] == "Completed" and first["seed"] == second["seed"] == 5
    assert first["id"] != second["id"], "the repeat is a job of pixtoll's"
    assert at_once["png"]
    assert [bill["model"] for bill in rig.sim.bills()] == ["fal-ai/flux/dev", "fal-ai/flux/schnell"]
    decisions = rig.decisions()
    assert [decision["cache"]["status"] for decision in decisions] == ["miss", "hit", "miss"]
    assert decisions[0]["attempts"][0]["job"] == first["id"]
    assert decisions[0]["attempts"][0]["codes"]["x-fal-billable-units"] == "1"


def test_fal_raises_its_own_error_for_a_job_that_was_stopped(rig):
    rig.sim.script("fal", "safety")
    assert rig.python("fal_error.py") == [{"status": 422, "type": "content_policy_violation"}]
    assert rig.sim.bills() == []
    (decision,) = rig.decisions()
    assert decision["error"]["kind"] == "safety"


ELSEWHERE = 'return { on_request = function(call) return call:route("openai/gpt-image-2") end }'


def drawn_elsewhere(rig):
    """One picture was bought for both calls, and not where the app asked."""
    (bill,) = rig.sim.bills()
    first, second = rig.decisions()
    assert first["answered"]["model"] == "openai/gpt-image-2" and second["cache"]["status"] == "hit"
    return bill["provider"] == "openai" and rig.booked() == bill["nano_usd"]


def test_what_another_provider_draws_is_fals_own_answer(rig):
    rig.rule('return { on_request = function(call) return call:route("bfl/flux-2-pro") end }')
    first, second, at_once = rig.python("fal_jobs.py")
    assert first["png"] and second["png"] and at_once["png"]
    assert first["last"] == second["last"] == "Completed" and first["id"] != second["id"]
    (bill,) = rig.sim.bills()
    assert bill["provider"] == "bfl" and rig.booked() == bill["nano_usd"]
    assert [decision["cache"]["status"] for decision in rig.decisions()] == ["miss", "hit", "hit"]


def test_what_another_provider_draws_is_replicates_own_answer(rig):
    rig.rule(ELSEWHERE)
    ran, polled = rig.python("replicate_run.py")
    assert ran == {"png": True} and polled == {"status": "succeeded", "pictures": 1}
    assert drawn_elsewhere(rig)


def test_what_another_provider_draws_is_bfls_own_answer(rig):
    rig.rule(ELSEWHERE)
    first, second = rig.python("bfl_requests.py")
    assert first["status"] == second["status"] == "Ready" and first["png"] and second["png"]
    assert drawn_elsewhere(rig)


@pytest.mark.parametrize(
    "behaviour, raised, status",
    [("auth", "ReplicateError", 401), ("quota", "ReplicateError", 402), ("safety", "ModelError", "failed")],
)
def test_replicate_raises_its_own_error(rig, behaviour, raised, status):
    rig.sim.script("replicate", behaviour)
    (told,) = rig.python("replicate_error.py")
    assert (told["type"], told["status"]) == (raised, status) and told["says"]
    (decision,) = rig.decisions()
    assert decision["error"]["kind"] == behaviour and decision["error"]["by"] == "provider"
    assert rig.sim.bills() == []
    # Whether Replicate charges for what moderation stops is nowhere said, so that is no zero.
    assert (rig.booked() > 0) == (behaviour == "safety")


def test_a_rules_refusal_is_replicates_own_error(rig):
    rig.rule('return { on_request = function(call) return call:refuse("no duels") end }')
    (told,) = rig.python("replicate_error.py")
    assert (told["type"], told["status"]) == ("ReplicateError", 403) and "no duels" in told["says"]
    assert rig.sim.requests() == []


def test_replicate_runs_and_polls(rig):
    ran, polled = rig.python("replicate_run.py")
    assert ran == {"png": True} and polled == {"status": "succeeded", "pictures": 1}
    assert len(rig.sim.bills()) == 1
    assert [decision["cache"]["status"] for decision in rig.decisions()] == ["miss", "hit"]


def test_replicate_runs_a_version_that_is_paid_by_the_second(rig):
    client = """import replicate
print(len(replicate.run("someone/sdxl-ft:39ed52f2a78e934b3ba6e2a89f5b1c712de7dfea535525255b1aa35c5565e08b", input={"prompt": "a boat"})))"""
    assert rig.run(sys.executable, "-c", client).stdout == "1\n"
    assert len(rig.sim.bills()) == 1 and len(rig.decisions()) == 1


def test_stability_as_its_own_documentation_asks_it(rig):
    """With the empty file `none`, which makes `requests` send a form."""
    client = """import requests
for _ in range(2):
    answer = requests.post("https://api.stability.ai/v2beta/stable-image/generate/core", files={"none": ""},
        headers={"authorization": "Bearer sk-canary-of-the-app", "accept": "image/*"}, data={"prompt": "a boat", "output_format": "webp"})
    print(answer.status_code, answer.content[8:12].decode(), answer.headers["cache-status"][:12])"""
    first, second = rig.run(sys.executable, "-c", client).stdout.splitlines()
    assert first.startswith("200 WEBP pixtoll; fwd") and second == "200 WEBP pixtoll; hit"
    assert len(rig.sim.bills()) == 1 and nano(rig.decisions()) == rig.billed()


def test_bfl_by_requests(rig):
    first, second = rig.python("bfl_requests.py")
    assert first == {"status": "Ready", "png": True, "cost": 3.0}
    assert second["status"] == "Ready" and second["png"] and second["cost"] is None
    (bill,) = rig.sim.bills()
    assert nano(rig.decisions()) == bill["nano_usd"] == 30_000_000
