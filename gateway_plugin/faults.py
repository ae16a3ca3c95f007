"""Why the daemon could not be asked, or told; apart from the client, so that who handles them needs no aiohttp."""


class Unavailable(Exception):
    """The daemon gave no usable answer; the message is a reason for a header and an outcome."""


class Refused(Exception):
    """What the client asked for does not exist, or is not for it; status and message are for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Rejected(Exception):
    """The daemon understood a delivery and will not have it, now or later."""
