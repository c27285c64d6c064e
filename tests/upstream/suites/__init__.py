"""Runs the test suites of neighbouring projects and compares their results."""
