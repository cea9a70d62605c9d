"""Vault denies the pod in the middle of a re-encryption: no image is away for it; access given back, the work ends."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import requests
from pydicom.uid import generate_uid

from pacs_operator.agent import sealing, storagekeys
from pacs_operator.agent.clock import SystemClock
from pacs_operator.agent.context import Context
from pacs_operator.agent.files import PUBLIC
from pacs_operator.agent.keeper import Keeper
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.sealing import SealingFeed
from pacs_operator.agent.storagefeed import KEYS, StorageFeed
from pacs_operator.domain.agentconfig import SEALING_FILE, SealingTold, StorageKeyring
from pacs_operator.domain.names import Component, data_key
from pacs_operator.vault.layout import COMPONENT_POLICY, login_role
from pacs_operator.vault.pods import PodVault
from tests.agent.support import eventually
from tests.agent.test_with_vault import Pod, Provisioned, _make_sure_it_runs, provisioned  # noqa: F401  # fixture
from tests.images.conftest import Image, wait_for
from tests.images.orthanc_server import Orthanc, orthanc
from tests.storage.server import TRANSIT, image_of
from tests.storage.volume import leftovers, objects
from tests.vault.world import AUDIENCE, AUTH_PATH

COUNT, SIZE = 24, 500_000
SLOW, FAST = 1, 1000  # MiB a second; the first leaves some ten seconds to be denied in
WORD = "ab" * 32
AGE = timedelta(days=91)


class Ahead(SystemClock):
    """The machine's, so much ahead, with short waits: a Vault that is there again is asked soon."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.1))


class Beside:
    """Orthanc's pod: volume, memory, the agent's two feeds about images, and Orthanc."""

    def __init__(self, site: Provisioned, image: Image, surroundings: Surroundings, folder: Path) -> None:
        self.image, self.folder, self.clock = image, folder, Ahead()
        self.volume = image.owned(folder / "volume")
        self.place = replace(surroundings, images=self.volume)
        self.place.peers.mkdir()
        (image.root / "run/pacs").mkdir(parents=True, exist_ok=True)  # what a container runtime makes for mounts
        pod = Pod(site, Component.ORTHANC)
        keys = StorageKeyring(transit_key=data_key(site.archive), max_age_days=90)
        self.config = pod.config.model_copy(update={"storage": keys})
        self.agent_starts()

    def agent_starts(self) -> None:
        vault = PodVault(self.config.vault)
        self.context = Context(self.config, self.place, vault, self.clock, data_keys=vault)
        assert self.config.storage is not None
        self.keys = StorageFeed(self.context, self.config.storage, Keeper(self.context, lambda _: None))
        self.orders = SealingFeed(self.context)

    async def looks(self) -> str | None:
        """Have the agent look after its data keys once; return what is wrong with them."""
        await asyncio.wait_for(self.keys.obtain(), 60)
        return self.context.problems.standing().get(KEYS)

    def order(self, rate: int) -> None:
        order = {"clear": False, "miPerSecond": rate, "reseal": WORD}
        (self.place.peers / SEALING_FILE).write_text(json.dumps(order))
        self.orders.follow()

    def ring(self) -> list[str]:
        return [" ".join(line.split()[:2]) for line in self.place.ring.read_text().splitlines()[2:-1]]

    def headers(self) -> dict[str, bytes]:
        return {name: path.read_bytes()[:56] for name, path in objects(self.volume / "sealed").items()}

    @contextlib.contextmanager
    def orthanc(self) -> Iterator[Orthanc]:
        mounts = {self.volume: "/srv", self.place.run: "/run/pacs"}
        env = {"PACS_STORAGE_ROOT": "/srv/sealed", "PACS_STORAGE_KEYS": f"/run/pacs/{self.place.ring.name}"}
        with orthanc(self.image, self.folder, mounts, env, StorageDirectory="/srv", **TRANSIT) as server:
            yield server


def under(headers: dict[str, bytes], number: int) -> set[str]:
    """Return the objects under one data key (``images/archive/storage/format.h``)."""
    return {name for name, header in headers.items() if int.from_bytes(header[8:12]) == number}


def work(server: Orthanc) -> SealingTold:
    return SealingTold.model_validate(server.rest("GET", "/pacs/storage").json()["work"])


def store(server: Orthanc, stored: dict[str, bytes], seed: int) -> None:
    dataset = image_of(generate_uid(), SIZE, seed)
    assert server.store("CT1", dataset) == 0x0000
    (one,) = server.instances(dataset.SOPInstanceUID)
    stored[one] = server.rest("GET", f"/instances/{one}/file").content


@contextlib.contextmanager
def read_all_the_while(server: Orthanc, stored: dict[str, bytes]) -> Iterator[None]:
    """Read every image again and again; each answer has to be what was stored."""
    stop, wrong, rounds = threading.Event(), [], 0

    def read() -> None:
        nonlocal rounds
        with requests.Session() as session:
            session.trust_env = False
            while not stop.is_set():
                for one, content in list(stored.items()):
                    answer = session.get(f"http://127.0.0.1:{server.http}/instances/{one}/file", timeout=30)
                    if (answer.status_code, answer.content) != (200, content):
                        wrong.append(f"{one}: {answer.status_code}, {len(answer.content)} bytes")
                rounds += 1

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        stop.set()
        reader.join(120)
    assert not reader.is_alive() and wrong == [] and rounds > 0


