"""The same dashboard, fetched in eight ways: each file is one view."""
