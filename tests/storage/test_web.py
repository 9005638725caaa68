"""https:// addresses: what is read, what is refused, and what is asked for again."""

import asyncio
import socket

import pytest
from aiohttp import web
from yarl import URL

from seit_ray.storage import Folder, StorageError, host_of
from seit_ray.storage import web as module
from seit_ray.storage.sessions import proxy_of
from seit_ray.storage.uris import normalise_address
from seit_ray.storage.web import is_private
from tests.https_server import running_https_server

DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with running_https_server(tmp_path_factory.mktemp("https")) as server:
        yield server


@pytest.fixture
def server(running, monkeypatch):
    """A server without answers, whose authority is trusted; no pause is long."""
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(running.authority))
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    running.answers.clear()
    running.asked.clear()
    return running


@pytest.fixture
def reader(tmp_path):
    """Reads addresses of this machine too."""
    return Folder(tmp_path, private_addresses=True)


def bytes_of(data=DATA, **more):
    async def answer(request):
        return web.Response(body=data, **more)

    return answer


def one(reader, uri, **more):
    (content,) = reader.read_uris([uri], **{"max_bytes": len(DATA), **more})
    return content


def error_of(reader, uri, kind, **more):
    content = one(reader, uri, **more)
    assert isinstance(content, StorageError)
    assert content.kind == kind, content
    assert "\n" not in str(content)
    return str(content)


def test_many_addresses_in_order(server, reader, tmp_path):
    names = [f"/{i:02} é%20.jpg" for i in range(20)]
    for i in range(20):
        server.answers[f"/{i:02} é .jpg"] = bytes_of(bytes([i]) * 10)
    Folder(tmp_path).write("here", b"a file")
    uris = [server.uri(name) for name in names]
    found = reader.read_uris([*uris, f"{tmp_path}/here", uris[3]], max_bytes=100)
    assert found == [*(bytes([i]) * 10 for i in range(20)), b"a file", bytes([3]) * 10]
    assert all(headers["Accept-Encoding"] == "identity" for _, headers in server.asked)
    assert not any("Authorization" in headers or "Cookie" in headers for _, headers in server.asked)


def test_a_signature_arrives_as_it_was_written_and_is_not_told(server, reader):
    async def answer(request):
        return web.Response(body=request.rel_url.raw_query_string.encode())

    server.answers["/a b.jpg"] = answer
    assert one(reader, server.uri("/a%20b.jpg?sig=a%2Fb%2B%3D&x=1")) == b"sig=a%2Fb%2B%3D&x=1"
    text = error_of(reader, server.uri("/gone.jpg?sig=secret"), "missing")
    assert "/gone.jpg?... does not exist (HTTP 404)" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (404, "missing", "does not exist"),
        (410, "missing", "does not exist"),
        (401, "refused", "is not public"),
        (403, "refused", "is not public"),
        (451, "refused", "is not public"),
        (400, "refused", "was refused"),
        (304, "refused", "was refused"),
    ],
)
def test_what_a_server_refuses(server, reader, status, kind, text):
    server.answers["/a.jpg"] = bytes_of(b"", status=status)
    assert f"/a.jpg {text} (HTTP {status})" in error_of(reader, server.uri("/a.jpg"), kind)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again(server, reader, status):
    async def later(request):
        return web.Response(status=status) if len(server.asked) < 3 else web.Response(body=DATA)

    server.answers["/a.jpg"] = later
    assert one(reader, server.uri("/a.jpg")) == DATA
    server.answers["/a.jpg"] = bytes_of(b"", status=status)
    assert f"HTTP {status}" in error_of(reader, server.uri("/a.jpg"), "unavailable")
    assert len(server.asked) == 6


