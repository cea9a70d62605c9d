"""The walk through a certificate that a device chose: right answers, and no input that makes it fail."""

import http.client
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pacs_operator.render.gate import render
from tests.machine import free_port

from .pki import Authority
from .process import Site, haproxy_command, layout_of, wait_for

NAME = "ct1.imaging.example"
Convert = Callable[[bytes], str]

HARNESS = """
global
  tune.bufsize 131072
  lua-load-per-thread {lua}
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend harness
  bind 127.0.0.1:{port}
  option http-buffer-request
  http-request return status 200 content-type text/plain lf-string "<%[req.body,lua.{converter}]>"
"""


@pytest.fixture(scope="module")
def make_converter(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Convert]]:
    """Return converters of gate.lua, run by HAProxy itself over HTTP: what is posted is the value."""
    processes: list[subprocess.Popen[bytes]] = []

    def make(converter: str) -> Convert:
        folder, port = tmp_path_factory.mktemp("lua"), free_port()
        lua = folder / "gate.lua"
        lua.write_text(render(layout_of(site, folder, port))["gate.lua"])
        (folder / "harness.cfg").write_text(HARNESS.format(lua=lua, port=port, converter=converter))
        log = (folder / "out.log").open("wb")
        processes.append(
            subprocess.Popen([*haproxy_command(), "-db", "-f", str(folder / "harness.cfg")], stdout=log, stderr=log)
        )
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        wait_for(lambda: connects(connection), "the harness listens")

        def convert(value: bytes) -> str:
            connection.request("POST", "/", body=value)
            answer = connection.getresponse()
            text = answer.read().decode("latin-1")
            assert answer.status == 200
            assert text[0] + text[-1] == "<>"
            assert b"Lua" not in Path(log.name).read_bytes()
            return text[1:-1]

        return convert

    yield make
    for process in processes:
        process.terminate()
        process.wait(timeout=10)


def connects(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.connect()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def dns_name(make_converter: Callable[[str], Convert]) -> Convert:
    convert = make_converter("only_dns_name")
    return lambda der: convert(der.hex().upper().encode())


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("peers")


def der(authority: Authority, *names: str, **properties: object) -> bytes:
    return authority.issue(*names, **properties).certificate.public_bytes(Encoding.DER)  # type: ignore[arg-type]


def test_the_one_name(dns_name: Convert, authority: Authority) -> None:
    assert dns_name(der(authority, NAME)) == NAME
    assert dns_name(der(authority, NAME, kind="RSA", critical_names=True)) == NAME
    others = (
        x509.RFC822Name("ct1@imaging.example"),
        x509.UniformResourceIdentifier("https://evil.example"),
        x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "evil.example")])),
        x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x0c\x04evil"),
    )
    assert dns_name(der(authority, NAME, other_names=others)) == NAME
    assert dns_name(der(authority, other_names=others)) == ""


def test_names_that_are_not_one(dns_name: Convert, authority: Authority) -> None:
    for names in ((), (NAME, NAME), ("a.example", "b.example"), (f"{NAME}\0.evil.example",), ("*.example",)):
        assert dns_name(der(authority, *names)) == ""
    assert dns_name(der(authority, "a" * 60 + "." + "b" * 200)) == ""
    assert dns_name(der(authority, f"{NAME}\0.evil.example"[: len(NAME)])) == NAME


def test_an_embedded_look_alike_is_no_name(dns_name: Convert, authority: Authority) -> None:
    """The bytes of a whole alternative-name extension inside a subject or another name are not the extension."""
    fake = bytes.fromhex("0603551d11") + b"\x04\x0e\x30\x0c\x82\x0a" + b"ev.example"
    hidden = x509.OtherName(x509.ObjectIdentifier("2.5.29.17"), b"\x04" + bytes([len(fake)]) + fake)
    assert dns_name(der(authority, NAME, other_names=(hidden,))) == NAME
    assert dns_name(der(authority, other_names=(hidden,))) == ""