@dataclass(frozen=True)
class Denial:
    """How access is taken away and given back, and how the agent calls it."""

    reason: str
    take: Callable[[Provisioned], None]
    give: Callable[[Provisioned], None]


def _policy_path() -> str:
    return f"sys/policies/acl/{COMPONENT_POLICY}"


class Policy:
    """What components may do, as the administrator's script wrote it."""

    text = ""

    @classmethod
    def take(cls, site: Provisioned) -> None:
        cls.text = site.bao.call("GET", _policy_path())["data"]["policy"]
        site.bao.call("DELETE", _policy_path())

    @classmethod
    def give(cls, site: Provisioned) -> None:
        site.bao.call("POST", _policy_path(), {"policy": cls.text})


def _revoke(site: Provisioned) -> None:
    site.bao.call("DELETE", f"auth/{AUTH_PATH}/role/{login_role(site.archive, Component.ORTHANC)}")
    site.world.revoke_logins()


def _provision(site: Provisioned) -> None:
    site.world.client().ensure_archive(site.archive, site.lineage, AUDIENCE)


DENIALS = {
    "policy removed": Denial("VaultForbidden", Policy.take, Policy.give),
    "token revoked and role gone": Denial("VaultMisconfigured", _revoke, _provision),
    "sealed": Denial("VaultSealed", lambda site: site.bao.seal(), lambda site: _make_sure_it_runs(site.bao)),
}


@pytest.fixture
def beside(
    provisioned: Provisioned,  # noqa: F811
    image: Callable[[str], Image],
    surroundings: Surroundings,
    tmp_path: Path,
    entered: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Beside:
    for module in (storagekeys, sealing):  # in a pod, agent and Orthanc are one user
        monkeypatch.setattr(module, "PRIVATE", PUBLIC)
    return Beside(provisioned, image("archive"), surroundings, tmp_path)


@pytest.mark.parametrize("denial", DENIALS.values(), ids=list(DENIALS))
async def test_denied_in_the_middle_no_image_is_away_and_given_back_it_goes_on_where_it_was(
    denial: Denial,
    provisioned: Provisioned,  # noqa: F811
    beside: Beside,
) -> None:
    stored: dict[str, bytes] = {}
    assert await beside.looks() is None
    given = False
    try:
        with beside.orthanc() as server:
            for number in range(COUNT):
                store(server, stored, number)
            beside.clock.ahead = AGE
            assert await beside.looks() is None and beside.ring() == ["active 2", "key 1", "key 2"]
            beside.order(SLOW)
            with read_all_the_while(server, stored):
                wait_for(lambda: work(server).done >= 2, "two are sealed anew")
                await asyncio.to_thread(denial.take, provisioned)
                before, keys = work(server), beside.place.ring.read_bytes()
                assert before.left > 1, "otherwise nothing below is in the middle"
                beside.clock.ahead = 2 * AGE  # the next data key is due, and has to wait
                assert await beside.looks() == denial.reason
                beside.agent_starts()
                assert await beside.looks() == denial.reason, "one that restarts alone has what it needs in memory"
                assert beside.place.ring.read_bytes() == keys
                store(server, stored, COUNT)
                wait_for(lambda: work(server).done > before.done, "it goes on, with what is in memory")
            server.process.kill()
            server.process.wait(30)
        done, left = under(beside.headers(), 2), under(beside.headers(), 1)
        assert len(done) > 2 and left, "killed in the middle"
        first = beside.headers()

        for path in beside.place.run.iterdir():  # the pod starts anew: what was in memory is gone
            path.unlink()
        beside.agent_starts()
        start = asyncio.create_task(beside.keys.obtain())
        await eventually(lambda: beside.context.problems.standing().get(KEYS) == denial.reason, "it waits and says why")
        assert not start.done() and not beside.place.ring.exists(), "Orthanc does not start: nothing in clear instead"

        await asyncio.to_thread(denial.give, provisioned)
        given = True
        await asyncio.wait_for(start, 60)
        assert KEYS not in beside.context.problems.standing()
        assert beside.ring() == ["active 3", "key 1", "key 2", "key 3"], "what was due came"
        beside.order(FAST)
        with beside.orthanc() as server, read_all_the_while(server, stored):
            wait_for(lambda: work(server).reseal == WORD, "all are sealed anew")
            told = work(server)
            assert (told.state, told.failed) == ("Done", 0)
            store(server, stored, COUNT + 1)
        last = beside.headers()
        assert {name: last[name] for name in done} == {name: first[name] for name in done}, "not a second time"
        assert not under(last, 1) and left <= under(last, 2) | under(last, 3) and len(last) == len(stored)
        assert leftovers(beside.volume / "sealed") <= {"resealed"}
    finally:
        if not given:
            await asyncio.to_thread(denial.give, provisioned)
