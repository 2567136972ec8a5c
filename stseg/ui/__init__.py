"""The screen. One file a tab (see ``stseg.ui.tabs``); nothing here computes with tensors.

``build_page`` gives the page, ``launch_options`` what Gradio must be told beside it.
"""

from __future__ import annotations

from stseg.ui.health import health_routes
from stseg.ui.look import launch_options
from stseg.ui.page import build_page

__all__ = ["build_page", "health_routes", "launch_options"]
