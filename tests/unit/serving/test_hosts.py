"""Names that a rebound web page could send are told from those that are ours."""

import socket

import pytest

from paddleseg_ext.serving.hosts import allowed_hosts, is_allowed, is_same_site


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("localhost:8080", True),
        ("LOCALHOST.", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("::1", True),
        ("192.168.1.7", True),
        ("", True),
        ("evil.example", False),
        ("evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("[evil.example]:1", False),
        ("0x7f.1", False),
        ("[127.0.0.1]evil.example", False),
        ("[127.0.0.1]", False),
        ("[::1]evil.example", False),
        ("[::1].evil.example:80", False),
        ("[::1", False),
        ("::1]", False),
        ("127.0.0.1:80:evil.example", False),
        ("127.0.0.1:evil", False),
        ("evil.example@127.0.0.1", False),
        ("127.0.0.1/evil.example", False),
    ],
)
def test_on_the_loopback_address(header: str, expected: bool) -> None:
    names = allowed_hosts("127.0.0.1", [], has_key=False)
    assert names is not None and is_allowed(header, names) is expected


def test_everywhere_without_a_key() -> None:
    names = allowed_hosts("0.0.0.0", ["Street.Example"], has_key=False)
    assert names is not None
    for name in (socket.gethostname(), "street.example:80", "10.0.0.7:8080", "localhost"):
        assert is_allowed(name, names)
    assert not is_allowed("evil.example", names)


def test_with_a_key_any_name_will_do_unless_some_are_listed() -> None:
    assert allowed_hosts("0.0.0.0", [], has_key=True) is None
    names = allowed_hosts("0.0.0.0", ["street.example"], has_key=True)
    assert names is not None and not is_allowed("evil.example", names)


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("https://street.example", "street.example", True),
        ("https://street.example", "street.example:443", True),
        ("http://street.example:80", "street.example", True),
        ("https://street.example", "127.0.0.1:8000", True),  # listed; a proxy in between
        ("http://evil.example", "127.0.0.1:8000", False),
        ("null", "127.0.0.1:8000", False),
        ("", "127.0.0.1:8000", False),
        ("file://", "127.0.0.1:8000", False),
        ("http://127.0.0.1:9000", "127.0.0.1:8000", False),
        ("http://localhost", "127.0.0.1:8000", False),
        ("https://street.example.evil.example", "street.example", False),
        ("https://street.example:8443", "127.0.0.1:8000", False),
        ("http://evil.example/127.0.0.1:8000", "127.0.0.1:8000", False),
    ],
)
def test_the_page_that_sends_a_request(origin: str, host: str, expected: bool) -> None:
    names = allowed_hosts("127.0.0.1", ["street.example"], has_key=False)
    assert names is not None and is_same_site(origin, host, names) is expected
