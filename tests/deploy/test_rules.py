"""Rules are valid, and each alert fires when it should and not otherwise."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.deploy.prometheus import CONFIG, RULES, promtool, rules


def test_the_configuration_and_all_rules_are_valid() -> None:
    checked = promtool("check", "config", CONFIG)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_fires_for_what_is_ill_and_not_for_what_is_well(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "alerts_test.yml").read_text()
    file = tmp_path / "alerts_test.yml"
    file.write_text(text.replace("[RULES]", json.dumps([str(rule) for rule in RULES])))
    tested = promtool("test", "rules", file)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert set(re.findall(r'alertname="(\w+)"', text)) == {rule["alert"] for rule in rules() if "alert" in rule}
