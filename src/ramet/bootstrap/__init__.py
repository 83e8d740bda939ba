"""Bootstrap: from a command line to a running kernel in an interpreter that has nothing of ours.

The controller's side of it: ``first_stage`` makes the command lines, ``loader`` is what builds the kernel over there,
``packing`` makes the bytes that are sent, ``minify`` makes them few. It must not know of nodes, calls or connectors.
``python -m ramet.bootstrap`` shows what each module of the kernel weighs.
"""
