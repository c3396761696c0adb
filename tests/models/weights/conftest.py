"""What the tests of weights share: a machine without a network."""

import urllib.request

import pytest


@pytest.fixture
def no_network(monkeypatch):
    """A proxy that refuses at once."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    # urllib keeps the proxies of its first call in a process, also for the tests after this one.
    monkeypatch.setattr(urllib.request, "_opener", None)
