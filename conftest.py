"""Test-wide setup: pytester drives pytest itself in tests/e2e."""

pytest_plugins = ["pytester"]
