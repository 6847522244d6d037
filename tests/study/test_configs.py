"""The profiles in configs/ are valid, and say the truth about defaults."""

from pathlib import Path

import pytest

from landscaper_hpc import Site

PROFILES = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_profiles_are_valid(profile: Path) -> None:
    Site.load(profile)


def test_the_laptop_profile_is_the_default() -> None:
    (laptop,) = (p for p in PROFILES if p.name == "laptop.yaml")
    assert Site.load(laptop) == Site()
