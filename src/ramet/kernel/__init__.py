"""The kernel: what every node of a tree runs, and the controller too.

It must not know of the layers above it. It runs on CPython 2.7 and 3.6 to the newest, and PyPy, with nothing but what
Debian's ``python3-minimal`` holds. See docs/how-ramet-works.md.
"""
