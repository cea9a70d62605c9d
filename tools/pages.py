"""Write what pages say of the code: docs/conformance.md, and the tables between marks in docs/architecture.md.

Run ``python tools/pages.py``; with ``--check`` it only tells whether the pages are current.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

from pacs_operator.domain import checks
from pacs_operator.domain.checkcatalog import CHECKS, SECOND_STACK
from pacs_operator.domain.checks import Check, Group
from pacs_operator.domain.conformanceconfig import Bounds
from pacs_operator.domain.connections import CONNECTIONS, VAULT, Connection, End, Outside
from pacs_operator.domain.leaves import DAY, HOUR, LeafSpec, archive_leaves
from pacs_operator.domain.names import ZONE_OF
from pacs_operator.probes.objects import SHADOW_PATIENT_PREFIX
from pacs_operator.probes.shadow import DANGERS

ROOT = Path(__file__).parents[1]
CONFORMANCE = ROOT / "docs" / "conformance.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
ARCHIVE = "<archive>"

CONFORMANCE_HEAD = """\
# What the conformance pod attacks

Made from `operator/pacs_operator/domain/checkcatalog.py` by `make docs`; edit the catalog there, not this page.

A run does {count} checks, as two peers of its own and as strangers; those whose names begin with `Web` only with `spec.dicomweb`, `PostgresUnreachable` only with a database that the operator runs. It starts when the archive is made, after each change of release or configuration, on `spec.conformance.schedule`, and when somebody asks (`kubectl annotate --overwrite pacs radiology pacs-operator.io/run-conformance="$(date +%s)"`). The result is in `status.conformance`.

Each attack has an **allowed twin** that differs from it in one property and must succeed on the same path. Before it attacks, the client shows on a deliberately weak server of its own that it can do what it is about to try. An attack that was refused while its twin failed proves nothing and is `NotRun`, not `Passed`. Checks marked *each* are made against every gate replica by its own address.

An archive that has only just come up lets its gates answer "try again later" (A-ASSOCIATE-RJ 2/3/1). A run waits for that as a modality would: every gate together gets {settle} s from the run's begin, and only then is the answer a failure.

Of the {second} checks marked *DCMTK* two independent DICOM stacks say the same: a run speaks by pynetdicom or by PDUs of its own, and the repository's tests (`tests/images/test_second_stack.py`) make the same attempts with DCMTK's programs on a real gate and Orthanc, and compare what each was told.

A run proves what is listed here, at that time, from the zone `ops`, and no more.
"""  # noqa: E501  # one paragraph, one line

OUTCOMES = """\
## Reading a result

`layer` and `code` say what refused the attack (outcome `Passed`), or where and how it went wrong (`Failed`, `NotRun`). An answer that the table has no word for is `other`; a message with anything else is no result.
"""  # noqa: E501  # one paragraph, one line


SHADOW = """\
## On a shadow

What may hurt is never tried on an archive that serves: a run has none of it, and the operator starts none. It is for a **shadow**: a second `PacsArchive` with a name of its own, the same release and the same spec, small volumes, and no images. One command makes it, attacks it and removes it ([shadow.md](shadow.md)); what follows is the same by hand, and what that command leaves out. `pacs-probe shadow` makes these attacks against every address that `gateReplicasHost` has, and asks for the good peer's echo after each:

{table}
It refuses to begin (`NotAShadow`, exit status 2) unless the file says `"shadow": true` **and** the archive, asked by C-FIND, holds no patient outside the probes' reserved prefix: a mark can stand on the wrong archive, patients cannot be overlooked. Nobody creates pods in an archive's zones by hand, so it is started from a machine inside the shadow's `spec.peers.allowedCIDRs`, as a `DicomPeer` with the rights Echo and Find whose certificate, key and root lie in `tlsDir` (the other leaves are not used and may be the same):

```json
{example}
```

```
.venv/bin/pacs-probe shadow --config shadow.json
```

Exit status 0: the shadow bore it all. Each attack is bounded in number and time and lets go at its end.

Some of these are not dangerous, but a run has no way to try them ([decision 41](decisions/0041-what-only-a-device-can-try.md)). They are made where the file says what they need:

{needs}
What they store has PatientIDs that begin with `{prefix}`, which make nobody a patient of a shadow.
"""  # noqa: E501  # one paragraph, one line

SHADOW_NEEDS = {
    "`PreambleBlanked`, `BombsRefused`": ("`gateWebPort`", "the rights Store and Get"),
    "`LegacyTitlesPinned`": (
        '`legacyDevices`: `[{"port": 11120, "aeTitle": "OLDSCAN"}]`',
        "a second `DicomPeer` with `spec.legacy` and this machine's address",
    ),
    "`MoveArrivesEqual`, `CommitmentReported`, `CommitmentDenied`": (
        '`device`: `{"listenAddress": "198.18.10.9", "listenPort": 11112}`',
        "`spec.outbound` with that address and port, the rights Store, Move and StorageCommitment, and "
        "`spec.moveDestinations` with the device itself",
    ),
    "`UnlistedMoveRefused`": (
        '`"unlistedAeTitle": "BYSTANDER"` in `device`',
        "a second `DicomPeer` that receives and is not in `spec.moveDestinations`",
    ),
}

SHADOW_FILE = """\
{
  "run": "shadow", "shadow": true,
  "archiveAeTitle": "SHADOW", "gateHost": "shadow.pacs.internal",
  "gateReplicasHost": "198.18.10.1", "gateReplicas": 1, "gatePort": 30763,
  "orthancHost": "not.used.invalid", "postgresHost": null,
  "peer": {"leaf": "attacker", "aeTitle": "ATTACKER"},
  "storeOnly": {"leaf": "attacker", "aeTitle": "ATTACKER"},
  "cleanupLeaf": "attacker", "serverOnlyLeaf": "attacker", "expiredLeaf": "attacker",
  "tlsDir": ".", "peersCaFile": "ca.pem", "controlCaFile": "ca.pem"
}"""


def cell(text: str) -> str:
    """Return text fit for a table's cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(map(cell, line))} |\n" for line in lines)


