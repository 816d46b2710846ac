-- What PostgreSQL creates when it starts for the first time, beside the database of its user.
CREATE DATABASE dagster;
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_auth;
CREATE DATABASE lakehouse;
CREATE DATABASE optuna;
