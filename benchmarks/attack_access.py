"""Wrong tokens, paths and web sites, for `benchmarks.serve_attack`."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.attack_requests import PREDICT, TOKEN, http_request, named, raw
from benchmarks.served import ServedProcess
from tfclip.serving import Client


def wrong_tokens(server: ServedProcess, count: int = 300) -> dict:
    """Almost right, empty, long, in other forms; over both protocols."""
    seen: Counter = Counter()
    given = [
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
    ]
    given += [f"bearer {TOKEN}", f"Bearer  {TOKEN}", "Bearer " + "x" * 10_000]
    for number in range(count):
        seen[
            raw(server, http_request("GET", "/v1/models/tfclip", Authorization=given[number % 10]))
        ] += 1
    for token in (None, "x", TOKEN.upper()):
        try:
            Client(server.grpc, token=token, retries=0).status()
            seen["grpc answered"] += 1
        except ValueError:
            seen["UNAUTHENTICATED"] += 1
    wrong = {status: n for status, n in seen.items() if status not in (400, 401, "UNAUTHENTICATED")}
    return {"statuses": named(seen), "wrong": named(wrong)}


def path_tricks(server: ServedProcess) -> dict:
    """Ways out of the page's folder, and methods that nobody serves."""
    tricks = [
        "/page/static/../options.py", "/page/static/..%2foptions.py", "/page/static/%2e%2e/run.py",
        "/page/static/....//run.py", "/page/static//etc/passwd", "/page/static/%00", "//etc/passwd",
        "/../../etc/passwd", "/page/static/..\\run.py", "/page/static/main.js%00.html",
        "/page/pictures/-1", "/page/pictures/99999999999999999999", "/page/pictures/../model",
        "/v1/models/..%2f..%2fetc:predict", "/v1/models/tfclip/versions/../../x", "http://other/",
        "/page/static/__init__.py", "/page/", "/page/static/", "/.env", "/docs", "/openapi.json",
    ]  # fmt: skip
    seen: Counter = Counter()
    wrong: dict = {}
    for path in tricks:
        for method in ("GET", "POST", "PUT", "DELETE", "TRACE", "CONNECT"):
            status = raw(server, http_request(method, path))
            seen[status] += 1
            if status not in {0, 400, 404, 405}:
                wrong[f"{method} {path}"] = status
    return {"sent": sum(seen.values()), "statuses": named(seen), "wrong": wrong}


def foreign_sites(server: ServedProcess) -> dict:
    """What a browser would send for a page of another site."""
    body = json.dumps({"instances": ["x"]}).encode()
    seen: Counter = Counter()
    for headers in (
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Host": "example.org"},
        {"Host": "127.0.0.1.example.org"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
    ):
        for method, path in (
            ("POST", PREDICT),
            ("GET", "/metrics"),
            ("OPTIONS", PREDICT),
            ("GET", "/page/model"),
        ):
            seen[raw(server, http_request(method, path, body, **headers))] += 1
    return {"statuses": named(seen), "wrong": named({s: n for s, n in seen.items() if s != 403})}


class _OtherSite(BaseHTTPRequestHandler):
    """A page of another origin on this machine."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>other</title><body></body>")

    def log_message(self, *arguments):
        pass


# What a page can try without the other side's leave: each must end in an error, without a byte.
_TRIES = """async ([target, token, predict]) => {
  const url = target + predict;
  const headers = {"Content-Type": "application/json", "Authorization": "Bearer " + token};
  const body = JSON.stringify({signature_name: "encode_text", inputs: ["a"]});
  const loads = (name, key, value) => new Promise((resolve, reject) => {
    const made = document.createElement(name);
    made.onload = () => resolve("loaded");
    made.onerror = () => reject(new Error("error"));
    made[key] = value;
    document.body.append(made);
  });
  const tries = {
    get: () => fetch(target + "/v1/models/tfclip"),
    get_with_token: () => fetch(target + "/v1/models/tfclip", {headers}),
    simple_post: () => fetch(url, {method: "POST", body}),
    post_with_token: () => fetch(url, {method: "POST", body, headers}),
    opaque: () => fetch(target + "/page/model", {mode: "no-cors"}).then((r) => r.text())
      .then((text) => { if (!text) throw new Error("opaque"); }),
    script: () => loads("script", "src", target + "/page/static/main.js"),
    picture: () => loads("img", "src", target + "/page/static/icon.svg"),
    frame: () => new Promise((resolve, reject) => {
      const frame = document.createElement("iframe");
      frame.src = target + "/";
      frame.onload = () => { try { frame.contentDocument.body.id; resolve("read"); }
        catch { reject(new Error("not readable")); } };
      document.body.append(frame);
      setTimeout(() => reject(new Error("not loaded")), 3000);
    }),
    beacon: async () => { navigator.sendBeacon(url, body); throw new Error("no answer"); },
  };
  const results = {};
  for (const [name, go] of Object.entries(tries)) {
    results[name] = await go().then(() => "answered", () => "blocked");
  }
  return results;
}"""


def foreign_page(server: ServedProcess) -> dict:
    """The same from a page of another site in Chromium, which knows the token; skipped without."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {"skipped": "no playwright", "wrong": {}}
    if chromium is None:
        return {"skipped": "no chromium", "wrong": {}}
    other = ThreadingHTTPServer(("127.0.0.1", 0), _OtherSite)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{other.server_port}/")
            results = page.evaluate(_TRIES, [server.rest, TOKEN, PREDICT])
            browser.close()
    finally:
        other.shutdown()
        other.server_close()
    wrong = {name: result for name, result in results.items() if result != "blocked"}
    return {"tries": len(results), "results": named(Counter(results.values())), "wrong": wrong}
