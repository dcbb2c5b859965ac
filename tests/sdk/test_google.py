"""Google's own Python SDK behind `pixtoll run`: Gemini image models, and Imagen as on Vertex AI."""

import pytest
from conftest import Sim

BANANA = "google/gemini-nano-banana-2.1"


def nano(decisions):
    return round(sum(decision["cost"] for decision in decisions) * 1_000_000_000)


def billed(rig):
    return sum(bill["nano_usd"] for bill in rig.sim.bills())


def rule(rig, tmp_path, lua):
    (tmp_path / "rule.lua").write_text(lua)
    rig.configure(plugins=[str(tmp_path / "rule.lua")])


def test_a_picture_and_its_repeat_from_memory(rig):
    first, second = rig.python("google_generate.py", "content", "a brass compass", 2)
    assert first["sizes"] == second["sizes"] == [[1376, 768]]
    assert first["tokens"] == 1120
    assert "hit" not in first["headers"]["cache-status"]
    assert second["headers"]["cache-status"].startswith("pixtoll; hit")
    assert first["headers"]["x-pixtoll-route"] == BANANA
    assert len(rig.sim.bills()) == 1 and nano(rig.decisions()) == billed(rig)


def test_the_asynchronous_client(rig):
    (told,) = rig.python("google_generate.py", "later", "a brass compass", 1)
    assert told["sizes"] == [[1024, 1024]] and told["headers"]["x-pixtoll-route"] == BANANA
    assert nano(rig.decisions()) == billed(rig)


def test_a_conversation_draws_and_draws_again(rig):
    assert rig.python("google_generate.py", "edit", "a brass compass", 1) == [[1, 1]]
    assert [decision["operation"] for decision in rig.decisions()] == ["generate", "edit"]
    assert nano(rig.decisions()) == billed(rig)


def test_a_streamed_picture(rig):
    (told,) = rig.python("google_generate.py", "stream", "a brass compass", 1)
    assert told == {"chunks": 3, "sizes": [[1024, 1024]]}
    assert nano(rig.decisions()) == billed(rig)


def test_words_alone_pass_untouched(rig):
    (told,) = rig.python("google_generate.py", "text", "hello", 1)
    assert told["text"] and "x-pixtoll-decision" not in {name.lower() for name in told["headers"]}
    assert rig.decisions() == []


@pytest.mark.parametrize(
    "behaviour, block, finish",
    [("safety", "PROHIBITED_CONTENT", []), ("safety_output", None, ["IMAGE_SAFETY"])],
)
def test_a_safety_block_is_the_sdks_own(rig, behaviour, block, finish):
    rig.sim.script("google", behaviour)
    (told,) = rig.python("google_generate.py", "content", "a duel", 1)
    assert (told["block"], told["finish"], told["sizes"]) == (block, finish, [])
    (decision,) = rig.decisions()
    assert decision["error"]["kind"] == "safety"
    assert nano([decision]) == billed(rig) > 0, "what was read and thought, and no picture"


@pytest.mark.parametrize(
    "behaviour, expected",
    [
        ("auth", {"type": "ClientError", "code": 400, "status": "INVALID_ARGUMENT"}),
        ("rate_limited", {"type": "ClientError", "code": 429, "status": "RESOURCE_EXHAUSTED"}),
        ("retired", {"type": "ClientError", "code": 404, "status": "NOT_FOUND"}),
        ("overloaded", {"type": "ServerError", "code": 503, "status": "UNAVAILABLE"}),
    ],
)
def test_an_error_is_the_sdks_own_exception(rig, behaviour, expected):
    rig.sim.script("google", behaviour)
    assert rig.python("google_generate.py", "content", "a kite", 1) == [expected]
    assert rig.sim.bills() == []


def test_a_rules_refusal_is_the_sdks_own_exception(rig, tmp_path):
    rule(rig, tmp_path, 'return { on_request = function(call) return call:refuse("no kites") end }')
    (told,) = rig.python("google_generate.py", "content", "a kite", 1)
    assert told == {"type": "ClientError", "code": 403, "status": "PERMISSION_DENIED"}


@pytest.mark.parametrize("target", ["openai/gpt-image-2", "stability/sd3.5-medium"])
def test_what_another_provider_draws_is_googles_answer(rig, tmp_path, target):
    rig.environment["OPENAI_API_KEY"] = "sk-canary-of-pixtoll"
    rule(rig, tmp_path, f'return {{ on_request = function(call) return call:route("{target}", {{ max_share = 9 }}) end }}')
    (told,) = rig.python("google_generate.py", "content", "a brass compass", 1)
    assert len(told["sizes"]) == 1 and told["finish"] == ["STOP"]
    assert told["headers"]["x-pixtoll-route"] == target


def test_imagen_where_it_is_still_served(rig):
    rig.sim.close()
    rig.sim = Sim(rig.environment, "--retired")
    rig.configure()
    first, second = rig.python("google_generate.py", "images", "a brass compass", 2)
    assert first["sizes"] == second["sizes"] == [[1408, 768]]
    assert len(rig.sim.bills()) == 1
    rig.sim.script("google", "safety_output")
    (told,) = rig.python("google_generate.py", "images", "a duel", 1)
    assert told["sizes"] == [] and "Support codes" in told["filtered"][0]


def test_a_gone_imagen_is_drawn_by_its_successor(rig, tmp_path):
    rule(
        rig,
        tmp_path,
        f"""return {{ on_failure = function(call, failure)
             if failure.kind == "retired" then return call:route("{BANANA}", {{ reason = "gone" }}) end
           end }}""",
    )
    (told,) = rig.python("google_generate.py", "images", "a brass compass", 1)
    assert told["sizes"] == [[1376, 768]]
    (decision,) = rig.decisions()
    assert decision["answered"]["model"] == BANANA and nano([decision]) == billed(rig)
