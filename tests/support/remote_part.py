"""A module that ``remote`` imports: it must travel with it."""


def answer():
    return 42
