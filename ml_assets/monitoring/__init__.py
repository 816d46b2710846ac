"""Alerts about all groups. It imports none of them, so it is there when one of them is not."""
