"""A house without processes and a client in front of it, for tests of routes; who needs another one makes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from db.database import Database
from monk.api import create_app
from monk.services import Services
from tests.small_house import small_house


@pytest.fixture
def services(database: Database) -> Services:
    return small_house(database)


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services), base_url="http://127.0.0.1") as client:
        yield client
