"""Household electricity, forecast hour by hour with LightGBM, retrained daily."""
