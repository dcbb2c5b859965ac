"""Google's own Python SDK behind `pixtoll run`: Gemini image models, and Imagen as on Vertex AI."""

import pytest
from conftest import Sim

BANANA = "google/gemini-nano-banana-2.1"
PRICES = """
version: 1
models:
- model: google/gemini-nano-banana-2.1
  capability:
    operations: [generate, edit]
    sizes: {aspects: {"1:1": 1024x1024, "16:9": 1376x768}}
    usual: 1024x1024
    formats: [png]
    max_inputs: 14
    deliveries: [base64]
  price:
    tokens:
      usd_per_million: {text_in: 1.5, image_in: 1.5, text_out: 7.5, image_out: 30}
      out: {table: 1120}
  source: a test
  as_of: 2026-11-22
"""


def nano(decisions):
    return round(sum(decision["cost"] for decision in decisions) * 1_000_000_000)


def billed(rig):
    return sum(bill["nano_usd"] for bill in rig.sim.bills())


@pytest.fixture
def google(rig, tmp_path):
    """The rig with Google's model in its price book."""
    (tmp_path / "google.yaml").write_text(PRICES)
    rig.more = {"prices": [str(tmp_path / "google.yaml")]}
    rig.configure(**rig.more)
    return rig


def rule(rig, tmp_path, lua):
    (tmp_path / "rule.lua").write_text(lua)
    rig.configure(plugins=[str(tmp_path / "rule.lua")], **rig.more)


def test_a_picture_and_its_repeat_from_memory(google):
    first, second = google.python("google_generate.py", "content", "a brass compass", 2)
    assert first["sizes"] == second["sizes"] == [[1376, 768]]
    assert first["tokens"] == 1120
    assert "hit" not in first["headers"]["cache-status"]
    assert second["headers"]["cache-status"].startswith("pixtoll; hit")
    assert first["headers"]["x-pixtoll-route"] == BANANA
    assert len(google.sim.bills()) == 1 and nano(google.decisions()) == billed(google)


def test_the_asynchronous_client(google):
    (told,) = google.python("google_generate.py", "later", "a brass compass", 1)
    assert told["sizes"] == [[1024, 1024]] and told["headers"]["x-pixtoll-route"] == BANANA
    assert nano(google.decisions()) == billed(google)


def test_a_conversation_draws_and_draws_again(google):
    assert google.python("google_generate.py", "edit", "a brass compass", 1) == [[1, 1]]
    assert [decision["operation"] for decision in google.decisions()] == ["generate", "edit"]
    assert nano(google.decisions()) == billed(google)


def test_a_streamed_picture(google):
    (told,) = google.python("google_generate.py", "stream", "a brass compass", 1)
    assert told == {"chunks": 3, "sizes": [[1024, 1024]]}
    assert nano(google.decisions()) == billed(google)


def test_words_alone_pass_untouched(google):
    (told,) = google.python("google_generate.py", "text", "hello", 1)
    assert told["text"] and "x-pixtoll-decision" not in {name.lower() for name in told["headers"]}
    assert google.decisions() == []


@pytest.mark.parametrize(
    "behaviour, block, finish",
    [("safety", "PROHIBITED_CONTENT", []), ("safety_output", None, ["IMAGE_SAFETY"])],
)
def test_a_safety_block_is_the_sdks_own(google, behaviour, block, finish):
    google.sim.script("google", behaviour)
    (told,) = google.python("google_generate.py", "content", "a duel", 1)
    assert (told["block"], told["finish"], told["sizes"]) == (block, finish, [])
    (decision,) = google.decisions()
    assert decision["error"]["kind"] == "safety"
    assert nano([decision]) == billed(google) > 0, "what was read and thought, and no picture"


@pytest.mark.parametrize(
    "behaviour, expected",
    [
        ("auth", {"type": "ClientError", "code": 400, "status": "INVALID_ARGUMENT"}),
        ("rate_limited", {"type": "ClientError", "code": 429, "status": "RESOURCE_EXHAUSTED"}),
        ("retired", {"type": "ClientError", "code": 404, "status": "NOT_FOUND"}),
        ("overloaded", {"type": "ServerError", "code": 503, "status": "UNAVAILABLE"}),
    ],
)
def test_an_error_is_the_sdks_own_exception(google, behaviour, expected):
    google.sim.script("google", behaviour)
    assert google.python("google_generate.py", "content", "a kite", 1) == [expected]
    assert google.sim.bills() == []


def test_a_rules_refusal_is_the_sdks_own_exception(google, tmp_path):
    rule(google, tmp_path, 'return { on_request = function(call) return call:refuse("no kites") end }')
    (told,) = google.python("google_generate.py", "content", "a kite", 1)
    assert told == {"type": "ClientError", "code": 403, "status": "PERMISSION_DENIED"}


@pytest.mark.parametrize("target", ["openai/gpt-image-2", "stability/sd3.5-medium"])
def test_what_another_provider_draws_is_googles_answer(google, tmp_path, target):
    google.environment["OPENAI_API_KEY"] = "sk-canary-of-pixtoll"
    rule(google, tmp_path, f'return {{ on_request = function(call) return call:route("{target}", {{ max_share = 9 }}) end }}')
    (told,) = google.python("google_generate.py", "content", "a brass compass", 1)
    assert len(told["sizes"]) == 1 and told["finish"] == ["STOP"]
    assert told["headers"]["x-pixtoll-route"] == target


def test_imagen_where_it_is_still_served(google):
    google.sim.close()
    google.sim = Sim(google.environment, "--retired")
    google.configure(**google.more)
    first, second = google.python("google_generate.py", "images", "a brass compass", 2)
    assert first["sizes"] == second["sizes"] == [[1408, 768]]
    assert len(google.sim.bills()) == 1
    google.sim.script("google", "safety_output")
    (told,) = google.python("google_generate.py", "images", "a duel", 1)
    assert told["sizes"] == [] and "Support codes" in told["filtered"][0]


def test_a_gone_imagen_is_drawn_by_its_successor(google, tmp_path):
    rule(
        google,
        tmp_path,
        f"""return {{ on_failure = function(call, failure)
             if failure.kind == "retired" then return call:route("{BANANA}", {{ reason = "gone" }}) end
           end }}""",
    )
    (told,) = google.python("google_generate.py", "images", "a brass compass", 1)
    assert told["sizes"] == [[1376, 768]]
    (decision,) = google.decisions()
    assert decision["answered"]["model"] == BANANA and nano([decision]) == billed(google)
