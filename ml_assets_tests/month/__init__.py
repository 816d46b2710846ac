"""A month without anybody at the desk but in the mornings, with the clock compressed.

`python -m ml_assets_tests.month` simulates it and prints its ledger; a test runs a short form.
"""
