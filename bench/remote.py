"""Functions that the benchmarks run in nodes."""


def nothing(value: object = None) -> object:
    return value
