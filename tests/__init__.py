"""Tests without a simulator: `make test-fast`, or `python -m pytest tests --ignore=tests/libero`."""
