"""``python -m stseg weights``: published weights of flow estimators."""

from __future__ import annotations

import argparse

NAME = "weights"
HELP = "Fetch published weights of a flow estimator to the user's cache folder, and check them."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("name", help="raft (raft-sintel), raft-large or raft-small")
    parser.add_argument(
        "--source", default=None, help="another address or a local file, instead of the published"
    )


def run(arguments: argparse.Namespace) -> None:
    """Fetch, check and store.

    Raises:
        InputError: unknown name, no network, or other weights than those that were published.
    """
    from tqdm import tqdm

    from stseg.flow.weights import check_name, fetch_weights

    check_name(arguments.name)
    with tqdm(desc=arguments.name, unit="B", unit_scale=True, unit_divisor=1024) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total or None
            bar.update(done - bar.n)

        path = fetch_weights(arguments.name, arguments.source, report)
    print(f"The weights are {path}")
