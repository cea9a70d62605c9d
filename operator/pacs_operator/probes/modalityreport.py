"""What the modality tells: a table for people, and a JSON document for programs."""

from collections import Counter

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pacs_operator.probes.client import SUCCESS
from pacs_operator.probes.compare import EXCEPTIONS
from pacs_operator.probes.modality import Journey, Outcome, Visit
from pacs_operator.probes.servicechecks import status_code

GOOD = status_code(SUCCESS)


def tables(visit: Visit, title: str) -> Group:
    """Return what was sent and what came back, what was not sent and why, and the sum."""
    if all(journey.outcome is Outcome.NOT_TRIED for journey in visit.journeys):  # an act that concerns no file
        return Group(Text(summary(visit)))
    sent = Table("file", "modality", "SOP class", "transfer syntax", "characters", "bytes", "back", title=title)
    for journey in visit.journeys:
        sample = journey.sample
        sop_class, syntax = sample.kind
        mark = " *" if sample.alterations else ""
        sent.add_row(
            Text(sample.name.removeprefix("test_files/") + mark, overflow="fold"),
            str(sample.dataset.get("Modality", "") or ""),
            sop_class.name.removesuffix(" Storage"),
            syntax.name.split("(")[0].strip(),
            characters(journey),
            str(sample.size),
            Text(verdict(journey), style="green" if journey.fine else "bold red"),
        )
    notes = sorted({note for journey in visit.journeys for note in journey.sample.alterations})
    last = (*(Text(f"* {note}") for note in notes), Text(summary(visit)))
    if not visit.skipped:
        return Group(sent, *last)
    kept = Table("not sent", "files", title="Bundled files that are not stored, and why")
    for reason, count in sorted(Counter(visit.skipped.values()).items()):
        kept.add_row(reason, str(count))
    return Group(sent, kept, *last)


def characters(journey: Journey) -> str:
    """Return the character set of an object as its header names it."""
    named = journey.sample.dataset.get("SpecificCharacterSet", "") or ""
    parts = [str(named)] if isinstance(named, str) else [str(part) for part in named]
    return ", ".join(part for part in parts if part)


def verdict(journey: Journey) -> str:
    """Return in words what became of one object."""
    if journey.outcome is Outcome.REFUSED:
        return f"refused: {journey.stored}"
    if journey.outcome is Outcome.DIFFERS:
        return "differs: " + "; ".join(journey.differences)
    return _WORDS[journey.outcome]


_WORDS = {
    Outcome.NOT_TRIED: "",
    Outcome.STORED: "stored",
    Outcome.NOT_FOUND: "not found",
    Outcome.FOUND: "found",
    Outcome.NOT_RETURNED: "did not come back",
    Outcome.EQUAL: "equal",
}


def summary(visit: Visit) -> str:
    """Return one line with the counts."""
    journeys = visit.journeys
    counts = {
        "stored": [journey.stored == GOOD for journey in journeys if journey.stored is not None],
        "found": [journey.found for journey in journeys if journey.found is not None],
        "equal": [journey.retrieved for journey in journeys if journey.retrieved is not None],
    }
    words = [f"{sum(tried)} of {len(tried)} {word}" for word, tried in counts.items() if tried]
    if visit.echo is not None:
        words.insert(0, f"echo {visit.echo}")
    if visit.reserved is not None:
        words.append(f"reserved prefix: {visit.reserved}, same object without it: {visit.reserved_twin}")
    if visit.moved is not None:
        words.append(f"C-MOVE to itself: {visit.moved}")
    if visit.moved_to_unlisted is not None:
        words.append(f"to a destination that is not listed: {visit.moved_to_unlisted}")
    if visit.stowed is not None:
        words.append(f"STOW-RS without the right to store: {visit.stowed}")
    return " · ".join(words)


def document(visit: Visit) -> dict[str, object]:
    """Return the JSON document."""
    return {
        "fine": visit.fine,
        "echo": visit.echo,
        "reserved": {"attack": visit.reserved, "twin": visit.reserved_twin},
        "stowed": visit.stowed,
        "moved": {"attack": visit.moved_to_unlisted, "twin": visit.moved, "strangers": visit.strangers},
        "objects": [_object(journey) for journey in visit.journeys],
        "notSent": dict(sorted(visit.skipped.items())),
        "mayDiffer": EXCEPTIONS,
    }


def _object(journey: Journey) -> dict[str, object]:
    sop_class, syntax = journey.sample.kind
    return {
        "file": journey.sample.name,
        "outcome": journey.outcome.value,
        "modality": str(journey.sample.dataset.get("Modality", "") or ""),
        # Of public sample files: lets a test look for it wherever no patient's name may be.
        "patientName": str(journey.sample.dataset.get("PatientName", "") or ""),
        "sopClass": str(sop_class),
        "transferSyntax": str(syntax),
        "characterSet": characters(journey),
        "bytes": journey.sample.size,
        "alterations": journey.sample.alterations,
        "stored": journey.stored,
        "found": journey.found,
        "equal": journey.retrieved,
        "differences": journey.differences,
    }
