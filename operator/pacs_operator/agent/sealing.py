"""Hands the storage plugin what is to be done with images that lie on the volume already.

The work is done in Orthanc's own process (``images/archive/storage/worker.h``): only there can the removal of an
object wait until its new file has its names.
"""

import re
from pathlib import Path

from pydantic import ValidationError

from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import AgentError
from pacs_operator.agent.files import PRIVATE, read_if_there, write_atomic
from pacs_operator.domain.agentconfig import SEALING_FILE, SealingOrders

LOOK_AGAIN_SECONDS = 5.0
_LOOKS_PER_SEARCH = 120  # for images in clear, which nobody should have put there
ORDERS, CLEAR, SEARCH = "storage/orders", "storage/clear", "storage/search"
_PAIR = re.compile(r"[0-9a-f]{2}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class SealingFeed:
    """Follows ``sealing.json``; without it nothing is ordered, and the plugin reads nothing in clear.

    Parameters
    ----------
    context
        Folders, clock, and the list of what is wrong.
    """

    def __init__(self, context: Context) -> None:
        self._clock, self._problems = context.clock, context.problems
        surroundings = context.surroundings
        self._file = surroundings.peers / SEALING_FILE
        self._images = surroundings.images
        self._orders = surroundings.ring.with_name(f"{surroundings.ring.name}.orders")
        self._looks = 0

    async def run(self) -> None:
        """Follow the file, for ever."""
        while True:
            self.follow()
            await self._clock.sleep(LOOK_AGAIN_SECONDS)

    def follow(self) -> None:
        """Hand over what is ordered now; what cannot be read orders nothing new."""
        try:
            wanted = self._wanted()
            self._hand_over(wanted)
        except (OSError, ValidationError) as error:
            self._problems.report(ORDERS, OrdersError(error))
            return
        self._problems.clear(ORDERS)
        if self._looks % _LOOKS_PER_SEARCH == 0:
            self._search(allowed=wanted is not None and wanted.clear)
        self._looks += 1

    def _wanted(self) -> SealingOrders | None:
        raw = read_if_there(self._file)
        return None if raw is None else SealingOrders.model_validate_json(raw)

    def _hand_over(self, wanted: SealingOrders | None) -> None:
        if wanted is None:
            self._orders.unlink(missing_ok=True)
            return
        lines = ["pacs-orders 1", f"rate {wanted.mi_per_second * 2**20}"]
        lines += [f"clear {self._images}"] if wanted.clear else []
        lines += [f"reseal {wanted.reseal}"] if wanted.reseal else []
        content = "\n".join([*lines, "end", ""]).encode("ascii")
        if read_if_there(self._orders) != content:
            write_atomic(self._orders, content, PRIVATE)

    def _search(self, *, allowed: bool) -> None:
        try:
            found = not allowed and images_in_clear(self._images)
        except OSError as error:  # a sick disk; what was found before stands
            self._problems.report(SEARCH, VolumeUnreadableError(error))
            return
        self._problems.clear(SEARCH)
        if found:
            self._problems.report(CLEAR, ClearImagesFoundError())
        else:
            self._problems.clear(CLEAR)


def images_in_clear(folder: Path) -> bool:
    """Tell whether a file lies where Orthanc without encryption would store one, or set one aside."""
    quarantine = folder / "quarantine"
    if quarantine.is_dir() and any(_UUID.fullmatch(path.name) for path in quarantine.iterdir()):
        return True
    outer = (one for one in folder.iterdir() if _PAIR.fullmatch(one.name) and one.is_dir())
    return any(_UUID.fullmatch(path.name) for one in outer for path in one.glob("*/*"))


def clear_ordered(peers: Path) -> bool:
    """Tell whether images that were stored in clear are still being encrypted; in doubt not."""
    try:
        return SealingOrders.model_validate_json((peers / SEALING_FILE).read_bytes()).clear
    except (OSError, ValidationError):
        return False


class OrdersError(AgentError):
    """The orders could not be read or handed over; those before stay in force."""

    reason = "SealingOrdersInvalid"

    def __init__(self, error: OSError | ValidationError) -> None:
        super().__init__(
            f"{SEALING_FILE}: cannot be followed ({type(error).__name__})",
            action="the operator writes this file: remove hand edits of the ConfigMap peers",
        )


class VolumeUnreadableError(AgentError):
    """Whether something lies in clear could not be looked for."""

    reason = "ImagesVolumeUnreadable"

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"the images' volume could not be searched for files in clear (errno {error.errno})",
            action="look at the volume and its storage; the agent looks again",
        )


class ClearImagesFoundError(AgentError):
    """Something looks like an image in clear on a volume whose images are all encrypted."""

    reason = "ClearImagesFound"

    def __init__(self) -> None:
        super().__init__(
            "files lie on the images' volume as if they had been stored in clear; they are not served",
            action="find out who put them there, and move them away",
        )
