from __future__ import annotations

from pathlib import Path

import pytest

from cli.errors import Misuse
from cli.selection import Asked, Changes, select
from cli.stack import StackFunction

STACK = """
provider: {name: openfaas, gateway: http://stack:1}
functions:
  hello: {lang: python3, handler: ./hello, labels: {team: red}}
  alike: {handler: ./shared}
  twin: {handler: ./shared, lang: python3-asgi}
  ready: {image: nginx}
"""


@pytest.fixture
def stack(project: Path) -> Path:
    for name in ("hello", "shared", "loose"):
        (project / name).mkdir()
        (project / name / "handler.py").write_text("def handle(event, context): ...\n")
    (project / "stack.yaml").write_text(STACK)
    return project


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        (Asked(), [("hello", "python3"), ("alike", "python3-http"), ("twin", "python3-asgi"), ("ready", "")]),
        (Asked(path="hello"), [("hello", "python3")]),
        (Asked(path="./hello/"), [("hello", "python3")]),
        (Asked(path="hello", lang="python3-http"), [("hello", "python3-http")]),
        (Asked(name="ready"), [("ready", "")]),
        (Asked(path="ready"), [("ready", "")]),
        (Asked(path="shared", name="twin"), [("twin", "python3-asgi")]),
        (Asked(path="shared", name="other"), [("other", "python3-http")]),
        (Asked(path="loose"), [("loose", "python3-http")]),
        (Asked(path="loose", name="n", lang="python3"), [("n", "python3")]),
        (Asked(glob="t*"), [("twin", "python3-asgi")]),
        (Asked(image="nginx", name="web"), [("web", "")]),
    ],
)
def test_which_functions_are_meant(stack: Path, asked: Asked, chosen: list[tuple[str, str]]) -> None:
    assert [(f.name, f.lang) for f in select(asked).functions] == chosen


def test_a_folder_of_the_stack_file_keeps_its_settings(stack: Path) -> None:
    selection = select(Asked(path="hello"))
    assert selection.functions[0].labels == {"team": "red"}
    assert selection.gateway == "http://stack:1"
    assert select(Asked(path="hello", name="other")).functions[0].labels == {}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(path="shared"), "the handler of several functions (alike, twin)"),
        (Asked(path="nowhere"), "nowhere is neither a folder nor a function of stack.yaml"),
        (Asked(path="b/nowhere", name="x"), "no such folder: b/nowhere"),
        (Asked(path="stack.yaml"), "faas deploy -f stack.yaml"),
        (Asked(image="x"), "--image needs --name"),
        (Asked(image="x", name="y", path="hello"), "and no folder or filter"),
        (Asked(path="hello", glob="x"), "--filter and --regex choose from a stack file"),
        (Asked(name="hello", glob="x"), "one function by its name, or several"),
        (Asked(file="none.yaml"), "none.yaml: No such file"),
    ],
)
def test_what_is_not_clear_is_refused(stack: Path, asked: Asked, message: str) -> None:
    with pytest.raises(Misuse) as caught:
        select(asked)
    assert message in str(caught.value)


def test_a_missing_handler_folder_is_named(stack: Path) -> None:
    (stack / "hello" / "handler.py").unlink()
    (stack / "hello").rmdir()
    with pytest.raises(Misuse, match=r"stack\.yaml: functions\.hello\.handler: the folder hello does not exist"):
        select(Asked())


def test_nothing_to_deploy_says_how_to_begin(project: Path) -> None:
    with pytest.raises(Misuse, match="faas new NAME"):
        select(Asked())


def changes(**given: object) -> Changes:
    empty: dict[str, object] = {key: {} for key in ("environment", "labels", "annotations", "limits", "requests")}
    lists: dict[str, object] = {"secrets": (), "constraints": (), "fprocess": "", "namespace": "", "readonly": False}
    return Changes(**{**empty, **lists, **given})  # type: ignore[arg-type]


def test_the_command_line_adds_to_maps_and_lists_and_wins() -> None:
    function = StackFunction("f", environment={"A": "1", "B": "2"}, secrets=("x",), labels={"l": "1"}, namespace="dev")
    changed = changes(environment={"B": "3"}, secrets=("y", "x"), limits={"cpu": "1"}, readonly=True).applied_to(function)
    assert changed.environment == {"A": "1", "B": "3"}
    assert changed.secrets == ("x", "y")
    assert (changed.limits, changed.labels, changed.namespace) == ({"cpu": "1"}, {"l": "1"}, "dev")
    assert changed.readonly_root_filesystem
    assert changes(namespace="prod").applied_to(function).namespace == "prod"


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [("Bad", {}, "'Bad'"), ("f", {"limits": {"memory": "much"}}, "'much'"), ("f", {"namespace": "No"}, "'No'")],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(name: str, given: dict[str, object], message: str) -> None:
    with pytest.raises(Misuse) as caught:
        changes(**given).applied_to(StackFunction(name))
    assert message in str(caught.value)
