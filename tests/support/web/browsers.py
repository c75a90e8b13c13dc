"""A type for tests of pages; the fixture `opened` is in the folder of the tests."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Opens a page from the disk at a width, in a colour scheme, with or without JavaScript.
Opened = Callable[..., "Page"]
