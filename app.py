"""Start the screen: ``python app.py``, then open the address that it prints."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from stseg import memory, threads
from stseg.cli.given import a_path
from stseg.logs import Lines

DATA = "STSEG_DATA"
LIMITS = "STSEG_LIMITS"
PORT = "GRADIO_SERVER_PORT"

logger = logging.getLogger("stseg.app")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read where to listen and which data folders to offer."""
    parser = argparse.ArgumentParser(
        prog="app.py", description="See what moves together in a video.", allow_abbrev=False
    )
    parser.add_argument(
        "--data",
        type=a_path,
        action="append",
        metavar="DIR",
        help="folder of clips or of a data set to offer beside the shipped clips; may be given "
        f"several times (default: the folders named in {DATA}, separated by {os.pathsep!r})",
    )
    parser.add_argument(
        "--limit",
        action="append",
        metavar="NAME=NUMBER",
        help="a limit of what visitors upload, for instance frames=6000; megabytes, seconds, "
        "frames, side (pixels), clips (that one visitor keeps), weights (MiB of a model), and "
        "of the process that decodes a file memory (MiB), patience and effort (CPU seconds of a "
        "frame and of a file) (default: "
        f"{LIMITS}, separated by commas)",
    )
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port (default: a free one from 7860)")
    parser.add_argument(
        "--share",
        action="store_true",
        help="ask gradio.live for a public address",
    )
    arguments = parser.parse_args(argv)
    if arguments.data is None:
        named = os.environ.get(DATA, "").split(os.pathsep)
        arguments.data = [Path(folder) for folder in named if folder]
    if arguments.limit is None:
        arguments.limit = [word for word in os.environ.get(LIMITS, "").split(",") if word]
    return arguments


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 1 <= int(text) < 2**16


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until it is interrupted; the exit status: 0, or 2 for unusable options."""
    lines, handler = Lines(), logging.StreamHandler()
    handler.setFormatter(lines)
    logging.basicConfig(handlers=[handler])
    logging.getLogger("stseg").setLevel(logging.INFO)
    arguments = parse(argv)
    # Gradio reads its own variable as soon as it is imported; a trace is all it says of this one.
    for port in (arguments.port, os.environ.get(PORT) or None):
        if port is not None and not _is_port(str(port)):
            logger.error("There is no port %s. Choose one from 1 to 65535.", port)
            return 2
    if not os.environ.get(PORT):
        os.environ.pop(PORT, None)
    memory.share_heaps()
    threads.wait_briefly()
    # Imported late, so that --help answers at once.
    from stseg.errors import InputError
    from stseg.limits import read_limits
    from stseg.scratch import Scratch

    scratch = Scratch()
    # What Gradio keeps of uploads is in there, too, so that it goes even after a kill. It is asked
    # for as soon as Gradio is imported.
    os.environ.setdefault("GRADIO_TEMP_DIR", str(scratch.path / "gradio"))
    from stseg.ui import build_page, health_routes, launch_options

    try:
        limits = read_limits(arguments.limit)
        app = build_page(arguments.data, limits, scratch)
    except InputError as error:
        scratch.close()
        logger.error("%s", error)
        return 2
    lines.hide = app.sessions.names
    # A polite kill cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _, address, public = app.blocks.launch(
            server_name=arguments.host,
            server_port=arguments.port,
            share=arguments.share,
            prevent_thread_lock=True,
            quiet=True,
            app_kwargs={"routes": health_routes(app)},
            **launch_options(limits),
        )
        memory.keep()
        logger.info("Open %s", public or address)
        app.blocks.block_thread()
    except OSError as error:  # the port is taken
        logger.error("%s", error)
        return 2
    except KeyboardInterrupt:
        logger.info("Stopped.")
    finally:
        app.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
