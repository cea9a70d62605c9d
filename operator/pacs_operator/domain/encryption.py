"""``spec.encryption``: how images lie at rest, and what is said of the index."""

from typing import Annotated, Literal

from pydantic import Field

from pacs_operator.domain.model import Model

DATA_KEY_AGE_DAYS = 90
REENCRYPT_MI_PER_SECOND = 50  # beside modalities that store


class IndexEncryption(Model):
    """What the platform team says of the index at rest: its word, which nothing here proves."""

    mode: Literal["StorageClass", "None"]
    reason: Annotated[str, Field(min_length=10, max_length=256)] | None = None


class Encryption(Model):
    """Encryption of the images at rest; ``None`` needs a reason, which is shown in the status."""

    mode: Literal["Transit", "None"]
    reason: Annotated[str, Field(min_length=10, max_length=256)] | None = None
    index: IndexEncryption | None = None
    data_key_max_age_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    data_key_max_chunks: Annotated[int, Field(ge=2**20, le=2**32)] | None = None
    reencrypt_mi_per_second: Annotated[int, Field(ge=1, le=10_000)] | None = None

    @property
    def on(self) -> bool:
        """Tell whether images are encrypted."""
        return self.mode == "Transit"

    @property
    def key_age_days(self) -> int:
        """Return after how many days new images get a new data key."""
        return self.data_key_max_age_days or DATA_KEY_AGE_DAYS

    @property
    def reencrypt_rate(self) -> int:
        """Return at how many MiB a second images that lie on the volume are encrypted."""
        return self.reencrypt_mi_per_second or REENCRYPT_MI_PER_SECOND
