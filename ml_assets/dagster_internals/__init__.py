"""What the project uses of Dagster's private or unsettled APIs, a module a purpose.

Each module says which tests hold it: they fail where a version of Dagster has it otherwise.
"""
