"""The reverse proxy that fastapi-proxy-lib's documentation shows, for uvicorn. It takes no prefix away.

It stands in a dependency group that only the measurement installs, so it is imported by name.
"""

import os
from importlib import import_module

app = import_module("fastapi_proxy_lib.fastapi.app").reverse_http_app(base_url=f"{os.environ['BENCHMARKS_BACKEND']}/")
