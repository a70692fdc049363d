"""The API key of the service, for both of its sides."""

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file

MIN_KEY_LETTERS = 16


def read_api_key(path: str | None) -> str | None:
    """The first line of a file; None where no file is named.

    Raises:
        UsageError: no such file, or a line that is too short for a key.
    """
    if path is None:
        return None
    file = require_file(path, "--api_key_file")
    # Bytes that are no text become letters that no key may have.
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    key = lines[0].strip() if lines else ""
    if len(key) < MIN_KEY_LETTERS or not key.isascii() or " " in key:
        raise UsageError(
            f"--api_key_file: {path}: a line of at least {MIN_KEY_LETTERS} ASCII letters without "
            "spaces is expected; python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return key
