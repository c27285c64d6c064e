"""``python -m carboy`` is the ``carboy`` command."""

from carboy.cli import main

main(prog_name="carboy")
