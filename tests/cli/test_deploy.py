"""`faas new` and `faas deploy`, from a folder to a function that answers, against a stub of a gateway."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import pytest
import yaml

from builder.templates import Templates
from tests.cli.conftest import Faas
from tests.cli.stub_gateway import Gateway

LANGUAGE = "python3-http"
BROKEN = "handler.py line 3: ModuleNotFoundError: No module named 'foo'"
HINT = "; packages are listed in requirements.txt"


@pytest.fixture
def hello(gateway: Gateway, faas: Faas, project: Path) -> Path:
    """A project with one function."""
    assert faas("new", "hello", "--lang", LANGUAGE).code == 0
    return project


def context_of(gateway: Gateway, n: int = -1) -> dict[str, bytes]:
    """The files of the n-th build context that the gateway got."""
    with tarfile.open(fileobj=io.BytesIO(gateway.asked_for("POST /build")[n].body)) as tar:
        return {m.name: (tar.extractfile(m) or io.BytesIO()).read() for m in tar.getmembers() if m.isfile()}


def test_new_then_deploy(gateway: Gateway, faas: Faas, hello: Path) -> None:
    done = faas("deploy")
    assert done.code == 0
    assert re.fullmatch(rf"Deployed hello in \d\.\d s\. URL: {re.escape(gateway.url)}/function/hello\n", done.out)
    assert done.err == ""
    files = context_of(gateway)
    assert files["context/function/handler.py"] == (hello / "hello" / "handler.py").read_bytes()
    assert json.loads(files["com.openfaas.docker.config"])["image"] == "hello:latest"
    assert gateway.functions[("openfaas-fn", "hello")]["image"] == "hello:latest"
    assert [a.method for a in gateway.asked if a.path == "/system/functions"] == ["PUT", "POST"]
    assert gateway.asked[-1].query == {"wait": "30.0s", "generation": "7"}
    faas("deploy")
    assert [a.method for a in gateway.asked if a.path == "/system/functions"] == ["PUT", "POST", "PUT"]


def test_a_tag_that_cannot_be_is_found_before_anything_is_sent(gateway: Gateway, faas: Faas, hello: Path) -> None:
    done = faas("deploy", "--tag", "UPPER")
    assert done.code == 2 and done.err.startswith("Error: --tag: tag 'UPPER' must be 1 to 50 of a-z")
    assert gateway.asked == []


def test_to_move_calls_step_by_step_and_not_at_all_is_refused(gateway: Gateway, faas: Faas, hello: Path) -> None:
    done = faas("deploy", "--gradual", "5m", "--no-traffic")
    assert (done.code, done.err) == (2, "Error: --gradual moves calls and --no-traffic moves none: give one of them\n")
    assert gateway.asked == []


def test_the_same_folder_gives_the_same_bytes(gateway: Gateway, faas: Faas, hello: Path) -> None:
    faas("deploy")
    (hello / "hello" / "handler.py").touch()
    (hello / "hello" / "__pycache__").mkdir()
    (hello / "hello" / "__pycache__" / "x.pyc").write_bytes(b"")
    faas("deploy")
    first, second = (a.body for a in gateway.asked_for("POST /build"))
    assert first == second


def test_what_is_sent_is_the_stack_file_with_the_command_lines_changes(gateway: Gateway, faas: Faas, hello: Path) -> None:
    stack = yaml.safe_load((hello / "stack.yaml").read_text())
    stack["functions"]["hello"] |= {
        "environment": {"A": "1", "B": "2"},
        "annotations": {"topic": "x"},
        "limits": {"memory": "64Mi"},
        "fprocess": "python x.py",
        "build_args": {"K": "v"},
    }
    (hello / "stack.yaml").write_text(yaml.safe_dump(stack))
    flags = "-e B=3 -l team=red --secret key --memory-limit 128Mi --cpu-request 100m --readonly --constraint zone=a -n dev"
    done = faas("deploy", *flags.split())
    assert done.code == 0
    assert done.out.endswith("/function/hello.dev\n")
    assert gateway.asked_for("PUT /system/functions")[0].json() == {
        "service": "hello",
        "image": "hello:latest",
        "namespace": "dev",
        "labels": {"team": "red"},
        "annotations": {"topic": "x"},
        "envVars": {"A": "1", "B": "3"},
        "envProcess": "python x.py",
        "secrets": ["key"],
        "constraints": ["zone=a"],
        "limits": {"memory": "128Mi"},
        "requests": {"cpu": "100m"},
        "readOnlyRootFilesystem": True,
    }
    assert json.loads(context_of(gateway)["com.openfaas.docker.config"])["buildArgs"] == {"K": "v"}


def test_a_folder_without_a_stack_file(gateway: Gateway, faas: Faas, project: Path) -> None:
    (project / "src").mkdir()
    (project / "src" / "handler.py").write_text("def handle(req):\n    return req\n")
    assert faas("deploy", "src", "--name", "echo", "-n", "dev").code == 0
    files = context_of(gateway)
    assert files["context/template.yml"] == b"language: python3\n"
    assert json.loads(files["com.openfaas.docker.config"])["image"] == "dev/echo:latest"
    assert faas("deploy", "src").out.endswith("/function/src\n")


def test_an_image_that_exists_is_deployed_without_a_build(gateway: Gateway, faas: Faas) -> None:
    assert faas("deploy", "--image", "ghcr.io/me/x:1", "--name", "x").code == 0
    assert gateway.asked_for("POST /build") == []
    assert gateway.functions[("openfaas-fn", "x")]["image"] == "ghcr.io/me/x:1"


def test_a_broken_handler_is_one_line(gateway: Gateway, faas: Faas, hello: Path) -> None:
    gateway.failing["hello"] = BROKEN
    done = faas("deploy")
    assert (done.code, done.out, done.err) == (1, "", f"Error: hello: {BROKEN}{HINT}\n")


def test_a_replica_that_ends_again_and_again_is_not_waited_for(gateway: Gateway, faas: Faas, hello: Path) -> None:
    gateway.condition = {"phase": "Progressing", "message": ""}
    gateway.replica |= {"state": "CrashLoopBackOff", "reason": "killed: out of memory (limit 64Mi)"}
    done = faas("deploy")
    assert (done.code, done.err) == (1, "Error: hello: killed: out of memory (limit 64Mi)\n")


def test_a_failed_build_shows_its_log_and_why(gateway: Gateway, faas: Faas, hello: Path) -> None:
    gateway.build_report = [{"status": "in_progress", "log": ["resolving", "no such package: x"]}]
    gateway.build_report.append({"status": "failed", "error": "requirements.txt: no such package: x"})
    done = faas("deploy")
    assert done.code == 1
    assert done.err == "hello | resolving\nError: hello: not built: requirements.txt: no such package: x\n"
    assert gateway.functions == {}


def test_a_build_that_ends_without_a_result_has_failed(gateway: Gateway, faas: Faas, hello: Path) -> None:
    gateway.build_report = [{"status": "in_progress", "log": None}]
    assert "ended in the middle" in faas("deploy").err


def test_verbose_shows_the_build(gateway: Gateway, faas: Faas, hello: Path) -> None:
    assert faas("deploy", "--verbose").err == "hello | resolving\n"


def test_a_busy_builder_is_asked_again(gateway: Gateway, faas: Faas, hello: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.canned["POST /build"] = (429, {"Retry-After": "3"}, b"busy")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        del gateway.canned["POST /build"]

    monkeypatch.setattr("cli.build.time.sleep", pause)
    assert faas("deploy").code == 0
    assert pauses == [3]
    first, second = gateway.asked_for("POST /build")
    assert first.body == second.body


def test_one_that_fails_does_not_stop_the_others(gateway: Gateway, faas: Faas, hello: Path) -> None:
    for name in ("second", "third"):
        faas("new", name, "--lang", LANGUAGE)
    gateway.failing["second"] = BROKEN
    done = faas("deploy", "--parallel", "2")
    assert done.code == 1
    assert sorted(line.split()[1] for line in done.out.splitlines()) == ["hello", "third"]
    assert done.err == f"Error: second: {BROKEN}{HINT}\n2 of 3 functions deployed; failed: second\n"


def test_filter_and_one_by_name(gateway: Gateway, faas: Faas, hello: Path) -> None:
    faas("new", "second", "--lang", LANGUAGE)
    assert faas("deploy", "--filter", "s*").out.startswith("Deployed second")
    assert faas("deploy", "hello").out.startswith("Deployed hello")
    assert len(gateway.functions) == 2


def test_replace_removes_first(gateway: Gateway, faas: Faas, hello: Path) -> None:
    faas("deploy")
    assert faas("deploy", "--replace", "--update=false").code == 0
    assert [a.method for a in gateway.asked if a.path == "/system/functions"] == ["PUT", "POST", "DELETE", "POST"]


def test_only_creating_what_exists_is_refused(gateway: Gateway, faas: Faas, hello: Path) -> None:
    assert faas("deploy", "--update=false").code == 0
    done = faas("deploy", "--update=false")
    assert (done.code, done.err) == (1, "Error: hello: it exists (HTTP 409)\n")
    assert gateway.asked_for("PUT /system/functions") == []


def test_without_waiting(gateway: Gateway, faas: Faas, hello: Path) -> None:
    gateway.failing["hello"] = BROKEN
    done = faas("deploy", "--no-wait")
    assert done.code == 0
    assert done.out.startswith("Accepted hello in ")


def test_waiting_has_a_limit_and_says_what_is_missing(gateway: Gateway, faas: Faas, hello: Path) -> None:
    gateway.condition = {"phase": "Progressing", "message": "1 of 2 replicas are ready"}
    done = faas("deploy", "--timeout", "200ms")
    assert done.code == 1
    assert "hello: not ready after 0.2 s: 1 of 2 replicas are ready" in done.err


def test_a_refused_deploy_is_named(gateway: Gateway, faas: Faas, hello: Path) -> None:
    gateway.failing["hello"] = "refuse there is no secret later; create it"
    done = faas("deploy", "--secret", "later")
    assert (done.code, done.err) == (1, "Error: hello: there is no secret later; create it (HTTP 400)\n")


def test_without_a_login_it_says_so_once(gateway: Gateway, faas: Faas, hello: Path) -> None:
    gateway.login = ("admin", "x")
    done = faas("deploy")
    assert done.code == 4
    assert done.err == f"Error: a login is needed at {gateway.url}; log in: faas login -g {gateway.url}\n"
    faas("new", "second", "--lang", LANGUAGE)
    assert faas("deploy").code == 4


def test_a_stock_gateway_takes_images_that_exist(gateway: Gateway, faas: Faas, hello: Path) -> None:
    gateway.stock = True
    done = faas("deploy", "--image", "x:1", "--name", "x")
    assert (done.code, done.err) == (0, "")
    named = faas("deploy")
    assert named.code == 0
    assert "does not build functions; deploying the image hello:latest" in named.err
    (hello / "src").mkdir()
    (hello / "src" / "handler.py").write_text("def handle(req): ...\n")
    nameless = faas("deploy", "src")
    assert nameless.code == 1
    assert "deploy an image: faas deploy --image" in nameless.err


def test_a_language_without_a_template_goes_to_a_stock_gateway_only(gateway: Gateway, faas: Faas, project: Path) -> None:
    (project / "js").mkdir()
    (project / "stack.yaml").write_text(
        "provider: {name: openfaas}\nfunctions:\n  js: {lang: ruby, handler: ./js, image: 'me/js:1'}\n"
    )
    done = faas("deploy")
    assert done.code == 2
    assert "no template for language 'ruby'" in done.err
    gateway.stock = True
    assert faas("deploy").code == 0


def test_extra_paths_of_the_stack_file_go_along(gateway: Gateway, faas: Faas, hello: Path) -> None:
    (hello / "shared").mkdir()
    (hello / "shared" / "lib.py").write_text("x = 1\n")
    with (hello / "stack.yaml").open("a") as stack:
        stack.write("configuration:\n  copy: [./shared]\n  templates: [{name: python3-http}]\n")
    done = faas("deploy")
    assert done.code == 0
    assert context_of(gateway)["context/function/shared/lib.py"] == b"x = 1\n"
    (hello / "stack.yaml").write_text((hello / "stack.yaml").read_text().replace("./shared", "../outside"))
    assert "outside of the project's folder" in faas("deploy").err


def test_a_link_out_of_the_folder_is_refused(gateway: Gateway, faas: Faas, hello: Path) -> None:
    (hello / "hello" / "passwd").symlink_to("/etc/passwd")
    done = faas("deploy")
    assert done.code == 2
    assert "outside of the function's folder" in done.err
    assert gateway.asked_for("POST /build") == []


def test_a_bad_image_name_is_found_before_anything_is_sent(gateway: Gateway, faas: Faas, hello: Path) -> None:
    (hello / "stack.yaml").write_text((hello / "stack.yaml").read_text().replace("hello:latest", "HELLO!"))
    assert faas("deploy").code == 2
    assert gateway.asked == []


def test_new_refuses_to_write_over_anything(faas: Faas, project: Path) -> None:
    (project / "taken").mkdir()
    assert "taken is there already" in faas("new", "taken", "--lang", LANGUAGE).err
    assert not (project / "stack.yaml").exists()
    faas("new", "one", "--lang", LANGUAGE)
    before = (project / "stack.yaml").read_text()
    done = faas("new", "one", "--lang", LANGUAGE, "--handler", "elsewhere")
    assert done.code == 2
    assert "has a function one already" in done.err
    assert (project / "stack.yaml").read_text() == before
    assert not (project / "elsewhere").exists()


@pytest.mark.parametrize("name", ["Bad_", "a--b", "-a", "x" * 51])
def test_new_with_a_bad_name_writes_nothing(faas: Faas, project: Path, name: str) -> None:
    assert faas("new", "--lang", LANGUAGE, "--", name).code == 2
    assert list(project.iterdir()) == []


def test_new_says_which_languages_there_are(faas: Faas) -> None:
    languages = [template.language for template in Templates().list()]
    for done in (faas("new", "x"), faas("new", "x", "--lang", "cobol")):
        assert done.code == 2
        assert all(language in done.err for language in languages)
    assert all(language in faas("new", "--list").out for language in languages)
    assert [t["language"] for t in json.loads(faas("template", "list", "--json").out)] == languages


def test_new_adds_to_the_file_that_is_named(faas: Faas, project: Path) -> None:
    assert faas("new", "x", "--lang", LANGUAGE, "-f", "other.yml", "--prefix", "ghcr.io/me", "-g", "http://gw:1").code == 0
    stack = yaml.safe_load((project / "other.yml").read_text())
    assert stack["provider"]["gateway"] == "http://gw:1"
    assert stack["functions"]["x"] == {"lang": LANGUAGE, "handler": "./x", "image": "ghcr.io/me/x:latest"}


def test_a_folder_without_a_handler_is_found_before_anything_is_sent(gateway: Gateway, faas: Faas, hello: Path) -> None:
    (hello / "hello" / "handler.py").unlink()
    done = faas("deploy")
    assert (done.code, gateway.asked) == (2, [])
    assert done.err == f"Error: hello: there is no hello/handler.py, where {LANGUAGE} expects the function\n"
    (hello / "hello" / "handler.py").write_text("def handel(event, context): ...\n")
    done = faas("deploy")
    assert (done.code, [asked for asked in gateway.asked if asked.method != "GET"]) == (2, [])
    assert "hello: hello/handler.py has no function handle(event, context)" in done.err
    assert "did you mean handel?" in done.err


def test_what_a_deploy_takes_away_is_noted(gateway: Gateway, faas: Faas, hello: Path) -> None:
    flags = "-e A=1 --secret key --memory-limit 64Mi -l com.openfaas.scale.max=3 -l team=red"
    assert faas("deploy", *flags.split()).err == ""
    gone = "label com.openfaas.scale.max, secret key, env A, limit memory"
    assert faas("deploy").err.startswith(f"Note: hello: no longer set: {gone} (")
    assert faas("deploy").err == ""


def test_a_function_that_is_removed_meanwhile_is_said_to_be(gateway: Gateway, faas: Faas, hello: Path) -> None:
    gateway.canned["GET /api/v1/functions/hello"] = (404, {}, b"")
    assert faas("deploy").err == "Error: hello: it was removed while it was deployed\n"


def test_a_variable_that_no_shell_could_name_is_refused(gateway: Gateway, faas: Faas, hello: Path) -> None:
    done = faas("deploy", "--env", "A B=1")
    assert (done.code, gateway.asked) == (2, [])
    assert "environment variable 'A B'" in done.err


def test_a_stack_file_that_cannot_be_downloaded_is_named(gateway: Gateway, faas: Faas) -> None:
    done = faas("deploy", "-f", "https://127.0.0.1:1/x.yml")
    assert done.code == 2
    assert done.err.startswith("Error: https://127.0.0.1:1/x.yml cannot be downloaded: ")
    assert "gateway" not in done.err
