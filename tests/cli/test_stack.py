from __future__ import annotations

from pathlib import Path

import pytest

from cli.errors import Misuse
from cli.stack import read_provider_gateway, read_stack
from tests.cli.stub_gateway import Gateway

HEAD = "version: 1.0\nprovider:\n  name: openfaas\n"
WHOLE = """
version: 1.0
provider:
  name: openfaas
  gateway: http://example.com:31112
functions:
  hello:
    lang: python3-http
    handler: ./hello
    image: ghcr.io/me/hello:0.1
    fprocess: python index.py
    environment:
      NUMBER: 010
      FLOAT: 1.10
      SWITCH: yes
      DATE: 2026-01-31
      NOTHING:
      WHO: inline
    environment_file: [first.yml, second.yml]
    secrets: [api-key, other]
    constraints: ["node.arch = arm64"]
    labels: {com.openfaas.scale.min: 2, team: red}
    annotations: {topic: cron, json: '{"a": 1}'}
    limits: {memory: 128Mi, cpu: 500m}
    requests: {memory: 64Mi}
    namespace: dev
    readonly_root_filesystem: true
    skip_build: false
    build_options: [dev]
    build_args: {GO: 1.20}
    build_secrets: {pip: ./pip.conf}
    platforms: linux/amd64,linux/arm64
  plain:
    skip_build: true
    image: nginx
configuration:
  templates:
    - name: python3-http
      source: https://github.com/openfaas/python-flask-template
  copy: [./shared]
"""


