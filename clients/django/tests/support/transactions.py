"""Two transactions at once."""

import threading
from contextlib import contextmanager

from django.db import OperationalError, connection, connections, transaction

WAIT_SECONDS = 60


@contextmanager
def open_transaction(change):
    """Another connection does `change` and holds its transaction open until the block ends; then it commits.

    Gives a list with what `change` answered. What it raised is raised at the end.
    """
    answers, errors = [], []
    has_run, may_commit = threading.Event(), threading.Event()

    def run():
        try:
            with transaction.atomic():
                _wait_little_for_locks()
                answers.append(change())
                has_run.set()
                may_commit.wait(WAIT_SECONDS)
        except Exception as error:  # noqa: BLE001 - raised in the test
            errors.append(error)
        finally:
            has_run.set()
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert has_run.wait(WAIT_SECONDS), "the other transaction never came to its end"
        yield answers
    finally:
        may_commit.set()
        thread.join()
    if errors:
        raise errors[0]


def tried(change):
    """What `change` answers, committed; None if it had to wait for the other transaction: then it is undone."""
    try:
        with transaction.atomic():
            _wait_little_for_locks()
            return str(change())
    except OperationalError as error:
        if "lock timeout" not in str(error):
            raise
        return None


def _wait_little_for_locks():
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '100ms'")
