"The mark that says which promises of the specification a test shows; `tests/promises.toml` lists them."

import pytest


def promise(*ids: str) -> pytest.MarkDecorator:
    "Marks a test as showing these promises, such as `@promise('A12', 'A13')`"
    return pytest.mark.promise(*ids)
