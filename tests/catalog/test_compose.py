"""compose.yaml and Dockerfile say what the README promises; no Docker runs here, so only that is checked."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return found


def test_only_the_services_have_a_port_and_only_on_this_machine(
    services: dict[str, dict[str, object]],
) -> None:
    assert "ports" not in services["database"]
    assert services["api"]["ports"] == ["127.0.0.1:${EOCAT_PORT:-8765}:8765"]
    assert services["writes"]["ports"] == ["127.0.0.1:${EOCAT_WRITES_PORT:-8766}:8766"]


def test_nobody_takes_registrations_unasked(services: dict[str, dict[str, object]]) -> None:
    assert services["writes"]["profiles"] == ["writes"]
    assert "--writes" in services["writes"]["command"]  # type: ignore[operator]
    assert "command" not in services["api"]  # the image's own, which writes nothing
    assert '"eocat", "serve", "--host", "0.0.0.0"]' in (ROOT / "Dockerfile").read_text()


def test_there_is_no_default_password(services: dict[str, dict[str, object]]) -> None:
    for service in services.values():
        secrets = [value for value in service["environment"].values() if "PASSWORD" in value]  # type: ignore[attr-defined]
        assert secrets
        assert all("${POSTGRES_PASSWORD:?" in secret for secret in secrets)


def test_both_are_checked_for_health_and_the_api_waits(services: dict[str, dict[str, object]]) -> None:
    assert all("healthcheck" in service for service in services.values())
    assert services["api"]["depends_on"] == {"database": {"condition": "service_healthy"}}


def test_the_image_copies_what_the_wheel_is_built_from() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for name in ("pyproject.toml", "README.md", "LICENSE", "verify", "producer", "catalog", "migrations"):
        assert (ROOT / name).exists()
        assert name in dockerfile
