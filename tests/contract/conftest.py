import pytest

from tests.contract import cases


@pytest.fixture(params=cases.FACTORIES)
def name(request) -> str:
    return request.param


@pytest.fixture
def cell(name):
    return cases.make(name)
