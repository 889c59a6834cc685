"The mark that names the promises a test shows; `tests/promises.toml` lists them with their texts."

import pytest


def promise(*ids: str) -> pytest.MarkDecorator:
    "Marks a test as showing these promises, such as `@promise('sweeps-4')`"
    return pytest.mark.promise(*ids)
