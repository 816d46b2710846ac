"""An instance, and the sensor at its desk, for all tests of this folder."""

from ml_assets_tests.monitoring.test_alerts import desk, instance, surroundings  # noqa: F401