def write(folder: Path, text: str, name: str = "stack.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_every_field_is_read_and_scalars_keep_their_text(project: Path) -> None:
    write(project, "environment: {WHO: first, A: 1}\n", "first.yml")
    write(project, "environment: {WHO: second}\n", "second.yml")
    stack = read_stack(write(project, WHOLE).relative_to(project), environment={})
    hello, plain = stack.functions
    assert stack.gateway == "http://example.com:31112"
    assert stack.copies == ("./shared",)
    assert [template.name for template in stack.templates] == ["python3-http"]
    assert stack.notes[0] == "stack.yaml: functions.hello.build_options does nothing; templates are built in"
    assert hello.environment == {
        "NUMBER": "010",
        "FLOAT": "1.10",
        "SWITCH": "yes",
        "DATE": "2026-01-31",
        "NOTHING": "",
        "WHO": "second",
        "A": "1",
    }
    assert (hello.name, hello.lang, hello.handler, hello.image) == (
        "hello",
        "python3-http",
        Path("hello"),
        "ghcr.io/me/hello:0.1",
    )
    assert (hello.fprocess, hello.secrets, hello.constraints) == (
        "python index.py",
        ("api-key", "other"),
        ("node.arch = arm64",),
    )
    assert hello.labels == {"com.openfaas.scale.min": "2", "team": "red"}
    assert hello.annotations == {"topic": "cron", "json": '{"a": 1}'}
    assert (hello.limits, hello.requests) == ({"memory": "128Mi", "cpu": "500m"}, {"memory": "64Mi"})
    assert (hello.namespace, hello.readonly_root_filesystem, hello.builds) == ("dev", True, True)
    assert (hello.build_options, hello.build_args) == (("dev",), {"GO": "1.20"})
    assert (hello.build_secrets, hello.platforms) == ({"pip": "./pip.conf"}, ("linux/amd64", "linux/arm64"))
    assert (plain.image, plain.handler, plain.builds) == ("nginx", None, False)


def test_variables_are_replaced_unless_it_is_switched_off(project: Path) -> None:
    text = HEAD + "functions:\n  f:\n    image: ${REGISTRY:-local}/f:${TAG}\n"
    path = write(project, text)
    assert read_stack(path, environment={"TAG": "7"}).functions[0].image == "local/f:7"
    assert read_stack(path, envsubst=False, environment={"TAG": "7"}).functions[0].image == "${REGISTRY:-local}/f:${TAG}"


def test_environment_files_are_expanded_too(project: Path) -> None:
    write(project, "environment:\n  URL: ${HOST:-none}\n", "env.yml")
    path = write(project, HEAD + "functions:\n  f:\n    image: x\n    environment_file: [env.yml]\n")
    assert read_stack(path, environment={"HOST": "db"}).functions[0].environment == {"URL": "db"}


def test_anchors_and_merges_work(project: Path) -> None:
    text = HEAD + "functions:\n  a: &base\n    image: x\n    labels: {k: v}\n  b:\n    <<: *base\n    image: y\n"
    a, b = read_stack(write(project, text)).functions
    assert (a.image, b.image, b.labels) == ("x", "y", {"k": "v"})


def test_fields_that_nobody_knows_are_told(project: Path) -> None:
    path = write(project, HEAD + "owner: me\nfunctions:\n  f: {image: x, enviroment: {A: 1}}\n")
    stack = read_stack(path.relative_to(project))
    assert stack.notes == (
        "stack.yaml: owner is not a known field and does nothing",
        "stack.yaml: functions.f.enviroment is not a known field and does nothing; did you mean environment?",
    )


def test_a_field_that_is_there_already_is_not_what_was_meant(project: Path) -> None:
    path = write(project, HEAD + "functions:\n  f: {image: x, images: y}\n")
    assert read_stack(path.relative_to(project)).notes == (
        "stack.yaml: functions.f.images is not a known field and does nothing",
    )


def test_a_handler_is_looked_for_here_and_then_beside_the_file(project: Path) -> None:
    (project / "sub" / "hello").mkdir(parents=True)
    path = write(project / "sub", HEAD + "functions:\n  f:\n    lang: python3\n    handler: ./hello\n").relative_to(project)
    assert read_stack(path).functions[0].handler == Path("sub/hello")
    (project / "hello").mkdir()
    assert read_stack(path).functions[0].handler == Path("hello")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("functions: {}", "stack.yaml: 'provider' is missing"),
        ("provider: {name: faas}", "provider.name must be openfaas, not 'faas'"),
        ("provider: openfaas", "provider must be a mapping, not 'openfaas'"),
        ("provider: {name: openfaas, gateway: [x]}", "provider.gateway must be a text, not a list"),
        ("version: 2.0\nprovider: {name: openfaas}", "version '2.0' is not known"),
        ("- a", "a mapping with 'provider' and 'functions' is wanted, not a list"),
        ("a: [", "stack.yaml line 1: "),
        (HEAD + "functions: [a]", "functions must be a mapping of names to functions, not a list"),
        (HEAD + "functions:\n  f:\n", "functions.f must be a mapping"),
        (HEAD + "functions:\n  f: {}\n", "functions.f needs 'handler'"),
        (
            HEAD + "functions:\n  f: {lang: python3, hander: ./f}\n",
            "or 'image'; hander is not a known field and does nothing; did you mean handler?",
        ),
        (HEAD + "functions:\n  f: {image: x}\n  f: {image: y}\n", "stack.yaml line 6: 'f' is there twice"),
        (HEAD + "functions:\n  F_: {image: x}\n", "functions.F_: function name 'F_'"),
        (HEAD + "functions:\n  f: {image: x, namespace: A}\n", "functions.f: namespace 'A'"),
        (HEAD + "functions:\n  f: {image: x, environment: [a]}\n", "functions.f.environment must be a mapping, not a list"),
        (HEAD + "functions:\n  f: {image: x, environment: {A: [1]}}\n", "functions.f.environment.A must be a text, not a list"),
        (HEAD + "functions:\n  f: {image: x, labels: {a: {b: c}}}\n", "functions.f.labels.a must be a text, not a mapping"),
        (HEAD + "functions:\n  f: {image: x, secrets: {a: b}}\n", "functions.f.secrets must be a list of texts, not a mapping"),
        (
            HEAD + "functions:\n  f: {image: x, skip_build: maybe}\n",
            "functions.f.skip_build must be true or false, not 'maybe'",
        ),
        (HEAD + "functions:\n  f: {image: x, limits: {memory: lots}}\n", "functions.f.limits.memory: 'lots' is not a quantity"),
        (HEAD + "functions:\n  f: {image: x, limits: {disk: 1Gi}}\n", "functions.f.limits.disk is not known"),
        (HEAD + "functions:\n  f: {image: [x]}\n", "functions.f.image must be a text, not a list"),
        (HEAD + "functions:\n  f: {image: x, environment_file: [none.yml]}\n", "none.yml: No such file"),
        (HEAD + "functions:\n  f: {image: '${X'}\n", "stack.yaml line 5: "),
        (HEAD + "functions:\n  ? [a]\n  : {image: x}\n", "a key must be a plain text"),
        ("a: *b", "line 1"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_field(project: Path, text: str, message: str) -> None:
    write(project, text)
    with pytest.raises(Misuse) as caught:
        read_stack("stack.yaml", environment={})
    assert message in str(caught.value)
    assert str(caught.value).startswith(("stack.yaml", "none.yml"))
    assert "\n" not in str(caught.value)


def test_a_missing_or_unreadable_file_is_named(project: Path) -> None:
    with pytest.raises(Misuse, match=r"none\.yaml: No such file"):
        read_stack("none.yaml")
    (project / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Misuse, match=r"bytes\.yaml: not a text in UTF-8"):
        read_stack("bytes.yaml")


@pytest.mark.parametrize(
    ("glob", "regex", "names"),
    [("", "", ["api", "api-v2", "web"]), ("api*", "", ["api", "api-v2"]), ("", "v[0-9]$", ["api-v2"]), ("web", "", ["web"])],
)
def test_filter_and_regex_choose(project: Path, glob: str, regex: str, names: list[str]) -> None:
    stack = read_stack(write(project, HEAD + "functions:\n  api: {image: x}\n  api-v2: {image: x}\n  web: {image: x}\n"))
    assert [f.name for f in stack.select(glob, regex)] == names


@pytest.mark.parametrize(
    ("glob", "regex", "message"),
    [("x*", "", "no function fits 'x*'; it has api"), ("a", "b", "do not go together"), ("", "(", "--regex '('")],
)
def test_a_filter_that_cannot_be_or_fits_nothing_is_refused(project: Path, glob: str, regex: str, message: str) -> None:
    stack = read_stack(write(project, HEAD + "functions:\n  api: {image: x}\n"))
    with pytest.raises(Misuse) as caught:
        stack.select(glob, regex)
    assert message in str(caught.value)


def test_only_the_gateway_is_read_for_other_commands(project: Path) -> None:
    path = write(project, "provider: {name: openfaas, gateway: '${GW:-http://gw}'}\nfunctions: [broken]\n")
    assert read_provider_gateway(path, {}) == "http://gw"


def test_a_stack_file_may_be_at_a_url(gateway: Gateway) -> None:
    text = HEAD + "functions:\n  f: {image: x}\n"
    gateway.canned["GET /Stacks/stack.yml"] = (200, {}, text.encode())
    stack = read_stack(f"{gateway.url}/Stacks/stack.yml?ref=a%20b")
    assert [f.name for f in stack.functions] == ["f"]
    assert gateway.asked[-1].query == {"ref": "a b"}
    with pytest.raises(Misuse, match="HTTP 404"):
        read_stack(f"{gateway.url}/none.yml")
