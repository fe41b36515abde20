"""Services that lstops can bring along itself: PostgreSQL, the four Airflow processes, a SLURM laboratory.

They are what `make demo` and the tests run on. A site with its own database, Airflow and cluster needs none of them.
"""
