"""Paths that may be URLs: how they are told apart and shown without secrets."""

import re

# A name before the host is no secret by itself: gs://anonymous@bucket, abfs://container@account.
_USER = re.compile(r"(?<=://)[^/?#@:]*:(?!:|\d+/)[^?#]*(?=@)")


_OPTION = re.compile(
    r"(?i)([?&][^=&#]*(?:secret|passw|token|key|sig|cred|auth|sas)[^=&#]*=)([^&#]+)"
)


def is_url(path: str) -> bool:
    """Whether it names a file system, and is no path of this machine's own."""
    return "://" in path


def without_user(path: str) -> str:
    """A path or URL without user and password: what identifies a file whoever reads it."""
    return _USER.sub("", path) if is_url(path) else path


def shown(path: str) -> str:
    """A path or URL as messages and manifests show it: with `***` in place of secrets."""
    if not is_url(path):
        return path
    return _USER.sub("***", _OPTION.sub(r"\1***", path))
