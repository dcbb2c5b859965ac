"""Azure OpenAI by the official client, at the address that its own variable names: all that pixtoll is told of it."""

import pytest

HOST = "contoso-img.openai.azure.com"


@pytest.fixture
def azure(rig):
    def configure(**more):
        providers = {name: {"upstream": rig.sim.url} for name in ("azure", "stability")}
        rig.configure(providers=providers, **more)

    configure()
    rig.azure = configure
    keys = {"AZURE_OPENAI_API_KEY": "sk-canary-of-the-app", "STABILITY_API_KEY": "sk-canary-of-pixtoll"}
    rig.environment |= {"AZURE_OPENAI_ENDPOINT": f"https://{HOST}"} | keys
    return rig


def test_a_picture_and_its_repeat_from_memory(azure):
    first, second = azure.python("azure_generate.py")
    assert first["png"] and "hit" not in first["cache"] and "hit" in second["cache"]
    (bill,) = azure.sim.bills()
    assert bill["provider"] == "azure" and azure.booked() == bill["nano_usd"]
    assert azure.decisions()[0]["asked"]["model"] == "azure/gpt-image-2.5-flare"


def test_an_error_is_the_clients_own(azure):
    azure.sim.script("azure", "rate_limited", "retired")
    limited, gone = azure.python("azure_generate.py")
    assert limited == {"error": "RateLimitError", "code": "RateLimitReached"}
    assert gone == {"error": "NotFoundError", "code": "DeploymentNotFound"}
    assert azure.sim.bills() == []


def test_what_another_provider_draws_is_the_clients_own_answer(azure, tmp_path):
    rule = tmp_path / "rule.lua"
    rule.write_text('return { on_request = function(call) return call:route("stability/sd3.5-medium") end }')
    azure.azure(plugins=[str(rule)])
    first, second = azure.python("azure_generate.py")
    assert first["png"] and "hit" in second["cache"]
    (bill,) = azure.sim.bills()
    assert bill["provider"] == "stability" and azure.booked() == bill["nano_usd"]
