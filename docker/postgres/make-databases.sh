#!/bin/bash
# Run by the postgres image at its first start: a role and a database for Airflow and for the catalogue.
set -euo pipefail
secret() { sed -n "s/^$1=//p" /run/secrets/secrets.env; }
for name in airflow lstops; do
    # passwords by standard input: arguments can be read by everybody on the machine
    psql --set ON_ERROR_STOP=1 --username postgres --no-psqlrc <<EOF
CREATE ROLE $name LOGIN PASSWORD '$(secret "POSTGRES_PASSWORD_${name^^}")';
CREATE DATABASE $name OWNER $name;
EOF
done
