"""OpenAI's Responses API with its image tool, by the official client."""

import pytest

DRAWN = {"pictures": [True], "failed": [], "says": "Here is the picture."}


def pictures(rig):
    """The image model's bills; the text model's stand beside them."""
    return [bill for bill in rig.sim.bills() if bill["model"].startswith("gpt-image")]


def test_a_picture_and_its_repeat_from_memory(rig):
    assert rig.python("openai_responses.py", "whole", 2) == [DRAWN] * 2
    (bill,) = pictures(rig)
    assert rig.booked() == bill["nano_usd"]
    first, second = rig.decisions()
    assert (first["dialect"], first["cache"]["status"], second["cache"]["status"]) == ("responses", "miss", "hit")
    # The text model is paid for too, and what it costs is not in the book: that is said.
    assert len(rig.sim.bills()) == 2 and first["attempts"][0]["codes"]["usage.charge"] == "unpriced"


def test_a_stream_with_partial_pictures_and_its_repeat(rig):
    streamed = {"partials": 2, "last": "response.completed"} | DRAWN
    assert rig.python("openai_responses.py", "stream", 2) == [streamed] * 2
    (bill,) = pictures(rig)
    assert rig.booked() == bill["nano_usd"]
    assert [decision["asked"]["stream"] for decision in rig.decisions()] == [True, True]


def test_a_conversation_draws_where_it_is(rig):
    assert rig.python("openai_responses.py", "whole", 1, '{"tool_choice": "auto"}') == [DRAWN]
    (decision,) = rig.decisions()
    assert decision["asked"]["model"] == "openai/gpt-5.2" and decision["attempts"][0]["charge_from"] == "unpriced"


def test_words_alone_pass_untouched(rig):
    (told,) = rig.python("openai_responses.py", "whole", 1, '{"tools": [], "tool_choice": "auto"}')
    assert told["says"] and told["pictures"] == []
    assert rig.decisions() == []


@pytest.mark.parametrize(
    "behaviour, told",
    [
        ("safety", {"pictures": [], "failed": ["moderation_blocked"], "says": "Here is the picture."}),
        ("quota", {"error": "RateLimitError", "code": "insufficient_quota"}),
        ("retired", {"error": "NotFoundError", "code": "model_not_found"}),
    ],
)
def test_a_failure_is_told_as_the_api_tells_it(rig, behaviour, told):
    rig.sim.script("openai", behaviour)
    assert rig.python("openai_responses.py", "whole", 1) == [told]
    assert pictures(rig) == []
    assert rig.decisions()[0]["error"]["kind"] == behaviour


@pytest.mark.parametrize("how", ["whole", "stream"])
def test_a_forced_picture_is_moved_and_told_in_the_same_words(rig, how):
    rig.rule('return { on_request = function(call) return call:route("stability/sd3.5-medium") end }')
    (told,) = rig.python("openai_responses.py", how, 1)
    assert told["pictures"] == [True]
    (bill,) = rig.sim.bills()
    assert bill["provider"] == "stability" and rig.booked() == bill["nano_usd"]
