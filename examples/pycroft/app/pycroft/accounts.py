"""Accounts in a database."""

SCHEMA = "CREATE TABLE account (id serial PRIMARY KEY, login text NOT NULL UNIQUE)"


def add(connection, login):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO account (login) VALUES (%s) RETURNING id", (login,))
        return cursor.fetchone()[0]
