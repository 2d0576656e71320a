"""What a person does with the page, in a browser, on a real platform."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.end_to_end.platform import Platform, until
from tests.page.conftest import LONGEST_MS, Tab, link_of, login_of

HANDLER = """import os, time

def handle(event, context):
    print("asked for", event.path)
    return {"statusCode": 200, "body": {"greeting": os.environ["GREETING"]}}
"""

expect.set_options(timeout=LONGEST_MS)


@pytest.fixture
def page(tab: Tab, platform: Platform) -> Iterator[Page]:
    """The list of functions, come to as `faas dashboard` does; nothing may be asked of another host, nor complained about."""
    tab.page.goto(link_of(platform))
    expect(tab.page.get_by_role("heading", name="Functions", exact=True)).to_be_visible()
    yield tab.page
    assert tab.complaints == []
    assert [url for url in tab.asked if not url.startswith(platform.url)] == []


def section(page: Page, title: str) -> Locator:
    return page.get_by_role("region", name=title, exact=True)


def test_a_link_is_good_once_and_leaves_no_trace_in_the_address(page: Page, platform: Platform, browser: Browser) -> None:
    assert page.url == f"{platform.url}/ui/"
    address = platform.faas("dashboard", "--url").stdout.strip()
    for times in range(2):
        context = browser.new_context()
        other = context.new_page()
        other.goto(address)
        name = "Functions" if times == 0 else "Log in"
        expect(other.get_by_role("heading", name=name, exact=True)).to_be_visible()
        context.close()


def test_the_login_is_asked_for_by_the_page_and_kept_from_other_tabs(tab: Tab, platform: Platform) -> None:
    page = tab.page
    user, password = login_of(platform.data)
    page.goto(f"{platform.url}/")
    page.get_by_label("User").fill(user)
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This login is not known here.")
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Functions", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Functions", exact=True)).to_be_visible()
    assert page.context.cookies() == []
    assert page.evaluate("async () => (await fetch('/system/functions')).status") == 401, "scripts of this origin get nothing"
    other = page.context.new_page()
    other.goto(f"{platform.url}/ui/")
    expect(other.get_by_role("heading", name="Log in")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_a_function_is_deployed_called_watched_scaled_and_removed(page: Page, platform: Platform) -> None:
    page.keyboard.press("d")
    page.get_by_label("Name", exact=True).fill("greet")
    page.get_by_label("Handler").fill(HANDLER)
    page.get_by_label("Environment").fill("GREETING=ahoy")
    page.get_by_label("To zero when nobody calls it").check()
    page.get_by_label("Most replicas").fill("3")
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.get_by_role("heading", name="greet", exact=True)).to_be_visible()
    expect(section(page, "Settings")).to_contain_text("GREETING")
    expect(section(page, "Settings")).not_to_contain_text("ahoy")
    expect(section(page, "Replicas")).to_contain_text("Running")

    page.get_by_role("spinbutton", name="Replicas").fill("0")
    page.get_by_role("button", name="Scale").click()
    expect(page.get_by_role("log", name="News")).to_contain_text("is to have 0 replicas")
    expect(section(page, "Replicas")).to_contain_text("the next call starts one")

    page.get_by_label("Path and query").fill("/first?x=1")
    page.get_by_role("button", name="Call", exact=True).click()
    result = section(page, "Call it").get_by_role("status")
    expect(result).to_contain_text("200")
    expect(result).to_contain_text('"greeting": "ahoy"')
    expect(section(page, "Last calls")).to_contain_text("cold start: ")
    expect(section(page, "Last calls")).to_contain_text(re.compile(r"replica started [\d.]+ m?s \(\w+: .*ready "))
    expect(page.locator(".totals").first).to_contain_text("1 cold starts")
    expect(section(page, "Replicas")).to_contain_text("Running")
    expect(section(page, "Scaling")).to_contain_text("0 → 1")

    logs = page.get_by_role("log", name="Output of greet")
    expect(logs).to_contain_text("asked for /first")
    platform.call("greet", path="/second", X_Call_Id="the-second")
    expect(logs).to_contain_text("asked for /second")
    section(page, "Last calls").get_by_role("button", name="Logs of call the-second").click()
    expect(logs).not_to_contain_text("asked for /first")
    expect(logs).to_contain_text("asked for /second")

    page.get_by_role("spinbutton", name="Replicas").fill("2")
    page.get_by_role("button", name="Scale").click()
    expect(section(page, "Replicas").get_by_text("Running")).to_have_count(2)

    page.get_by_role("button", name="Remove", exact=True).click()
    page.keyboard.press("Escape")
    assert platform.status("greet")
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_role("button", name="Remove greet").click()
    expect(page.get_by_role("heading", name="Functions", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="greet", exact=True)).to_have_count(0)
    assert platform.request("GET", "/system/function/greet").status == 404


def test_calls_are_sent_back_to_an_older_revision_once_that_is_confirmed(page: Page, platform: Platform) -> None:
    for version in ("one", "two"):
        platform.deploy("back", f"def handle(event, context):\n    return {version!r}\n")
    page.get_by_role("link", name="back", exact=True).click()
    revisions = section(page, "Revisions and traffic")

    def of(name: str) -> Locator:
        return revisions.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name))

    newest = of("back-00002")
    expect(newest).to_contain_text("100 %")
    expect(newest).to_contain_text("@latest")
    name = revisions.get_by_role("rowheader", name="back-00002").bounding_box()
    assert name is not None and name["height"] < 45, "no name is broken into lines"
    button = revisions.get_by_role("button", name="Send all calls to back-00001")
    button.click()
    page.keyboard.press("Escape")
    assert platform.call("back").text == "two"
    button.click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(of("back-00001")).to_contain_text("100 %")
    assert platform.call("back").text == "one"
    expect(page.locator(".message").first).to_contain_text("back-00002 gets no calls: traffic is set by hand")
    revisions.get_by_role("button", name="Send all calls to back-00002").click()
    page.get_by_role("dialog").get_by_role("button", name="Send calls").click()
    expect(newest).to_contain_text("100 %")
    assert platform.request("GET", "/api/v1/functions/back/traffic").json()["traffic"][0]["revision"] == "@latest"


def submit(platform: Platform, name: str, path: str = "", body: str = "", **headers: str) -> str:
    told = {key.replace("_", "-"): text for key, text in headers.items()}
    answer = platform.request("POST", f"/async-function/{name}{path}", body, told, login=False)
    assert answer.status == 202, answer
    return answer.headers["x-call-id"]


QUEUED = """
import time