def test_limits_of_bytes(server, reader):
    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(b"x" * 10_000)
        return response

    server.answers |= {"/fits.jpg": bytes_of(), "/large.jpg": bytes_of(DATA + b"1"), "/endless.jpg": endless}
    assert one(reader, server.uri("/fits.jpg")) == DATA
    assert f"size {len(DATA) + 1} bytes of" in error_of(reader, server.uri("/large.jpg"), "too_large")
    assert "expected at most" in error_of(reader, server.uri("/endless.jpg"), "too_large")


def cut_after(num_bytes, data, etag):
    """Sends the first bytes of what is asked for, then ends the connection; whole from the second time on."""
    times = []

    async def answer(request):
        times.append(1)
        start = request.http_range.start or 0
        if "If-Range" in request.headers and request.headers["If-Range"] != etag:
            start = 0
        headers = {"ETag": etag, "Content-Length": str(len(data) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        stop = num_bytes if len(times) == 1 else len(data)
        await response.write(data[start:stop])
        if stop < len(data):
            await asyncio.sleep(0.05)
            request.transport.close()
        return response

    return answer


def test_a_body_that_breaks_off_goes_on_where_it_was(server, reader):
    server.answers["/a.jpg"] = cut_after(5000, DATA, '"v1"')
    assert one(reader, server.uri("/a.jpg")) == DATA
    (_, first), (_, second) = server.asked
    assert "Range" not in first
    assert (second["Range"], second["If-Range"]) == ("bytes=5000-", '"v1"')


def test_a_body_that_breaks_off_and_changes_is_fetched_anew(server, reader):
    old, new = cut_after(5000, DATA, '"v1"'), bytes_of(DATA[::-1], headers={"ETag": '"v2"'})

    async def changing(request):
        return await (old if len(server.asked) == 1 else new)(request)

    server.answers["/a.jpg"] = changing
    assert one(reader, server.uri("/a.jpg")) == DATA[::-1]


def test_a_weak_etag_is_not_gone_on_from(server, reader):
    server.answers["/a.jpg"] = cut_after(5000, DATA, 'W/"v1"')
    assert one(reader, server.uri("/a.jpg")) == DATA
    assert "Range" not in server.asked[1][1]


def test_a_wrong_part_is_never_joined(server, reader):
    whole = cut_after(5000, DATA, '"v1"')

    async def elsewhere(request):
        if "Range" not in request.headers:
            return await whole(request)
        return web.Response(status=206, body=b"?" * 10, headers={"ETag": '"v1"', "Content-Range": "bytes 7-16/99"})

    server.answers["/a.jpg"] = elsewhere
    assert one(reader, server.uri("/a.jpg")) == DATA  # whole, the third time


def test_versions(server, reader):
    server.answers["/a.jpg"] = bytes_of(headers={"ETag": '"v1"'})
    assert one(reader, server.uri("/a.jpg"), versions=["v1"]) == DATA
    assert "changed since it was listed" in error_of(reader, server.uri("/a.jpg"), "changed", versions=["v0"])


def redirect(place):
    async def answer(request):
        return web.Response(status=302, headers={"Location": place})

    return answer


def test_redirects_are_bounded_and_stay_secure(server, reader):
    for i in range(9):
        server.answers[f"/{i}"] = redirect(f"/{i + 1}")
    server.answers["/9"] = bytes_of()
    assert one(reader, server.uri("/4")) == DATA
    assert "more than 5 times" in error_of(reader, server.uri("/3"), "refused")
    for place, text in (
        (f"http://127.0.0.1:{server.port}/9", "leads to http://"),
        ("file:///etc/passwd", "leads to file://"),
        ("https://[x/", "leads to, no address"),
    ):
        server.answers["/away"] = redirect(place)
        assert text in error_of(reader, server.uri("/away"), "refused")


def test_private_networks_are_refused(server, tmp_path, monkeypatch):
    public = Folder(tmp_path)
    server.answers["/a.jpg"] = bytes_of()
    for host in ("127.0.0.1", "localhost", "10.1.2.3", "169.254.169.254", "[::1]", "[fd00::1]"):
        text = error_of(public, f"https://{host}:{server.port}/a.jpg", "refused")
        assert "lies in a private network; expected a public https:// address; storage.private_addresses=true" in text
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, port, *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))],
    )
    text = error_of(public, f"https://images.example:{server.port}/a.jpg", "refused")
    assert "lies in a private network" in text
    assert server.asked == []


