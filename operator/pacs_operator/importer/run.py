"""One slice of an import: goes on where the last one ended, and stops when its time is over."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from hashlib import sha256
from pathlib import Path
from queue import Empty, SimpleQueue

import structlog

from pacs_operator.domain.importing import SOURCE_CA_FILE, ImportConfig, ImportCounts, SliceResult, Stop
from pacs_operator.importer.exchange import Exchange, units
from pacs_operator.importer.journal import Journal
from pacs_operator.importer.limits import Halted, Limits
from pacs_operator.importer.listing import Listing
from pacs_operator.importer.move import Mover, astray_by, at_once
from pacs_operator.importer.node import BrokenError, Node, QueryError
from pacs_operator.probes.client import Session
from pacs_operator.probes.networkchecks import resolve
from pacs_operator.probes.tls import Credentials, Trust, client_context
from pacs_operator.probes.wire import Endpoint

log = structlog.get_logger()
_AT_ONCE = 20
_BREAKS = 3  # in a row without an object between them: the source is ill, not one of its objects


def journal_path(config: ImportConfig) -> Path:
    """Return the journal's file."""
    return Path(config.journal_dir) / f"{config.import_uid}.db"


def source_of(config: ImportConfig, ca_file: Path = Path(SOURCE_CA_FILE)) -> Node:
    """Return the node to import from.

    Raises
    ------
    OSError, ValueError
        Certificate, key or root cannot be read.
    """
    source, context, name = config.source, None, ""
    if source.tls.mode == "Mutual":
        name = source.tls.server_name or ""
        trust = Trust(ca_file.read_text(encoding="utf-8"), name)
        context = client_context(trust, Credentials.of_leaf(config.tls_dir, config.leaf))
    session = Session(
        endpoint=Endpoint(source.address, source.port),
        calling=source.calling_ae_title,
        called=source.called_ae_title,
        context=context,
        server_name=name,
        connect_seconds=config.connect_seconds,
        dimse_seconds=config.dimse_seconds,
    )
    return Node(session, Stop.SOURCE_UNREACHABLE, Stop.SOURCE_UNTRUSTED, Stop.SOURCE_REFUSED)


def archive_of(config: ImportConfig) -> Node:
    """Return the gate as the import's own peer meets it.

    Raises
    ------
    OSError, ValueError
        Certificate, key or root cannot be read.
    Halted
        The gate has no address.
    """
    addresses = resolve(config.gate_host, config.gate_port)
    if not addresses:
        raise Halted(Stop.ARCHIVE_UNREACHABLE)
    trust = Trust(Path(config.peers_ca_file).read_text(encoding="ascii"), config.gate_host)
    session = Session(
        endpoint=Endpoint(addresses[0], config.gate_port),
        calling=config.ae_title,
        called=config.archive_ae_title,
        context=client_context(trust, Credentials.of_leaf(config.tls_dir, config.leaf)),
        server_name=config.gate_host,
        connect_seconds=config.connect_seconds,
        dimse_seconds=config.dimse_seconds,
    )
    return Node(session, Stop.ARCHIVE_UNREACHABLE, Stop.ARCHIVE_REFUSED, Stop.ARCHIVE_REFUSED)


