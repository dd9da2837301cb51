"""Traces of videos that were taken down in a database on a PostgreSQL server, and their removal."""

from typing import Any, NamedTuple

from schemas.errors import OperationalError
from tasks.versions.traces import NAME, Named

KINDS = ("text", "character varying", "json", "jsonb")
COLUMNS = """
SELECT c.table_schema, c.table_name, c.column_name, c.udt_name FROM information_schema.columns c
JOIN information_schema.tables t USING (table_schema, table_name)
WHERE t.table_type = 'BASE TABLE' AND c.table_schema NOT IN ('pg_catalog', 'information_schema')
AND c.data_type = ANY(%s)
"""
ANSWER_S = 10


def clean_server(address: str, named: Named) -> bool:
    """Removes the names from all texts of a database and from its freed space; returns whether there were any.

    Others may use it meanwhile. Its own log and archives are up to its keeper. Raises OperationalError if the server
    does not answer.
    """
    import psycopg

    try:
        with psycopg.connect(address, autocommit=True, connect_timeout=ANSWER_S) as connection:
            return any([_cleaned(connection, field, named) for field in _fields(connection)])
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise OperationalError(
            f"{address}: {said}: it may still name what was taken down; repair the server, and repeat the take-down"
        ) from None


class _Field(NamedTuple):
    schema: str
    table: str
    column: str
    kind: str


def _fields(connection: Any) -> list[_Field]:
    return [_Field(*row) for row in connection.execute(COLUMNS, [list(KINDS)]).fetchall()]


def _cleaned(connection: Any, field: _Field, named: Named) -> bool:
    from psycopg import sql

    names = {
        "table": sql.Identifier(field.schema, field.table),
        "column": sql.Identifier(field.column),
        "kind": sql.Identifier(field.kind),
    }
    update = sql.SQL(
        "UPDATE {table} SET {column} = regexp_replace({column}::text, %s, %s, 'g')::{kind} WHERE {column}::text ~ %s"
    ).format(**names)
    done = connection.execute(update, [named.pattern, NAME, named.pattern])
    if done.rowcount:
        connection.execute(sql.SQL("VACUUM FULL {table}").format(**names))
    return bool(done.rowcount)
