"""The screen. One file a tab (see ``stseg.ui.tabs``); nothing here computes with tensors.

``build_page`` gives the page, ``launch_options`` what Gradio must be told beside it, and
``Scratch`` the folder that a running app writes in.
"""

from __future__ import annotations

from stseg.ui.look import launch_options
from stseg.ui.page import build_page
from stseg.ui.scratch import Scratch

__all__ = ["Scratch", "build_page", "launch_options"]
