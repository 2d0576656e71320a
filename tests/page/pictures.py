"""The pictures of `docs/page.md`: `python -m tests.page.pictures` runs a platform with some life in it for a minute and takes
them anew, in Debian's Chromium."""

from __future__ import annotations

import io
import math
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from tests.end_to_end.platform import Platform, running
from tests.page.conftest import CHROMIUM, FLAGS, link_of

DOCS = Path(__file__).parents[2] / "docs"
LIVES_S = 76.0
COLOURS = 256

WORK = """
import random, time
def handle(event, context):
    time.sleep(random.expovariate(1 / {seconds}) if {seconds} else 0)
    return {{"statusCode": 503 if random.random() < {fails} else 200, "body": "ok"}}
"""
RECEIPTS = """
import time
def handle(event, context):
    if event.path == "/receipts/torn":
        return {"statusCode": 422, "body": "nothing to be read"}
    if event.path == "/receipts/faint":
        return {"statusCode": 500, "body": "not readable, perhaps next time"}
    time.sleep(float(event.body or 0))
    return {"statusCode": 200, "body": "ok"}
"""

FUNCTIONS: dict[str, tuple[float, float, Callable[[float], float]]] = {
    "check-stock": (0.0, 0.1, lambda at: 4 + 10 * max(0.0, at - 0.4)),
    "geocode": (0.015, 0.0, lambda at: 2 + 4 * at),
    "hello": (0.0, 0.0, lambda at: 18 + 14 * math.sin(4 * at)),
    "resize-image": (0.04, 0.0, lambda at: 5 + 10 * at),
    "send-invoice": (0.015, 0.0, lambda at: 2 - at),
    "thumbnail": (0.015, 0.0, lambda at: 3 + 8 * math.exp(-5 * at)),
}
"""Seconds that a call takes, the part that fails, and calls per second at a moment from 0 to 1."""


def main() -> None:
    """Write the pictures."""
    with tempfile.TemporaryDirectory() as home, running(Path(home)) as platform, sync_playwright() as playwright:
        for name, (seconds, fails, _) in FUNCTIONS.items():
            flags = (
                ("--label", "com.openfaas.scale.zero=true", "--label", "com.openfaas.scale.max=4")
                if name == "resize-image"
                else ()
            )
            platform.deploy(name, WORK.format(seconds=seconds, fails=fails), *flags)
        platform.deploy("ocr-receipt", RECEIPTS, "--label", "com.pinnace.async.concurrency=2")
        platform.faas("scale", "resize-image", "0")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_context(viewport={"width": 1280, "height": 666}).new_page()
        page.goto(link_of(platform))
        over = threading.Event()
        callers = [threading.Thread(target=call, args=(platform, name, over)) for name in FUNCTIONS]
        for caller in callers:
            caller.start()
        time.sleep(LIVES_S - 12)
        submit(platform)
        expect(page.get_by_role("row").get_by_role("link", name="2 dead calls")).to_be_visible()
        picture(page, "page", 666)
        page.goto(f"{platform.url}/ui/#/f/openfaas-fn/resize-image")
        time.sleep(2.5)
        picture(page, "page-function", 900)
        page.goto(f"{platform.url}/ui/#/async")
        expect(page.get_by_text("running, attempt 1").first).to_be_visible()
        picture(page, "page-queues", 800)
        browser.close()
        over.set()
        for caller in callers:
            caller.join()


def call(platform: Platform, name: str, over: threading.Event) -> None:
    """Call a function as often as it says, until it is over."""
    rate, began = FUNCTIONS[name][2], time.monotonic()
    calls: list[threading.Thread] = []
    while not over.wait(random.expovariate(rate(min(1.0, (time.monotonic() - began) / LIVES_S)))):
        calls = [one for one in calls if one.is_alive()]
        calls.append(threading.Thread(target=platform.call, args=(name,)))
        calls[-1].start()
    for one in calls:
        one.join()


def submit(platform: Platform) -> None:
    """Submit calls of every fate, and wait until two are given up."""

    def one(path: str, body: str = "", **headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return platform.request("POST", f"/async-function/ocr-receipt/receipts/{path}", body, named).headers["x-call-id"]

    for number in range(1036, 1045):
        one(str(number), "0.02")
    torn = [one("torn") for _ in range(2)]
    one("faint")
    one("monthly", X_Delay_Seconds="5400")
    for lost in torn:
        assert platform.request("GET", f"/async-function/{lost}?wait=10s").json()["state"] == "dead"
    for number in range(1045, 1051):
        one(str(number), "60")


def picture(page: Page, name: str, height: int) -> None:
    """Take a picture and write it with few colours, a third of the bytes."""
    page.set_viewport_size({"width": 1280, "height": height})
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    taken.save(DOCS / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
