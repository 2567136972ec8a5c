"""How the page looks and what runs in the browser: theme, style sheet, script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from stseg.limits import MIB, Limits
from stseg.render import COLOURS

_HERE = Path(__file__).resolve().parent

# Plain ``Font``: a string would become a font file that Gradio looks for and does not find.
_SANS = [gr.themes.Font(name) for name in ("system-ui", "Segoe UI", "Noto Sans", "sans-serif")]
_MONO = [gr.themes.Font(name) for name in ("ui-monospace", "DejaVu Sans Mono", "monospace")]


def launch_options(limits: Limits) -> dict[str, Any]:
    """Keyword arguments of ``Blocks.launch`` that belong to the page and not to the address.

    Args:
        limits: of what visitors upload; what is larger is refused while it arrives.
    """
    colours = "".join(
        f"--label-{label}: rgb({red}, {green}, {blue}); "
        for label, (red, green, blue) in enumerate(COLOURS)
    )
    return {
        "theme": _theme(),
        "css": f":root {{ {colours} }}\n"
        + "\n".join(path.read_text(encoding="utf-8") for path in sorted(_HERE.glob("*.css"))),
        "js": (_HERE / "page.js").read_text(encoding="utf-8"),
        "show_error": False,
        "footer_links": ["api"],
        "max_file_size": limits.megabytes * MIB,
        "ssr_mode": False,
    }


def _theme() -> gr.themes.Base:
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        secondary_hue=gr.themes.colors.slate,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_sm,
        spacing_size=gr.themes.sizes.spacing_sm,
        text_size=gr.themes.sizes.text_sm,
        font=_SANS,
        font_mono=_MONO,
    )
    theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_shadow="none",
        block_label_text_weight="600",
        block_title_text_weight="600",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_600",
        button_primary_text_color="white",
        slider_color="*primary_600",
    )
    return theme
