"""What went wrong with a URL, told without telling secrets: does it pass, or must someone act?"""

from __future__ import annotations

import asyncio
import re
import sys
from urllib.parse import urlsplit, urlunsplit

from hqdata.errors import DatasetError, HqdataError, UserError
from hqdata.remote.retry import PassingError, retry_after

_FOREIGN = (
    ("aiohttp", "ClientError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("httpx", "HTTPError"),
    ("httpx2", "HTTPError"),
    ("azure.core.exceptions", "AzureError"),
)
"""What the libraries below fsspec raise that is no OSError."""

_NO_CREDENTIALS = {
    "CredentialRetrievalError",
    "DefaultCredentialsError",
    "NoAuthTokenError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "RefreshError",
    "SSOTokenLoadError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}
"""Exceptions of those libraries that say that nobody has logged in."""

_ACCESS_CODES = {
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
"""Codes of S3 that say the same, some of them with status 400."""

_PASSING_CODES = {
    "ConditionalRequestConflict",
    "IncompleteBody",
    "InternalError",
    "NoSuchUpload",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
}
"""Codes of S3 that a further try outlives, some of them with a status that says otherwise. An
upload in parts that is gone is one that its server forgot when it was restarted."""


class NotThereError(DatasetError):
    """There is no such file."""


def redact(url: str) -> str:
    """A URL as it may be shown: without user, password, query and fragment."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2] if "://" in url else parts.netloc
    # `hf://datasets/me/shards@v1` names a revision behind its @, and `gs://b/a#1.tar` is a name.
    return urlunsplit((parts.scheme, place, parts.path, "", ""))


def failures() -> tuple[type[Exception], ...]:
    """What reading from a URL may raise. A library that is not loaded raises nothing."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in _FOREIGN)
    foreign = [kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception)]
    return (OSError, ValueError, EOFError, asyncio.TimeoutError, *foreign)


def explain(error: BaseException, where: str) -> PassingError | HqdataError:
    """What to make of a failure at the file or folder `where`, a URL as it may be shown."""
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, failures()):
        error = error.__cause__  # fsspec's for http says so whatever it was
    status, code = status_of(error), _code(error)
    told = f" (HTTP {status})" if status else ""
    if code in _PASSING_CODES:
        return PassingError(f"{code}{told}", wait=_asked(error))
    if type(error).__name__ == "ParamValidationError":
        # Its text has the URL, and all that is secret in it, in words of its own.
        return UserError(
            "the storage's library does not take this URL",
            where=where,
            expected="scheme://bucket/path, without user and password",
        )
    if code == "NoSuchBucket":
        return UserError(
            f"there is no such bucket{told}", where=where, do="look for a mistyped URL, or make it"
        )
    if status in (404, 410) or (not status and isinstance(error, FileNotFoundError)):
        return NotThereError(
            f"there is no such file{told}",
            where=where,
            expected="the URL of a folder that holds a whole data set",
            do="look for a mistyped URL; some storages say this, too, where a login is wanted",
        )
    if (
        status in (401, 403, 407)
        or code in _ACCESS_CODES
        or type(error).__name__ in _NO_CREDENTIALS
        or (not status and isinstance(error, PermissionError))
    ):
        return UserError(
            f"access is refused{told}",
            where=where,
            expected="credentials that may do this",
            do="log in as this storage wants it (AWS_PROFILE, gcloud auth, hf auth login, "
            "~/.netrc); a signed URL may have run out",
        )
    if status in (408, 425, 429) or status >= 500:
        return PassingError(f"HTTP {status}", wait=_asked(error))
    if status >= 300:
        return UserError(f"the server refuses the request{told}", where=where)
    # No URL at all, a certificate that does not fit, a folder where a file should be.
    if isinstance(error, (ValueError, IsADirectoryError, NotADirectoryError)):
        return UserError(f"cannot be reached: {reason(error)}", where=where)
    return PassingError(reason(error))


def status_of(error: BaseException) -> int:
    """HTTP status, 0 if there is none. Each library keeps it elsewhere."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", None)
    for name in ("status", "code"):  # aiohttp has both, and warns of the second
        if status is None:
            status = getattr(error, name, None)
    if isinstance(status, int) and 100 <= status < 600:
        return status
    # s3fs makes an OSError of what botocore says, and keeps that as its cause.
    cause = error.__cause__
    return status_of(cause) if isinstance(getattr(cause, "response", None), dict) else 0  # type: ignore[arg-type]


def _code(error: BaseException) -> str:
    """The code that S3 gives with an error, or an empty string."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _asked(error: BaseException) -> float:
    """Seconds of the header Retry-After."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        headers = getattr(each, "headers", None) or getattr(response, "headers", None)
        if isinstance(response, dict):
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders")
        if headers is not None:
            return retry_after(headers.get("Retry-After") or headers.get("retry-after"))
    return 0.0


def reason(error: BaseException) -> str:
    """What happened, in a line without URLs."""
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "nothing came for too long"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = " ".join(str(text).split())
    return re.sub(r"\S+://\S+", lambda found: redact(found[0].strip("'\"()<>,")), text)[:300]
