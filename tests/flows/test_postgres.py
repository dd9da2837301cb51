"""The PostgreSQL server of the tests stands a kill -9, and keeps what was committed."""

import signal


def test_what_is_committed_outlives_a_kill(postgres):
    postgres.ask("create table one (n int)")
    postgres.ask("insert into one values (7)")

    postgres.end(signal.SIGKILL)
    postgres.begin()

    assert postgres.ask("select n from one") == ["7"]
