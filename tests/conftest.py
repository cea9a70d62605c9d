"""What holds for every tier."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logging_of_its_own() -> Iterator[None]:
    """Forget how a test had programs log: to a stream that pytest closes with the test."""
    yield
    structlog.reset_defaults()
