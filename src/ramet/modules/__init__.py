"""The module server: what a function needs imported over there, found, packed, and allowed or refused.

It runs in the controller only and must not know of links or nodes but by their ids. ``server.ModuleServer`` is the way
in; each other module is one step of its work::

    scan      which imports a code object holds
    find      where a module is and what it is, without importing it
    closure   what a module needs, transitively
    pack      a module as a record that a node can load
    policy    who may have what, and why not
    answers   package data and metadata of distributions for nodes that ask: ``data`` and ``metadata`` look them up
"""
