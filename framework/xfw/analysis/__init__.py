"""Statistics, tables and figures from sealed runs; every output is byte-for-byte reproducible."""
