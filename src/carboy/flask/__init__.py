"""What carboy does to Flask, and what it knows of it.

Flask stays as it is: two of its methods are replaced while a server runs (``patch``), and
for requests that are served on the loop's thread its own methods are called one by one
(``pipeline``), under guards that compare with Flask as it was installed (``pristine``).
"""
