"""Downloads: their URLs may hold a password or a token, which nobody is shown."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from ml_assets.settings import scrubbed, without_credentials


@contextmanager
def downloading(url: str) -> Iterator[None]:
    """Report what goes wrong with a download.

    Raises:
        dagster.Failure: The server does not answer, or refuses; it may be tried again.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)  # it would log the whole URL
    try:
        yield
    except requests.RequestException as error:
        # Not raised from the error, whose own message would be shown too.
        raise dg.Failure(
            f"The download of {without_credentials(url)} failed: {scrubbed(str(error))}. Expected: "
            "a server that answers with the file. Remedy: try again later, or correct the URL."
        ) from None
