"""The SBOM that goes with the wheel (.ci/wheel.py). Building and testing the wheel is what ``nox -s wheel`` does."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def wheel() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wheel", Path(__file__).parent.parent / ".ci/wheel.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exported(serial: str) -> dict[str, Any]:
    """As uv writes it, with what differs from run to run and from index to index."""
    return {
        "serialNumber": serial,
        "metadata": {"timestamp": serial, "component": {"name": "api-gateway"}},
        "components": [{"name": "trio", "version": "0.35.0", "externalReferences": [{"url": serial}]}],
    }


def test_same_bytes_have_the_same_sbom_whoever_makes_it(wheel: ModuleType) -> None:
    first, second = (wheel.described(exported(x), "api_gateway-1.2.3-py3-none-any.whl", "ab", 86_400) for x in "xy")
    assert first == second
    assert first["metadata"] == {
        "timestamp": "1970-01-02T00:00:00+00:00",
        "component": {
            "name": "api-gateway",
            "version": "1.2.3",
            "hashes": [{"alg": "SHA-256", "content": "ab"}],
        },
    }
    assert first["components"] == [{"name": "trio", "version": "0.35.0"}]


def test_other_bytes_have_another_serial_number(wheel: ModuleType) -> None:
    numbers = {wheel.described(exported("x"), "api_gateway-1-py3.whl", digest, 0)["serialNumber"] for digest in "ab"}
    assert len(numbers) == 2


def test_time_of_the_build_is_taken_from_the_environment(wheel: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "42")
    assert wheel.commit_time() == 42
