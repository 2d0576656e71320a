from __future__ import annotations

from tests.gateway.control.reference import PAGE, page, served


async def test_the_api_page_lists_the_routes_as_they_are() -> None:
    assert PAGE.read_text() == page(await served()), "python -m tests.gateway.control.reference writes it anew"
