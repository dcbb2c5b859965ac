"""Asks URL once by LIBRARY, and says so before it does. Exit code 42: the library is not there."""

import platform
import sys

url, library = sys.argv[1:]
try:
    module = __import__("urllib.request" if library == "urllib" else library)
except ImportError:
    sys.exit(42)
version = getattr(module, "__version__", "")
print("asking", platform.python_version(), version if isinstance(version, str) else "", flush=True)

if library == "aiohttp":
    import asyncio

    async def ask():
        async with module.ClientSession() as session, session.get(url):
            pass

    asyncio.run(ask())
elif library == "replicate":
    # Its own base URL leads the way, as it does in an app: the name tells who asked.
    module.Client(api_token="doctor").models.get("doctor/" + url.rsplit("/", 1)[1])
elif library == "urllib":
    module.request.urlopen(url)
else:
    module.get(url)
