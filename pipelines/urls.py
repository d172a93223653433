"""Paths that may be URLs, and their forms without secrets."""

import re

# A name before the host is no secret by itself: gs://anonymous@bucket, abfs://container@account.
_USER = re.compile(r"(?<=://)[^/?#@:]*:(?!:|\d+/)[^?#]*(?=@)")
_OPTION = re.compile(
    r"(?i)([?&][^=&#]*(?:secret|passw|token|key|sig|cred|auth|sas)[^=&#]*=)([^&#]+)"
)


def is_url(path: str) -> bool:
    """Checks whether a path names a file system other than this machine's own."""
    return "://" in path


def without_user(path: str) -> str:
    """Drops user and password: the rest identifies a file, whoever reads it."""
    return _USER.sub("", path) if is_url(path) else path


def shown(path: str) -> str:
    """Formats a path or URL for messages and manifests, with `***` in place of secrets."""
    if not is_url(path):
        return path
    return _USER.sub("***", _OPTION.sub(r"\1***", path))


def secrets_of(path: str) -> list[str]:
    """Returns the users, passwords and secret options of a URL."""
    if not is_url(path):
        return []
    users = _USER.findall(path)
    passwords = [user.partition(":")[2] for user in users]
    options = [value for _, value in _OPTION.findall(path)]
    return [secret for secret in (*users, *passwords, *options) if secret]
