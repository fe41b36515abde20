"""The catalogue: nights, runs, verdicts, productions, products and their lineage, in PostgreSQL."""