def test_every_truncation_is_refused(dns_name: Convert, authority: Authority) -> None:
    whole = der(authority, NAME)
    assert {dns_name(whole[:end]) for end in range(len(whole))} == {""}
    assert dns_name(whole + b"\0") == ""


def test_a_certificate_larger_than_the_buffer_is_refused(dns_name: Convert, authority: Authority) -> None:
    """HAProxy's hex converter stops where its buffer ends: what is left does not fill its outer length."""
    large = x509.UniformResourceIdentifier("https://example/" + "x" * 40_000)
    whole = der(authority, NAME, other_names=(large,))
    assert dns_name(whole) == NAME
    assert dns_name(whole[:30_000]) == ""


def reference(data: bytes) -> str | None:
    """Return what `cryptography` makes of it: the name, "" when it has not exactly one, None when it cannot read it."""
    try:
        certificate = x509.load_der_x509_certificate(data)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        return ""
    except Exception:  # whatever a parser says of rubbish
        return None
    return found[0].lower() if len(found) == 1 else ""


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Change bytes, lengths above all: flip, set to interesting values, delete, repeat, move."""
    mutant = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at = chance.randrange(len(mutant))
        match chance.randrange(6):
            case 0:
                mutant[at] ^= 1 << chance.randrange(8)
            case 1:
                mutant[at] = chance.choice((0x00, 0x7F, 0x80, 0x81, 0x82, 0x84, 0x88, 0xFE, 0xFF, 0x30, 0xA3))
            case 2:
                del mutant[at : at + chance.randrange(1, 9)]
            case 3:
                mutant[at:at] = mutant[at : at + chance.randrange(1, 9)]
            case 4:
                mutant[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9)))
            case _:
                mutant[at] = (mutant[at] + chance.choice((-1, 1))) % 256
        if not mutant:
            return b""
    return bytes(mutant)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_mutants(dns_name: Convert, authority: Authority) -> None:
    """No mutant makes it fail, and it never sees a name where a strict parser sees another."""
    seed = int(os.environ.get("PACS_FUZZ_SEED", "20261129"))
    rounds = int(os.environ.get("PACS_FUZZ_ROUNDS", "4000"))
    chance = random.Random(seed)
    seeds = [
        der(authority, NAME),
        der(authority, NAME, "ct2.imaging.example"),
        der(authority, NAME, kind="RSA", critical_names=True),
        der(authority, NAME, other_names=(x509.UniformResourceIdentifier("https://example/x"),)),
    ]
    answered = 0
    for number in range(rounds):
        mutant = mutate(chance.choice(seeds), chance)
        answer, expected = dns_name(mutant), reference(mutant)
        if answer and expected is not None:
            answered += 1
            assert answer == expected, f"seed {seed}, round {number}: {mutant.hex()}"
    assert answered > rounds // 20  # mutants of signatures and keys stay certificates: the comparison is not empty
    assert dns_name(seeds[0]) == NAME


@pytest.mark.parametrize(
    "value",
    [b"", b"0", b"zz", b"30", b"3080", b"30840000", b"3085ffffffffff", b"30" * 30_000, b"3003020100", b"\xff\xfe"],
)
def test_rubbish(make_converter: Callable[[str], Convert], converters: dict[str, Convert], value: bytes) -> None:
    for name in ("only_dns_name", "ae_title"):
        if name not in converters:
            converters[name] = make_converter(name)
        assert converters[name](value) == ""


@pytest.fixture(scope="module")
def converters() -> dict[str, Convert]:
    return {}


def test_titles(make_converter: Callable[[str], Convert]) -> None:
    convert = make_converter("ae_title")

    def title(raw: bytes) -> str:
        return convert(raw.hex().encode())

    assert title(b"CT1".ljust(16)) == "CT1"
    assert title(b"   CT1".ljust(16)) == "CT1"
    assert title(b"A B C D E F G HI") == "A B C D E F G HI"
    for raw in (b" " * 16, b"CT1\0".ljust(16), b"CT1", b"CT1".ljust(17), b"CT\\1".ljust(16), b"CT\x7f".ljust(16)):
        assert title(raw) == ""
