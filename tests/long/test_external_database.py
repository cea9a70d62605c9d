"""The index in a PostgreSQL that somebody else runs outside the cluster: refused while it is not proven, then used."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.agent.external import NAME, PASSWORD, Server
from tests.agent.support import Authority
from tests.cluster.support import HOST, Cluster, Modality, new_study, reachable, run, second_archive, until
from tests.images.conftest import Image

PEER = """
apiVersion: pacs-operator.io/v1alpha1
kind: DicomPeer
metadata: {name: pt1, namespace: imaging}
spec:
  archiveRef: {name: borrowed}
  aeTitles: [PT1]
  certificate: {dnsName: pt1.imaging.example}
  sourceCIDRs: [198.18.62.11/32]
  rights: [Echo, Store, Find, Get]
"""
ZONE, SECRET, ROLE = "borrowed-archive", "index", "orthanc"


@pytest.fixture
def server(image: Callable[[str], Image], tmp_path: Path) -> Iterator[Server]:
    """A PostgreSQL on this machine that takes TLS only, by password, from anywhere."""
    tmp_path.chmod(0o755)
    one = Server(image("database"), tmp_path)
    one.prepare()
    with (one.etc / "pg_hba.conf").open("a") as hba:
        hba.write("hostssl all all 0.0.0.0/0 scram-sha-256\n")
    try:
        one.start(listen_addresses="*")
        with psycopg.connect(host=str(one.run), port=one.port, user="postgres", dbname="postgres") as admin:
            stored = admin.pgconn.encrypt_password(PASSWORD.encode(), ROLE.encode(), b"scram-sha-256").decode()
            admin.execute(f"alter role {ROLE} password '{stored}'".encode())
        yield one
    finally:
        one.stop()


def test_another_authority_is_refused_and_the_right_one_serves(
    cluster: Cluster, server: Server, tmp_path: Path
) -> None:
    base = server.database()
    stranger = Authority("stranger", lambda: datetime.now(UTC) - timedelta(seconds=30))
    external: dict[str, Any] = {
        "host": HOST, "sslServerName": NAME, "port": server.port, "name": base, "user": ROLE,
        "cidrs": [f"{HOST}/32"], "caPem": stranger.pem(),
        "authentication": {"mode": "Password", "passwordSecret": SECRET},
    }  # fmt: skip
    database = {"mode": "External", "external": external}

    def condition(kind: str) -> dict[str, str]:
        found = cluster.get("pacsarchive", "borrowed").get("status", {}).get("conditions", [])
        return next((each for each in found if each["type"] == kind), {"reason": "", "status": ""})

    with reachable(cluster), second_archive(cluster, "borrowed", 30767, database=database):
        cluster.kubectl("apply", "-f", "-", stdin=PEER)
        device = Modality("pt1", "198.18.62.11", "PT1", archive="borrowed", called="BORROWED", port="30767")
        try:
            until("the zone is there", lambda: "Active" in cluster.kubectl("get", "ns", ZONE, check=False), 60)
            literal = ("secret", "generic", SECRET, f"--from-literal=password={PASSWORD}")
            cluster.kubectl("create", "-n", ZONE, *literal)
            untrusted = "DatabaseCertificateUntrusted"
            until("its certificate is refused", lambda: condition("DatabaseReady")["reason"] == untrusted, 180, every=2)
            assert condition("Ready")["status"] != "True"
            assert server.tables(base) == set(), "nothing is written before it is proven"

            right = {"spec": {"database": {"external": {"caPem": server.authority.pem()}}}}
            cluster.kubectl("patch", "pacsarchive", "borrowed", "--type=merge", "-p", json.dumps(right))
            until("it is Ready", lambda: condition("Ready")["status"] == "True", 400, every=2)
            assert condition("DatabaseReady")["status"] == "True"
            assert "pacs_operator_lineage" in server.tables(base)
            assert cluster.pods("borrowed-data") == {}
            device.ready(cluster)
            until("the device is served", device.echo, 30)
            study, out = new_study(), tmp_path / "stored.json"
            run(*device.storm("store", study, out, count=5))
            images = json.loads(out.read_text())["acknowledged"]
            assert len(images) == 5
            assert device.all_whole(study, images, tmp_path)
            assert server.ask("select count(*) from resources", base)[0][0] >= 5
            everything = cluster.kubectl("get", "configmaps,events,pacsarchives", "-A", "-o", "yaml")
            assert PASSWORD not in everything
        finally:
            device.gone()
            cluster.kubectl("delete", "-n", "imaging", "dicompeer/pt1")
