"""`run` where the user's environment already names a proxy: everything goes on through it."""

import socket
import sys
import threading

import pytest


class Hop:
    """A proxy that notes whom it was asked for, and leads everybody to the simulated providers."""

    def __init__(self, simulated: str):
        host, port = simulated.removeprefix("http://").split(":")
        self.simulated = (host, int(port))
        self.asked = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://user:canary-word@127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=(near,), daemon=True).start()

    def carry(self, near):
        head = b""
        while b"\r\n\r\n" not in head:
            head += near.recv(1)
        verb, target, _ = head.split(b"\r\n")[0].decode().split()
        self.asked.append((verb, target, b"basic " in head.lower()))
        far = socket.create_connection(self.simulated)
        near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=pipe, args=(source, sink), daemon=True).start()


def pipe(source, sink):
    try:
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def hop(rig):
    hop = Hop(rig.sim.url)
    rig.environment |= {"HTTPS_PROXY": hop.url, "NO_PROXY": "intern.example"}
    yield hop
    hop.listener.close()


def test_real_clients_go_on_through_it(rig, hop):
    first, second = rig.python("openai_generate.py", "a brass compass", 2)
    assert first["png"] and second["png"] and len(rig.sim.bills()) == 1
    assert "goes on through it" in rig.stderr and "canary-word" not in rig.stderr
    simulated = rig.sim.url.removeprefix("http://")
    assert set(hop.asked) == {("CONNECT", simulated, True)}
    (told,) = rig.node("node_clients.mjs", "replicate, polled", 1)
    assert told["png"] and rig.booked() == rig.billed()


def test_what_is_no_providers_goes_through_it_too(rig, hop):
    client = "import urllib.request as web; print(web.urlopen('http://elsewhere.invalid/_sim/bills').status)"
    assert rig.run(sys.executable, "-c", client).stdout == "200\n"
    assert [(verb, target) for verb, target, _ in hop.asked] == [("CONNECT", "elsewhere.invalid:80")]
    assert rig.decisions() == []