def handle(event, context):
    print("seen by", event.path)
    if event.path == "/fail":
        return {"statusCode": 422, "body": "no such order"}
    time.sleep(float(event.body or 0))
    return {"statusCode": 200, "body": {"resized": True}}
"""


def test_asynchronous_calls_are_made_followed_replayed_and_cancelled(page: Page, tab: Tab, platform: Platform) -> None:
    platform.deploy("queued", QUEUED, "--label", "com.pinnace.async.concurrency=1")
    dead = [submit(platform, "queued", "/fail") for _ in range(2)]
    for call in dead:
        assert platform.request("GET", f"/async-function/{call}?wait=10s").json()["state"] == "dead"
    delayed = submit(platform, "queued", "/later", X_Delay_Seconds="3000")

    page.get_by_role("searchbox").fill("dead")  # the list tells of them, and leads to where they are replayed
    expect(page.get_by_role("link", name="2 dead calls")).to_have_count(2)  # of all functions, and of this one
    page.get_by_role("row", name=re.compile("queued")).get_by_role("link", name="2 dead calls").click()
    expect(section(page, "Asynchronous calls")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Replay all dead calls")).to_be_visible()
    page.goto(f"{platform.url}/ui/#/f/openfaas-fn/queued")
    page.get_by_label("Asynchronously").check()
    page.get_by_label("Path and query").fill("/long")
    page.get_by_label("Body").fill("60")
    page.get_by_role("button", name="Call", exact=True).click()
    result = section(page, "Call it").get_by_role("status")
    expect(result).to_contain_text("running, attempt 1")
    queue = section(page, "Asynchronous calls")
    expect(queue).to_contain_text("1 waiting")
    expect(queue).to_contain_text("1 running")
    expect(queue).to_contain_text("2 dead")
    section(page, "Call it").get_by_role("button", name="Cancel the call").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
    expect(result).to_contain_text("running, attempt 1")
    section(page, "Call it").get_by_role("button", name="Cancel the call").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the call").click()
    expect(result).to_contain_text("cancelled")
    page.get_by_label("Body").fill("0")
    page.get_by_role("button", name="Call", exact=True).click()
    expect(result).to_contain_text("succeeded, 200")
    expect(result).to_contain_text('"resized"')
    assert [url for url in tab.with_login if "/function/" in url or "/async-function/" in url] == []

    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("q")
    line = section(page, "Queues").get_by_role("row", name=re.compile("queued"))
    expect(line).to_be_visible()
    calls = section(page, "Calls")
    calls.get_by_role("button", name="Dead", exact=True).click()
    expect(calls.get_by_role("button", name=re.compile("Open call"))).to_have_count(2)
    expect(calls).to_contain_text("the function answered 422, after which it is not tried again")
    calls.get_by_role("button", name=f"Open call {dead[0]}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("no such order")
    platform.deploy("queued", QUEUED.replace("/fail", "/other"))
    dialog.get_by_role("button", name="Replay").click()
    expect(dialog).to_contain_text("succeeded, 200")
    page.keyboard.press("Escape")
    line.get_by_role("button", name="Replay all dead calls of queued").click()
    page.get_by_role("dialog").get_by_role("button", name="Replay all").click()
    expect(calls.get_by_text("No call is dead.")).to_be_visible()
    answer = platform.request("GET", f"/async-function/{dead[1]}?wait=10s")
    assert answer.json()["state"] == "succeeded", answer.text
    calls.get_by_role("button", name="Waiting", exact=True).click()
    expect(calls).to_contain_text("delayed until")
    calls.get_by_role("button", name=f"Open call {delayed}").click()
    dialog.get_by_role("button", name="Cancel the call").click()
    page.get_by_role("dialog", name="Cancel this call?").get_by_role("button", name="Cancel the call").click()
    expect(dialog).to_contain_text("cancelled")


def test_a_gradual_rollout_is_shown_with_how_far_it_is(page: Page, platform: Platform) -> None:
    for version in ("one", "two"):
        platform.deploy("slow", f"def handle(event, context):\n    return {version!r}\n", "--gradual", "600s")
    page.get_by_role("link", name="slow", exact=True).click()
    expect(section(page, "Revisions and traffic")).to_contain_text("slow-00002 gets 5 % of the calls")
    expect(page.get_by_role("progressbar", name="Calls that go to slow-00002")).to_have_attribute("value", "5")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_what_does_not_build_or_start_says_why_where_it_was_asked_for(page: Page) -> None:
    page.get_by_role("link", name="Deploy").click()
    page.get_by_label("Name", exact=True).fill("broken")
    page.get_by_label("Handler").fill("import nothing_of_that_name\n")
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.locator(".message")).to_contain_text("nothing_of_that_name")
    page.get_by_role("button", name="An image").click()
    page.get_by_label("Image").fill("nobody/built:this")
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.locator(".message")).to_contain_text("nobody/built:this")


def test_the_list_follows_what_happens(page: Page, platform: Platform) -> None:
    platform.deploy("listed", "def handle(event, context):\n    return 'ok'\n")
    line = page.get_by_role("row", name=re.compile("listed"))
    expect(line).to_be_visible()
    for _ in range(30):
        platform.call("listed")
    expect(line.get_by_role("cell").last).to_have_text("30")
    page.keyboard.press("/")
    page.keyboard.type("no such")
    expect(line).to_have_count(0)
    page.get_by_role("searchbox").fill("LIST ready")
    expect(line).to_be_visible()
    page.get_by_role("searchbox").fill("")
    platform.faas("remove", "listed")
    expect(line).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_a_phone_has_room(page: Page, platform: Platform, scheme: str) -> None:
    page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
    if scheme == "light":
        platform.deploy("seen", "def handle(event, context):\n    print('hello')\n    return 'ok'\n")
        platform.faas("scale", "seen", "0")
        until(lambda: not platform.pids("seen"))
    platform.call("seen")
    submit(platform, "seen")
    for view, shows in (
        ("#/", "seen"),
        ("#/f/openfaas-fn/seen", "Revisions and traffic"),
        ("#/async", "Queues"),
        ("#/deploy", "Handler"),
    ):
        page.goto(f"{platform.url}/ui/{view}")
        expect(page.get_by_text(shows, exact=True).first).to_be_visible()
        if view.endswith("seen"):
            page.get_by_role("button", name="Call", exact=True).click()
            expect(section(page, "Call it").get_by_role("status")).to_contain_text("200")
        if view == "#/async":
            page.get_by_role("button", name=re.compile("Open call")).first.click()
            expect(page.get_by_role("dialog")).to_contain_text("Attempts")
        found = Axe().run(page).response["violations"]
        told = [f"{one['impact']} {one['id']}: {[node['html'] for node in one['nodes']][:3]}" for one in found]
        assert told == [], view
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, view
        page.set_viewport_size({"width": 1280, "height": 900})
        page.keyboard.press("Escape")


def test_it_goes_on_by_itself_after_the_platform_was_away(page: Page, platform: Platform) -> None:
    expect(page.get_by_role("link", name="seen")).to_be_visible()
    platform.stop(within_s=20)
    expect(page.get_by_text("no answer; trying again")).to_be_visible()
    platform.start()
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="seen")).to_be_visible()
