"""The usual clients for Node, behind `pixtoll run`: with what Node 24 reads, and with a shim on Node 20."""

import pytest
from conftest import NODE_20

CLIENTS = ["openai", "google", "replicate", "replicate, polled", "fal", "fal, queued"]
PICTURE = {"png": True, "width": 1024}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_picture_and_its_repeat_from_memory(rig, client):
    assert rig.node("node_clients.mjs", client, 2) == [PICTURE] * 2
    first, second = rig.decisions()
    assert (first["cache"]["status"], second["cache"]["status"]) == ("miss", "hit")
    assert second["cost"] == 0 and first["app"] == "node"
    assert len(rig.sim.bills()) == 1 and rig.booked() == rig.billed() > 0
    assert "2 calls · 1 from memory" in rig.stderr


@pytest.mark.parametrize(
    "client, provider, behaviour, told",
    [
        ("openai", "openai", "quota", {"error": "RateLimitError", "status": 429}),
        ("google", "google", "retired", {"error": "ApiError", "status": 404}),
        ("replicate", "replicate", "auth", {"error": "ApiError", "status": 401}),
        ("fal, queued", "fal", "safety", {"error": "ValidationError", "status": 422}),
    ],
)
def test_an_error_is_the_clients_own(rig, client, provider, behaviour, told):
    rig.sim.script(provider, behaviour)
    assert rig.node("node_clients.mjs", client, 1) == [told]
    assert rig.sim.bills() == []
    assert rig.decisions()[0]["error"]["by"] == "provider"


@pytest.mark.parametrize("client", CLIENTS)
def test_what_another_provider_draws_is_the_clients_own_answer(rig, client):
    target = "stability/sd3.5-medium" if client == "openai" else "openai/gpt-image-2"
    rig.rule(f'return {{ on_request = function(call) return call:route("{target}") end }}')
    (told,) = rig.node("node_clients.mjs", client, 1)
    assert told["png"]
    (decision,) = rig.decisions()
    assert decision["answered"]["model"] == target
    (bill,) = rig.sim.bills()
    assert f"{bill['provider']}/{bill['model']}" == target and rig.booked() == bill["nano_usd"]


@pytest.mark.parametrize("client", ["fetch", "https", "openai", "replicate", "fal, queued"])
def test_a_shim_brings_node_20_along(rig, client):
    rig.environment["NODE_OPTIONS"] = "--no-warnings"
    assert rig.node("node_clients.mjs", client, 2, node=NODE_20, options=["--shim"]) == [PICTURE] * 2
    first, second = rig.decisions()
    assert (first["via"], first["cache"]["status"], second["cache"]["status"]) == ("intercept", "miss", "hit")
    assert first["app"] == "node" and rig.booked() == rig.billed() > 0


def test_a_shim_leaves_a_node_alone_that_can_do_without(rig):
    assert rig.node("node_clients.mjs", "fetch", 2, options=["--shim"]) == [PICTURE] * 2
    assert len(rig.sim.bills()) == 1
