"""Needs a database: PYCROFT_DB says where."""

import os
import unittest

import psycopg2

from pycroft import accounts


class Accounts(unittest.TestCase):
    def setUp(self):
        self.connection = psycopg2.connect(os.environ["PYCROFT_DB"])
        self.addCleanup(self.connection.close)
        with self.connection.cursor() as cursor:
            cursor.execute(accounts.SCHEMA)

    def test_ids_count_up(self):
        self.assertEqual(accounts.add(self.connection, "one"), 1)
        self.assertEqual(accounts.add(self.connection, "two"), 2)

    def test_logins_are_unique(self):
        accounts.add(self.connection, "one")
        with self.assertRaises(psycopg2.errors.UniqueViolation):
            accounts.add(self.connection, "one")


if __name__ == "__main__":
    unittest.main()
