"""Toy: a point on a plane. No simulator; for tests, and as the smallest example of a suite."""
