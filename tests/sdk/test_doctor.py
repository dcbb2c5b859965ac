"""`pixtoll doctor`: the user's own interpreters behind the proxy, and a whole command."""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import CLIENTS, NODE, NODE_20, PIXTOLL


def doctor(rig, *arguments, code):
    done = subprocess.run(
        [PIXTOLL, "doctor", *map(str, arguments)], env=rig.environment, capture_output=True, text=True, timeout=180, cwd=rig.directory
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def verdicts(done):
    told = json.loads(done.stdout)
    assert (told["v"], told["command"], told["ok"]) == (1, "doctor", done.returncode == 0)
    return {(row["command"], row["client"]): row for row in told["data"]["clients"]}


def test_each_client_is_told_by_itself_with_its_cure(rig):
    rows = verdicts(doctor(rig, "--json", sys.executable, NODE, NODE_20, "curl", code=3))
    said = {key: row["verdict"] for key, row in rows.items()}
    python, new, old = sys.executable, str(NODE), str(NODE_20)
    assert said == {
        **{(python, client): "ok" for client in ("urllib", "requests", "httpx", "replicate")},
        (python, "aiohttp"): "bypassed",
        **{(new, client): "ok" for client in ("fetch", "https")},
        **{(old, client): "bypassed" for client in ("fetch", "https")},
        ("curl", "curl"): "ok",
    }
    for key in ((python, "aiohttp"), (old, "fetch"), (old, "https")):
        assert "--shim" in rows[key]["cure"] and "comes through then" in rows[key]["cure"]
    assert rows[python, "aiohttp"]["version"].endswith("3.14.5") and rows[old, "fetch"]["version"].startswith("20.")
    assert not (rig.directory / "state" / "pixtoll").exists(), "nothing of the user's is touched"


def test_with_the_shims_all_come_through(rig):
    done = doctor(rig, "--shim", sys.executable, NODE_20, code=0)
    assert "BYPASSED" not in done.stdout and done.stdout.count("OK") == 7, done.stdout


def test_without_arguments_it_asks_what_is_on_the_path(rig):
    folder = rig.directory / "bin"
    folder.mkdir()
    (folder / "curl").symlink_to(shutil.which("curl"))
    rig.environment["PATH"] = str(folder)
    assert set(verdicts(doctor(rig, "--json", code=0))) == {("curl", "curl")}


GENERATE = (sys.executable, CLIENTS / "aiohttp_generate.py", "1")
DISTRUSTING = "import ssl, urllib.request as r; r.urlopen('https://api.openai.com/v1/models', context=ssl.create_default_context(cafile=__import__('certifi').where()))"


@pytest.mark.parametrize(
    "options, command, code, says",
    [
        ([], (*GENERATE, '{"trust_env": true}'), 0, "1 request"),
        ([], (*GENERATE, "{}"), 3, "BYPASSED"),
        (["--shim"], (*GENERATE, "{}"), 0, "1 request"),
        ([], (sys.executable, "-c", DISTRUSTING), 3, "certificate refused"),
        ([], ("no-such-command", "x"), 1, "could not be asked"),
    ],
)
def test_a_whole_command_is_watched_and_kept_from_real_providers(rig, options, command, code, says):
    done = doctor(rig, *options, "--", *command, code=code)
    assert says in done.stdout, done.stdout + done.stderr
    if code == 3:
        assert "cure:" in done.stdout
