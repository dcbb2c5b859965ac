"""A rig for tests that meet pixtoll as its users do: real clients, behind `pixtoll run`.

The simulated providers run apart and keep the bills; a test counts money there, never in
pixtoll's own books alone.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import jsonschema
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PIXTOLL = TARGET / "debug" / "pixtoll"
MODULES = TARGET / "sdk" / "node" / "node_modules"
# Node 24 reads proxy variables when told to; Node 20 cannot.
NODE, NODE_20 = (MODULES / f".node{version}" / "bin" / "node" for version in (24, 20))
CLIENTS = HERE / "clients"


def clean_environment(state: Path) -> dict:
    """What a developer's shell has, and nothing of proxies, keys or trust."""
    keep = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    keep |= {"XDG_STATE_HOME": str(state), "XDG_CONFIG_HOME": str(state), "PYTHONUNBUFFERED": "1"}
    keys = ("OPENAI_API_KEY", "FAL_KEY", "REPLICATE_API_TOKEN", "BFL_API_KEY", "GOOGLE_API_KEY")
    return keep | dict.fromkeys(keys, "sk-canary-of-the-app")


class Sim:
    """`pixtoll sim` as a process of its own."""

    def __init__(self, environment: dict, *options: str):
        command = [PIXTOLL, "sim", "--listen", "127.0.0.1:0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        first = self.process.stdout.readline()
        self.url = first.split()[-1]

    def ask(self, path: str, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method="GET" if body is None else "POST")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def bills(self):
        return self.ask("/_sim/bills")["bills"]

    def requests(self):
        return self.ask("/_sim/requests")["requests"]

    def script(self, provider: str, *behaviours: str):
        self.ask("/_sim/script", {"provider": provider, "behaviours": list(behaviours)})

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=20)
        self.process.stdout.close()


class Rig:
    """Simulated providers, a configuration that leads to them, and a state directory."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.environment = clean_environment(directory / "state")
        self.sim = Sim(self.environment)
        self.log = directory / "state" / "pixtoll" / "decisions.jsonl"
        self.configure()

    def configure(self, **more):
        """Writes the configuration; `more` are further top-level keys."""
        settings = {
            "dashboard": "off",
            "providers": {
                "openai": {"upstream": self.sim.url},
                "google": {"upstream": self.sim.url},
                "stability": {"upstream": self.sim.url, "api_key": "sk-canary-of-pixtoll"},
            }
            | {name: {"upstream": self.sim.url} for name in ("fal", "replicate", "bfl")},
        } | more
        self.config = self.directory / "pixtoll.yaml"
        self.config.write_text(json.dumps(settings))  # JSON is YAML too

    def rule(self, lua):
        """Configures one rule, given as Lua."""
        path = self.directory / "rule.lua"
        path.write_text(lua)
        self.configure(plugins=[str(path)])

    def run(self, *command, check=True, timeout=120, input=None, options=()):
        """Puts a command behind `pixtoll run`, with further options of `run`."""
        whole = [PIXTOLL, "run", "--config", self.config, *options, "--", *map(str, command)]
        done = subprocess.run(
            whole, env=self.environment, capture_output=True, text=True, timeout=timeout, cwd=self.directory, input=input
        )
        if check and done.returncode != 0:
            pytest.fail(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def python(self, client: str, *arguments, **options):
        """Runs a Python client; returns what it printed as JSON, one value a line."""
        done = self.run(sys.executable, CLIENTS / client, *arguments, **options)
        self.stderr = done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def node(self, client: str, *arguments, node=NODE, **options):
        link = self.directory / "node_modules"
        if not link.exists():
            link.symlink_to(MODULES)
        script = self.directory / client
        script.write_text((CLIENTS / client).read_text())
        done = self.run(node, script, *arguments, **options)
        self.stderr = done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def lines(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def decisions(self):
        return [line for line in self.lines() if line["type"] == "call"]

    def booked(self):
        """What the decisions cost, in nano-dollars."""
        return round(sum(decision["cost"] or 0 for decision in self.decisions()) * 1_000_000_000)

    def billed(self):
        """What the simulated providers charged, in nano-dollars."""
        return sum(bill["nano_usd"] for bill in self.sim.bills())

    def close(self):
        self.sim.close()


@pytest.fixture(scope="session")
def schema():
    text = subprocess.run([PIXTOLL, "tail", "--schema"], capture_output=True, text=True, check=True).stdout
    return jsonschema.Draft202012Validator(json.loads(text))


@pytest.fixture
def rig(tmp_path, schema):
    rig = Rig(tmp_path)
    yield rig
    rig.close()
    for line in rig.lines():
        schema.validate(line)
    assert_no_secret_below(tmp_path)


def assert_no_secret_below(directory: Path):
    """No file that pixtoll wrote holds a key: not the log, not the ledger, not the journal."""
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink() and "state" in path.parts:
            assert b"sk-canary" not in path.read_bytes(), path