def test_private_networks_are_refused_beside_a_proxy(server, tmp_path, monkeypatch):
    """The proxy's own name may lead there; that of an address that goes past it may not."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://proxy.example:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "images.example")
    asked = []

    def found(host, port, *_, **__):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    public = Folder(tmp_path)
    past = error_of(public, f"https://images.example:{server.port}/a.jpg", "refused")
    assert "lies in a private network" in past
    through = error_of(public, f"https://elsewhere.example:{server.port}/a.jpg", "unavailable")
    assert "private" not in through
    assert set(asked) == {"images.example", "proxy.example"}
    assert server.asked == []


def test_a_certificate_that_is_not_trusted(server, reader, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "has no valid certificate (" in error_of(reader, server.uri("/a.jpg"), "refused")
    assert server.asked == []


def test_a_server_that_is_away(reader):
    assert "is unreachable" in error_of(reader, "https://127.0.0.1:9/a.jpg", "unavailable")


@pytest.mark.parametrize(
    "address", ["https://x/y.jpg", "https://x:8443/y%20z?q=1", "HTTPS://x/ü.jpg", "https://[::1]/a"]
)
def test_addresses(address):
    assert normalise_address(address) == "https" + address[5:]


def test_fragments_stay_at_home():
    assert normalise_address("https://x/a.parquet#7") == "https://x/a.parquet"


@pytest.mark.parametrize("address", ["https://", "https:///x", "https://x:port/y", "https://[x/y", "https://u:p@x/y"])
def test_what_is_no_address(address):
    with pytest.raises(StorageError, match="expected https://HOST/PATH without a password") as error:
        normalise_address(address)
    assert error.value.kind == "refused"
    assert "u:p" not in str(error.value)


def test_addresses_are_no_folders():
    for uri in ("https://x/y", "http://x/y"):
        with pytest.raises(StorageError, match="expected s3://BUCKET"):
            Folder(uri)
    with pytest.raises(StorageError, match="only images that a table names are read from there"):
        Folder("https://x/y")


def test_hosts():
    assert [host_of(uri) for uri in ("https://x:1/y", "s3://b/k", "/a")] == ["x:1", None, None]


@pytest.mark.parametrize(
    ("host", "private"),
    [
        *((host, True) for host in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "localhost", "a.localhost", "::1")),
        *((host, True) for host in ("64:ff9b::a00:1", "::ffff:10.0.0.1", "::7f00:1", "2002:7f00:1::", "fd00::1")),
        *((host, False) for host in ("93.184.216.34", "example.org", "2606:2800:220:1::1", "64:ff9b::5db8:d822")),
    ],
)
def test_numbers_of_private_machines(host, private):
    assert is_private(host) == private


def test_passwords_of_the_user_go_nowhere(server, reader, tmp_path, monkeypatch):
    """A table names hosts: what ~/.netrc holds is not for them."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    seen = []

    async def answer(request):
        seen.append({name.lower() for name in request.headers})
        return web.Response(body=DATA)

    server.answers["/1.jpg"] = answer
    assert one(reader, server.uri("/1.jpg")) == DATA
    assert len(seen) == 1
    assert "authorization" not in seen[0]


def test_proxies_of_the_environment(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxy_of(URL("https://far.example/1.jpg")) == "http://proxy.example:3128"
    assert proxy_of(URL("https://inside.example/1.jpg")) is None
    monkeypatch.delenv("https_proxy")
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    assert proxy_of(URL("https://far.example/1.jpg")) is None
