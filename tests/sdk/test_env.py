"""`pixtoll env` for shells that are not at hand: its lines are at least lines of theirs."""

import json
import re
import signal
import subprocess

import pytest
import tree_sitter
import tree_sitter_powershell
from conftest import PIXTOLL

NASTY = "it's \\ ‘so’ \"x\" $HOME `id` é;\n#"


@pytest.fixture
def served(rig):
    """A proxy that serves this state directory."""
    command = [PIXTOLL, "serve", "--config", rig.config, "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, env=rig.environment, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    yield rig
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    process.stdout.close()


def env(rig, *options):
    command = [PIXTOLL, "env", "--config", rig.config, *options]
    return subprocess.run(command, env=rig.environment, capture_output=True, text=True, check=True).stdout


def statements(text):
    """How many statements PowerShell would read."""
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    root = parser.parse(text.encode()).root_node
    assert not root.has_error, text
    return sum(len(block.children) for block in root.children)


def test_powershell_reads_every_line_going_in_and_coming_out(served):
    served.environment |= {"NODE_OPTIONS": "--no-warnings", "CURL_CA_BUNDLE": NASTY}
    into = env(served, "--shell", "powershell", "--shim", "--app", "it's mine")
    names = re.findall(r"^\$env:(\w+) = '", into, re.M)
    assert {"HTTPS_PROXY", "NODE_OPTIONS", "PYTHONPATH", "SSL_CERT_FILE"} <= set(names)
    told = json.loads(env(served, "--json", "--shim", "--app", "it's mine"))["data"]["set"]
    assert set(told) == set(names) and statements(into) == into.count("$env:") + into.count("Remove-Item Env:SSL_CERT_DIR")
    served.environment |= told
    out = env(served, "--shell", "powershell", "--unset")
    assert "Remove-Item Env:HTTPS_PROXY" in out and "$env:NODE_OPTIONS = '--no-warnings'" in out
    assert statements(out) == len(re.findall(r"^(?:\$env:|Remove-Item Env:)", out, re.M))
