from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from autoscaler.simulator.chart import bar_chart, line_chart
from autoscaler.simulator.comparison import Comparison, compare
from autoscaler.simulator.drawing import bars, lines
from autoscaler.simulator.page import page
from autoscaler.simulator.policy import named
from autoscaler.simulator.synthetic import make
from tests.autoscaler.simulator.test_comparison import small


class Seen(HTMLParser):
    """Notes tags, attributes and text; open tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_holds_table_and_charts_and_loads_nothing(tmp_path: Path) -> None:
    text = page(small(tmp_path))
    seen = Seen(text)
    assert seen.tags.count("svg") == 7
    assert not {"script", "link", "img", "iframe", "object"} & set(seen.tags)
    assert not {"src", "href", "onload"} & {name for name, _ in seen.attributes}
    assert "url(" not in text and "@import" not in text
    assert {"pinnace", "knative", "38"} <= set(seen.text)


def test_names_are_text_and_nothing_else() -> None:
    comparison = compare(make("burst:calls=2"), [msgspec.structs.replace(named("fixed"), name="<b>&")], [1])
    assert "<b>" not in page(comparison)
    assert "<b>&" in Seen(page(comparison)).text


def charts(comparison: Comparison) -> list[ElementTree.Element]:
    drawn = [bar_chart(chart) for chart in bars(comparison)] + [line_chart(chart) for chart in lines(comparison)]
    return [ElementTree.fromstring(svg) for svg in drawn]  # well formed


def test_a_bars_length_is_its_value(tmp_path: Path) -> None:
    comparison = small(tmp_path, seeds=(1,))
    widths = [float(rect.attrib["width"]) for rect in charts(comparison)[1].iter("rect")]
    ours, knative = (result.runs[0].replica_seconds for result in comparison.results)
    assert widths[0] / widths[1] == pytest.approx(ours / knative, rel=0.01)


def test_everything_lies_within_the_picture(tmp_path: Path) -> None:
    for svg in charts(small(tmp_path)):
        _, _, width, height = (float(number) for number in svg.attrib["viewBox"].split())
        for text in svg.iter("text"):
            assert 0 <= float(text.attrib["x"]) <= width
            assert 0 <= float(text.attrib["y"]) <= height
