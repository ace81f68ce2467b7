"""Small values that processes share: in SQLite on one host, in Redis over all hosts."""
