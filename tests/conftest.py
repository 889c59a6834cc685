"""Fixtures that several test files use"""

import os
import secrets

import pytest
import sqlalchemy as sa
from hypothesis import settings

from vote_experiments.store.database import Store
from vote_experiments.reports.doctor import browser

# A busy machine is no failure, and a check of one commit gives the same answer twice. `pytest --hypothesis-profile=search`
# looks for what no one has seen yet; what it finds becomes an `@example`.
settings.register_profile("house", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=500)
settings.load_profile("house")

LONG_FILES = (
    "widgets_page",
    "cli_main",
    "server_api",
    "github_workflow",
    "docs",
    "docs_code",
    "experiments_batch",
    "experiments_experiment",
    "reports_report",
    "wheel",
    "experiments_extract",
    "cli_main_schema",
)


def pytest_collection_modifyitems(items):
    "Files that take long begin first, so that no worker is left alone with one at the end"
    rank = {f"test_{name}": i for i, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


POSTGRES = "VOTE_EXPERIMENTS_TEST_POSTGRES"  # the URL of a server on which schemas may be created


def postgres_url_with_schema(url: str, schema: str) -> str:
    return (
        sa.engine.make_url(url)
        .set(drivername="postgresql+psycopg")
        .update_query_dict({"options": f"-csearch_path={schema}"})
        .render_as_string(hide_password=False)
    )


def _postgres_store():
    url = os.environ.get(POSTGRES)
    if not url:
        pytest.skip(f"set {POSTGRES} to the URL of a PostgreSQL server to run this on PostgreSQL too")
    schema = f"test_{secrets.token_hex(6)}"
    server = sa.create_engine(
        sa.engine.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with server.connect() as c:
        c.exec_driver_sql(f"CREATE SCHEMA {schema}")
    store = Store(postgres_url_with_schema(url, schema))
    yield store
    store.close()
    with server.connect() as c:
        c.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    server.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store(request, tmp_path_factory):
    "An empty store: an SQLite file and, where a server is at hand, a fresh PostgreSQL schema"
    if request.param == "postgresql":
        yield from _postgres_store()
    else:
        store = Store(tmp_path_factory.mktemp("store") / "store.db")
        yield store
        store.close()


@pytest.fixture
def postgres_store():
    "An empty PostgreSQL schema"
    yield from _postgres_store()


@pytest.fixture
def sqlite_store(tmp_path_factory):
    "An empty SQLite store, for what only SQLite has"
    store = Store(tmp_path_factory.mktemp("store") / "store.db")
    yield store
    store.close()


@pytest.fixture(scope="module")
def chromium():
    "Debian's Chromium, driven by playwright"
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if browser() is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=browser(), args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()