def end(one: End) -> str:
    """Return one end of a flow, with its zone."""
    return f"*{one.name}*" if isinstance(one, Outside) else f"{one.value} ({ZONE_OF[one].value})"


def connections() -> str:
    """Return the connection table."""

    def row(each: Connection) -> list[str]:
        port = f"{'Vault' if each.target == VAULT else 'each one'}'s" if each.port is None else str(each.port)
        return [end(each.source), end(each.target), f"{'+'.join(each.protocols)} {port}", each.reason]

    return table(["from", "to", "port", "why"], map(row, CONNECTIONS))


def life(leaf: LeafSpec) -> str:
    """Return a certificate's life in words."""
    units = ((DAY, "day"), (HOUR, "hour"), (1, "second"))
    whole, unit = next((leaf.ttl_seconds // size, unit) for size, unit in units if leaf.ttl_seconds >= size)
    return f"{whole} {unit}{'' if whole == 1 else 's'}"


def certificates() -> str:
    """Return every certificate of an archive's own pods."""

    def row(leaf: LeafSpec) -> list[str]:
        use = " and ".join(word for word, used in (("server", leaf.server), ("client", leaf.client)) if used)
        names = ", ".join(f"`{name}`" for name in leaf.dns_names)
        return [leaf.component.value, f"`{leaf.name}`", leaf.ca.value, leaf.key_type, use, life(leaf), names]

    head = ["pod", "certificate", "authority", "key", "use", "life", "names"]
    return table(head, map(row, archive_leaves(ARCHIVE)))


def imports() -> str:
    """Return the import rules as they are enforced."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    return "".join(f"- {contract['name']}\n" for contract in settings["contracts"])


def check_row(check: Check) -> list[str]:
    """Return one check for people."""
    info = CHECKS[check]
    each, second = "each" if info.each_replica else "", "DCMTK" if check in SECOND_STACK else ""
    return [f"`{check.value}`", info.title, info.twin or "", each, second, info.threat]


def codes() -> str:
    """Return layers and codes, as the catalog's own text lists them."""
    found = re.findall(r"^\* ``(\w+)``: (.+?)[;.]$", checks.__doc__ or "", re.MULTILINE | re.DOTALL)
    rows = ([f"`{layer}`", re.sub(r"\s+", " ", text).replace("``", "`")] for layer, text in found)
    return table(["layer", "codes"], rows)


def conformance() -> str:
    """Return the page on the conformance pod."""
    parts = [CONFORMANCE_HEAD.format(count=len(CHECKS), second=len(SECOND_STACK), settle=Bounds().settle_seconds)]
    head = [
        "check",
        "what is tried, and what must come of it",
        "allowed twin",
        "replicas",
        "second stack",
        "what could happen else",
    ]
    for group in Group:
        rows = [check_row(check) for check, info in CHECKS.items() if info.group is group]
        parts.append(f"## {group.value}\n\n{table(head, rows)}")
    parts.append(f"{OUTCOMES}\n{codes()}")
    dangers = table(["attack", "what must come of it"], ([f"`{name}`", one.title] for name, one in DANGERS.items()))
    needs = table(["attack", "in the file", "on the shadow"], ([name, *each] for name, each in SHADOW_NEEDS.items()))
    parts.append(SHADOW.format(table=dangers, needs=needs, prefix=SHADOW_PATIENT_PREFIX, example=SHADOW_FILE))
    return "\n".join(parts)


SECTIONS: dict[str, Callable[[], str]] = {
    "connections": connections,
    "certificates": certificates,
    "imports": imports,
}


def architecture(text: str) -> str:
    """Return the page with its tables made anew.

    Raises
    ------
    ValueError
        A table's marks are missing.
    """
    for name, make in SECTIONS.items():
        begin, stop = f"<!-- {name}: made by tools/pages.py -->\n", "<!-- end -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(stop)
        if not found or not closed:
            raise ValueError(f"docs/architecture.md has no place for {name}: {begin.strip()} ... {stop}")
        text = f"{before}{begin}{make()}{stop}{after}"
    return text


def pages() -> dict[Path, str]:
    """Return each page's content as the code says it."""
    return {CONFORMANCE: conformance(), ARCHITECTURE: architecture(ARCHITECTURE.read_text(encoding="utf-8"))}


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a page is not what the code says")
    check_only = parser.parse_args().check
    stale = {path: text for path, text in pages().items() if not path.exists() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        if check_only:
            print(f"{path.relative_to(ROOT)} is not what the code says; run `make docs`", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
    return 1 if check_only and stale else 0


if __name__ == "__main__":
    sys.exit(main())
