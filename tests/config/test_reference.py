import re
from pathlib import Path

import pytest

from gateway.config import load, reference

ROOT = Path(__file__).parents[2]
HOWTO = "run: python -m gateway.config.reference"


def test_written_configuration_is_the_table() -> None:
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == reference.configuration(), HOWTO


def test_written_dotenv_is_the_table() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == reference.dotenv(), HOWTO


def test_dotenv_with_every_default_uncommented_means_the_defaults(tmp_path: Path) -> None:
    example = tmp_path / ".env"
    example.write_text(reference.dotenv(), encoding="utf-8")
    as_it_is = load({}, dotenv=example)
    example.write_text(re.sub(r"(?m)^# ([A-Z0-9_]+=)", r"\1", reference.dotenv()), encoding="utf-8")
    assert load({}, dotenv=example) == as_it_is
    assert as_it_is.warnings == ()


def test_reference_is_written_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    reference.main()
    assert (tmp_path / "docs/configuration.md").read_text(encoding="utf-8") == reference.configuration()
    assert (tmp_path / ".env.example").read_text(encoding="utf-8") == reference.dotenv()