class Slice:
    """The work of one slice.

    Parameters
    ----------
    config
        What to do.
    source, archive
        From where, and where to.
    limits
        When to stop, and how fast to go; whoever catches signals tells the watch.
    today
        The day on which it runs (UTC).
    """

    def __init__(self, config: ImportConfig, source: Node, archive: Node, limits: Limits, today: date) -> None:
        self._config, self._source, self._watch = config, source, limits.watch
        self._journal = Journal(journal_path(config), config.attempts)
        self._listing = Listing(source, self._journal, limits.watch, config, today)
        self._arrivals, self._carrier = limits.arrivals, self._carrier_of(archive, limits)
        self._breaks = 0
        self._broken = self._left_out = False

    def run(self) -> SliceResult:
        """Work until everything is done, the time is over, or something is in the way."""
        try:
            stop = self._work()
            result = _told(self._journal, self._config, stop, self._watch.elapsed)
        except sqlite3.Error as error:
            log.error("journal", error=type(error).__name__)
            result = unusable(self._config)
        finally:
            self._journal.close()
        return result

    def _carrier_of(self, archive: Node, limits: Limits) -> Exchange | Mover:
        destination = self._config.source.move_destination
        if destination is None:
            self._at_once = self._config.batch
            return Exchange(self._source, archive, self._journal, limits)
        self._at_once = at_once(self._config.batch, self._config.rate_limit.objects_per_minute)
        return Mover(self._source, archive, destination, self._journal, limits)

    def _open_studies(self) -> list[str]:
        """Return what is to be done; from another place each time where the first ones could hide what is right."""
        studies = self._journal.open_studies()
        if not self._config.source.moves or not studies:
            return studies
        start = int(sha256(self._config.run.encode()).hexdigest(), 16) % len(studies)
        return [*studies[start:], *studies[:start]]

    def _work(self) -> Stop:
        try:
            self._journal.count_interrupted()
            self._listing.studies()
            left: SimpleQueue[str] = SimpleQueue()
            for study in self._open_studies():
                left.put(study)
            # After a process was ended, one object after the other: none is blamed for the one beside it.
            workers = 1 if self._journal.interrupted else self._config.rate_limit.associations
            with ThreadPoolExecutor(workers, thread_name_prefix="import") as pool:
                for future in [pool.submit(self._worker, left) for _ in range(workers)]:
                    future.result()
        except Halted as halted:
            self._watch.halt(halted.stop)
        held = self._arrivals.left()
        if self._journal.counts().imported:  # the way was right once
            self._journal.tried(held)
        if (stop := self._watch.stop) is not None:
            return stop
        if not self._journal.open_studies():
            return Stop.DONE
        if self._broken:
            return Stop.SOURCE_UNREACHABLE
        if self._left_out:
            return Stop.SOURCE_QUERY_FAILED
        return astray_by(held) if held else Stop.INCOMPLETE

    def _worker(self, left: "SimpleQueue[str]") -> None:
        """Bring studies over, one after the other, until none is left."""
        try:
            while self._watch.stop is None and (studies := _some(left)):
                self._list(studies)
                for study in studies:
                    self._bring(study)
        except Halted as halted:
            self._watch.halt(halted.stop)

    def _list(self, studies: list[str]) -> None:
        """Write down what studies consist of; one at which the source fails is left for the next slice."""
        new = [study for study in studies if not self._journal.is_listed(study)]
        if not new:
            return
        try:
            with self._source.querying() as query:
                for study in new:
                    self._watch.check()
                    try:
                        self._listing.study(query, study)
                    except QueryError:
                        self._left_out = True
        except BrokenError:
            self._broke()

    def _bring(self, study: str) -> None:
        for unit in units(self._journal.pending(study), self._at_once):
            self._watch.check()
            moved = self._journal.moved
            try:
                self._carrier.bring(unit)
            except BrokenError:
                self._broke(self._journal.moved > moved)

    def _broke(self, moved: bool = False) -> None:
        """Count a break of the source; one that gave nothing for the third time in a row is the source's end."""
        self._broken = True
        self._breaks = 0 if moved else self._breaks + 1
        if self._breaks >= _BREAKS:
            raise Halted(Stop.SOURCE_UNREACHABLE)


def _some(left: "SimpleQueue[str]") -> list[str]:
    """Take a few studies off the queue, as many as are listed over one association."""
    taken: list[str] = []
    with suppress(Empty):
        while len(taken) < _AT_ONCE:
            taken.append(left.get_nowait())
    return taken


def unusable(config: ImportConfig) -> SliceResult:
    """Return the result of a slice whose journal cannot be used; the counts of the one before stay."""
    return SliceResult(run=config.run, stop=Stop.JOURNAL_UNUSABLE, counts=ImportCounts(), listed=False)


def stopped(config: ImportConfig, stop: Stop) -> SliceResult:
    """Return the result of a slice that could not even begin, with the journal's counts."""
    journal = Journal(journal_path(config), config.attempts)
    try:
        return _told(journal, config, stop)
    finally:
        journal.close()


def _told(journal: Journal, config: ImportConfig, stop: Stop, seconds: float = 0) -> SliceResult:
    return SliceResult(
        run=config.run,
        stop=stop,
        counts=journal.counts(),
        listed=journal.fact("studies") is not None and journal.unlisted == 0,
        undated=journal.fact("undated") or "NotSelected",
        ranges_at_limit=journal.at_limit,
        codes=journal.codes(),
        moved=journal.moved,
        seconds=int(seconds),
    )
