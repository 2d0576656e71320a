"""What a stranger does first: make a function, deploy it, call it, look at it, take it away."""

from __future__ import annotations

import json

from tests.end_to_end.platform import Platform, until


def test_new_deploy_call_list_scale_logs_remove(platform: Platform) -> None:
    platform.faas("new", "greet", "--lang", "python3-http")
    assert (platform.home / "greet" / "handler.py").exists()
    assert "greet:" in (platform.home / "stack.yaml").read_text()

    done = platform.faas("deploy")
    assert f"{platform.url}/function/greet" in done.stdout + done.stderr

    answer = platform.call("greet", "you")
    assert answer.status == 200
    assert answer.headers["x-call-id"]
    assert int(answer.headers["x-start-time"]) > 1.6e18
    assert float(answer.headers["x-duration-seconds"]) < 10

    listed = json.loads(platform.faas("list", "--json").stdout)
    assert [(f["name"], f["replicas"], f["availableReplicas"]) for f in listed] == [("greet", 1, 1)]
    assert listed[0]["invocationCount"] == 1

    platform.faas("scale", "greet", "3")
    until(lambda: platform.status("greet").get("availableReplicas") == 3)
    platform.faas("scale", "greet", "1")
    until(lambda: len(platform.pids("greet")) == 1)

    platform.faas("remove", "greet")
    assert platform.call("greet").status == 404
    assert json.loads(platform.faas("list", "--json").stdout) == []


def test_what_a_handler_is_given_and_may_return(platform: Platform) -> None:
    platform.deploy(
        "mirror",
        "import json\n"
        "def handle(event, context):\n"
        "    print('seen', event.path)\n"
        "    return {'statusCode': 201, 'headers': {'X-Seen': event.headers.get('x-sent', '')}, 'body': json.dumps({\n"
        "        'method': event.method, 'path': event.path, 'query': dict(event.query), 'body': event.body.decode()})}\n",
    )
    answer = platform.request("PUT", "/function/mirror/a/b%20c?x=1&y=", b"text", {"X-Sent": "yes", "X-Call-Id": "my.call_1"})
    assert answer.status == 201
    assert answer.headers["x-seen"] == "yes"
    assert answer.headers["x-call-id"] == "my.call_1"
    seen = answer.json()
    assert (seen["method"], seen["body"], seen["query"]["x"]) == ("PUT", "text", "1")
    assert seen["path"].startswith("/a/b")

    lines = until(lambda: [json.loads(x) for x in platform.faas("logs", "mirror", "--json").stdout.splitlines()])
    line = next(x for x in lines if x["text"].startswith("seen "))
    assert line["callId"] == "my.call_1"
    assert line["name"] == "mirror"


def test_methods_paths_and_redirects_reach_the_function_untouched(platform: Platform) -> None:
    platform.deploy(
        "echo",
        "def handle(event, context):\n"
        "    if event.path == '/away':\n"
        "        return {'statusCode': 302, 'headers': {'Location': 'https://example.com/'}}\n"
        "    return event.method\n",
    )
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert platform.request(method, "/function/echo").text == method
    assert platform.request("HEAD", "/function/echo").body == b""
    redirect = platform.request("GET", "/function/echo/away")
    assert (redirect.status, redirect.headers["location"]) == (302, "https://example.com/")
    assert platform.request("GET", "/function/echo.openfaas-fn").text == "GET"


def test_the_other_python_templates(platform: Platform) -> None:
    platform.deploy("classic", "def handle(req):\n    return req.upper()\n", lang="python3")
    assert platform.call("classic", "quiet").text == "QUIET"

    platform.deploy(
        "raw",
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        raise NotImplementedError\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-type', b'text/plain')]})\n"
        "    await send({'type': 'http.response.body', 'body': scope['path'].encode()})\n",
        lang="python3-asgi",
    )
    assert platform.request("GET", "/function/raw/x/y").text == "/x/y"


def test_settings_are_read_back_as_sent(platform: Platform) -> None:
    flags = ["--label", "team=red", "--annotation", "note=a b", "--env", "COLOUR=blue", "--memory-limit", "128Mi"]
    platform.deploy("whole", "import os\ndef handle(e, c):\n    return os.environ['COLOUR']\n", *flags)
    assert platform.call("whole").text == "blue"
    status = platform.status("whole")
    assert status["labels"]["team"] == "red"
    assert status["labels"]["faas_function"] == "whole"
    assert status["annotations"]["note"] == "a b"
    assert status["envVars"] == {"COLOUR": "blue"}
    assert status["limits"] == {"memory": "128Mi"}
    assert "requests" not in status


def test_a_redeploy_changes_code_without_a_failed_call(platform: Platform) -> None:
    platform.deploy("version", "def handle(e, c):\n    return 'one'\n")
    assert platform.call("version").text == "one"
    platform.deploy("version", "def handle(e, c):\n    return 'two'\n")
    assert platform.call("version").text == "two"
    details = platform.details("version")
    assert [r["number"] for r in details["revisions"]] == [1, 2]
    until(lambda: len(platform.pids("version")) == 1)


def test_namespaces_keep_functions_of_one_name_apart(platform: Platform) -> None:
    platform.faas("namespace", "create", "dev")
    platform.deploy("same", "def handle(e, c):\n    return 'default'\n")
    platform.deploy("same", "def handle(e, c):\n    return 'dev'\n", "--namespace", "dev")
    assert platform.call("same").text == "default"
    assert platform.call("same.dev").text == "dev"
    assert platform.faas("namespace", "remove", "dev", check=False).returncode == 1, "it still holds a function"
    platform.faas("remove", "same", "--namespace", "dev")
    platform.faas("namespace", "remove", "dev")
