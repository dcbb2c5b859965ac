"""Python's clients that read no proxy variables, brought along by `run --shim`."""

import json

import pytest


@pytest.mark.parametrize("options, session", [([], '{"trust_env": true}'), (["--shim"], "{}"), (["--shim"], '{"trust_env": false}')])
def test_aiohttp_generates_and_repeats_from_memory(rig, options, session):
    first, second = rig.python("aiohttp_generate.py", 2, session, options=options)
    assert first["png"] and second["png"] and "hit" in second["cache"]
    assert len(rig.sim.bills()) == 1 and rig.booked() == rig.billed()
    assert [decision["via"] for decision in rig.decisions()] == ["intercept"] * 2


def test_aiohttp_raises_its_own_error(rig):
    rig.sim.script("openai", "overloaded")
    assert rig.python("aiohttp_generate.py", 1, "{}", options=["--shim"]) == [{"error": "ClientResponseError", "status": 503}]


def test_aiohttp_is_moved_by_a_rule(rig):
    rig.rule('return { on_request = function(call) return call:route("stability/sd3.5-medium") end }')
    (told,) = rig.python("aiohttp_generate.py", 1, "{}", options=["--shim"])
    assert told["png"] and rig.sim.bills()[0]["provider"] == "stability"


def test_replicate_comes_through_where_its_base_url_is_the_apps_own(rig):
    rig.environment["REPLICATE_BASE_URL"] = "https://api.replicate.com"
    ran, polled = rig.python("replicate_run.py", options=["--shim"])
    assert ran == {"png": True} and polled == {"status": "succeeded", "pictures": 1}
    assert [decision["via"] for decision in rig.decisions()] == ["intercept"] * 2
    assert len(rig.sim.bills()) == 1


SHIMMED = """
import json, sys, sitecustomize, mine
print(json.dumps({"sitecustomize": sitecustomize.WHOSE, "mine": mine.WHOSE, "aiohttp": "aiohttp" in sys.modules}))
"""


def test_what_the_user_has_on_the_path_stays_and_nothing_is_imported_unasked(rig, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("WHOSE = 'the user'")
    (own / "mine.py").write_text("WHOSE = 'the user'")
    (tmp_path / "shimmed.py").write_text(SHIMMED)
    rig.environment["PYTHONPATH"] = str(own)
    done = rig.run("python3", tmp_path / "shimmed.py", options=["--shim"])
    assert json.loads(done.stdout) == {"sitecustomize": "the user", "mine": "the user", "aiohttp": False}


TRANSPORTS = """
import json, sys, httpx
def asked(**options):
    with httpx.Client(transport=httpx.HTTPTransport(), **options) as client:
        return client.get(sys.argv[1] + "/_sim/bills").status_code
print(json.dumps([asked(), asked(trust_env=False)]))
"""


def test_what_no_proxy_names_stays_direct(rig, tmp_path):
    script = tmp_path / "transports.py"
    script.write_text(TRANSPORTS)
    import sys

    done = rig.run(sys.executable, script, rig.sim.url, options=["--shim"])
    assert json.loads(done.stdout) == [200, 200]
