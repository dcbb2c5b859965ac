"""Brings clients behind pixtoll that read no proxy variables. Python imports a module of this name when it starts.

aiohttp's sessions read the environment only when asked to (`trust_env`), and httpx does not read it where a client
was given a transport of its own, as Replicate's is. Nothing is imported here that the app does not import itself; what
NO_PROXY names stays direct; a proxy that the app gives stays the app's.
"""

import os
import sys


def _aiohttp(module):
    session = module.ClientSession
    plain = session.__init__
    sockets = tuple(getattr(module, name) for name in ("UnixConnector", "NamedPipeConnector") if hasattr(module, name))

    def __init__(self, *arguments, **options):
        asked = options.get("trust_env")
        local = isinstance(options.get("connector"), sockets)
        options["trust_env"] = bool(asked or not local)
        plain(self, *arguments, **options)
        if not asked:
            # The same option reads ~/.netrc, which the app did not ask for.
            object.__setattr__(self, "_get_netrc_auth", lambda host: None)

    session.__init__ = __init__


def _httpx(module):
    for transport, handle, close in (
        (module.HTTPTransport, "handle_request", "close"),
        (module.AsyncHTTPTransport, "handle_async_request", "aclose"),
    ):
        _through_the_proxy(transport, handle, close)


def _through_the_proxy(transport, handle, close):
    """Lets a transport without a proxy send through a twin that has the environment's."""
    plain_init, plain_handle, plain_close = transport.__init__, getattr(transport, handle), getattr(transport, close)

    def __init__(self, *arguments, **options):
        plain_init(self, *arguments, **options)
        # Arguments by position end before `proxy` and `uds` in every release.
        bound = bool(options.get("proxy") or options.get("uds"))
        self._pixtoll = None if bound else (arguments, options, {})

    def handler(self, request):
        made = getattr(self, "_pixtoll", None)
        proxy = made and _proxy_for(request.url.scheme, request.url.host, request.url.port)
        if not proxy:
            return plain_handle(self, request)
        arguments, options, twins = made
        if proxy not in twins:
            twins[proxy] = transport(*arguments, **{**options, "proxy": proxy})
        return plain_handle(twins[proxy], request)

    def twins_of(self):
        made = getattr(self, "_pixtoll", None)
        return list(made[2].values()) if made else []

    if close == "close":

        def closer(self):
            for twin in twins_of(self):
                plain_close(twin)
            return plain_close(self)

    else:

        async def closer(self):
            for twin in twins_of(self):
                await plain_close(twin)
            return await plain_close(self)

    transport.__init__ = __init__
    setattr(transport, handle, handler)
    setattr(transport, close, closer)


def _proxy_for(scheme, host, port):
    """The proxy that the environment names for a URL, if any."""
    from urllib.request import getproxies_environment, proxy_bypass_environment

    proxies = getproxies_environment()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or not host:
        return None
    named = host if port is None else f"{host}:{port}"
    return None if proxy_bypass_environment(named, proxies) else proxy


_CLIENTS = {
    "aiohttp.client": _aiohttp,
    "httpx._transports.default": _httpx,
    "httpx2._transports.default": _httpx,
}


class _Finder:
    """Stands before all other finders and waits for the clients to be imported."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        mend = _CLIENTS.pop(name, None)
        if mend is None:
            return None
        for finder in sys.meta_path:
            if finder is _Finder or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader, mend)
                return spec
        return None


class _Loader:
    """Loads as the module's own loader does, and mends what was loaded."""

    def __init__(self, loader, mend):
        self._loader, self._mend = loader, mend

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        try:
            self._mend(module)
        except Exception as error:  # another release of the client: better past the proxy than broken
            print(f"pixtoll: {module.__name__} could not be brought behind the proxy: {error}", file=sys.stderr)


def _next_of_the_same_name():
    """Runs the sitecustomize that would have been imported without this one, if there is one."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    here = os.path.dirname(os.path.abspath(__file__))
    others = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if os.environ.get("PIXTOLL_ACTIVE"):
    sys.meta_path.insert(0, _Finder)
_next_of_the_same_name()
