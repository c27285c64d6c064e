"""The same dashboard, fetched in five ways: each file is one view."""
